"""Reward-guided speculative decoding: a draft policy writes the steps, a PRM says when the target has to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from search.accept import threshold
from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class RewardGuided:
    """Each step is proposed by the policy in the role "draft"; what the PRM does not accept the policy writes instead.

    Reward-guided speculative decoding (Liao et al. 2025, arXiv:2501.19324, algorithm 1): draw a step from the draft
    model, score it with the PRM, accept it with probability w(r), else draw the step from the target model, whose step
    is taken as it is. So a step y has the distribution w(r(y)) p_draft(y) + (1 - E_draft[w(r)]) p_target(y). The
    paper's choice is the binary step function, accept iff r >= delta, with delta = 0.7 (`search.accept.threshold`); any
    other function to a probability makes it probabilistic (`clipped`, `logistic`). With the threshold, delta = 0 is the
    draft alone and delta above 1 the target alone, at the draft's cost on top.

    The paper decodes one chain. Here `n` chains run side by side, and the end of highest score is the answer; a refused
    draft never is, though it may hold one. Tokens of both policies are `generated`: what a draft's token is worth of a
    target's is not the ledger's to say. The notes `drafted` and `kept` of a step say that the draft proposed it and
    whether it stayed; a step that draft and target both wrote is one node, and stays.

    Attributes:
        n: chains, at least 1.
        delta: the threshold, or the centre of a probabilistic rule, at least 0.
        weight: w(r), the probability in [0, 1] that a step of score r is kept, from r and delta.
        depth: steps of a chain, at least 1; chains still open then are completed by the target at one go.
    """

    n: int = 1
    delta: float = 0.7
    weight: Callable[[float, float], float] = threshold
    depth: int = 40

    needs: ClassVar[tuple[str, ...]] = ("verifier", "roles.draft")

    def __post_init__(self) -> None:
        for name in ("n", "depth"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not self.delta >= 0:
            raise ConfigError("delta", self.delta, "give a number of at least 0")

    async def __call__(self, s: Session) -> Node | None:
        chains, ends = [s.root] * self.n, list[Node]()
        for _ in range(self.depth):
            drafts = [step for (step,) in await gather(s.expand(node, 1, by="draft") for node in chains)]
            await s.score(drafts)
            kept = [self.accepts(s, step) for step in drafts]
            refused = [node for node, keep in zip(chains, kept, strict=True) if not keep]
            written = iter([step for (step,) in await gather(s.expand(node, 1) for node in refused)])
            taken = [step if keep else next(written) for step, keep in zip(drafts, kept, strict=True)]
            for step in dict.fromkeys(drafts):
                s.note(step, drafted=1.0, kept=float(step in taken))
                if step not in taken:
                    s.prune(step)
            ends += [step for step in taken if step.complete]
            chains = [step for step in taken if not step.terminal]
            if not chains:
                break
        ends += await gather(s.complete(node) for node in chains)
        return await self.best(s, [end for end in ends if end.complete])

    async def best(self, s: Session, ends: list[Node]) -> Node | None:
        """The end of highest score; a single chain needs none."""
        if self.n > 1:
            await s.score(ends)
        return max(ends, key=lambda end: end.score, default=None)

    def nominate(self, s: Session) -> Node | None:
        """The best of the ends that were not refused; those not scored yet come last."""
        ends = [node for node in s.tree.answers() if not node.pruned]
        return max(ends, key=lambda end: end.score if end.scored else -1.0, default=None)

    def accepts(self, s: Session, step: Node) -> bool:
        """Whether a draft's step stays: by a coin of weight w(r). A step cut by a token limit is dead and does not."""
        p = self.weight(step.score, self.delta)
        return (step.complete or not step.terminal) and (p >= 1 or s.rng.random() < p)
