"""One search over one problem: the verbs an algorithm speaks."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from search.budget import JUDGING, SAMPLING, Budget
from search.contract import checked_reply, checked_verdict, one_each
from search.errors import ConfigError, PolicyError, VerifierError
from search.events import (
    Added,
    Asked,
    Backed,
    Charged,
    Event,
    Finished,
    Noted,
    Pruned,
    Scored,
    Simulated,
    Sink,
    Started,
)
from search.order import Order
from search.ports import KeepsPrefixes, Policy, Renders, Verifier, Writes, ability
from search.seeds import seed_of
from search.tree import Node, Tree
from search.types import Cost, Prefix, Reply, Request, Sampling, Segment, Verdict
from search.waves import gather

__all__ = ["Session", "gather", "seed_of"]


class Session:
    """A tree, what grows it, what judges it, and what may be spent.

    Calls may overlap (see `gather`); their effects are committed in the order of the calls, so that ids, charges and
    events do not depend on which reply comes first.

    Attributes:
        tree, root: what has grown so far.
        rng: for choices that are not draws from the policy; seeded by `seed` and the prompt.
        budget: checked before each call, charged after it.
        step: how a step is drawn; has a boundary.
        whole: how a completion is drawn; has none.
        seed: in [0, 2**63). Two sessions with the same seed and prompt see the same draws.
        roles: other policies an algorithm may ask, by role ("draft", "judge" ...).

    Verbs that draw take `by`, the role of the policy that draws, and fields of `Sampling` that replace those of `step`
    or `whole`: `s.expand(node, 1, temperature=0.0)`. Their draws of one node are numbered together.
    """

    def __init__(
        self,
        prompt: Segment,
        policy: Policy,
        verifier: Verifier | None,
        budget: Budget | None = None,
        *,
        question: str = "",
        step: Sampling,
        whole: Sampling,
        roles: Mapping[str, Policy] | None = None,
        seed: int = 0,
        sinks: Sequence[Sink] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        if step.until is None:
            raise ConfigError("step.until", None, "give the boundary where a step ends, see search.steps")
        if whole.until is not None:
            raise ConfigError("whole.until", whole.until, "a completion has no boundary; give null")
        if not 0 <= seed < 2**63:
            raise ConfigError("seed", seed, "give a whole number from 0 to 2**63 - 1")
        self.tree = Tree(prompt, question)
        self.policy, self.verifier, self.budget = policy, verifier, budget or Budget()
        self.step, self.whole, self.seed = step, whole, seed
        self.rng = random.Random(f"{seed} {self.root.prefix.digest.hex()}")
        self.roles = roles or {}
        self._sinks, self._clock, self._began, self._seq = sinks, clock, clock(), 0
        self._answers: Counter[tuple[str, bytes]] = Counter()  # draws outside the tree, by role and prompt
        self._judging: set[Node] = set()
        self._in_order = Order()  # charges, nodes and events follow the order of calls
        self._turn = asyncio.Lock()  # draws go out one after the other, in the order of the calls
        self._in_flight = 0  # tokens that draws which have gone out may still cost
        self._landed = asyncio.Event()
        self._keeper: KeepsPrefixes | None = ability(policy, KeepsPrefixes)
        self._emit(Started, prompt=prompt, question=question, seed=seed)

    @property
    def root(self) -> Node:
        return self.tree.root

    @property
    def seconds(self) -> float:
        """Since the session began."""
        return self._clock() - self._began

    async def expand(self, node: Node, k: int, *, by: str = "policy", **how: Any) -> list[Node]:
        """Draws `k` next steps after `node` (k >= 1) and adds them; the distinct children drawn, first seen first."""
        return self._grow(node, await self._draw(node, k, False, by, how), whole=False)

    async def complete(self, node: Node, *, by: str = "policy", **how: Any) -> Node:
        """Draws one completion of `node` to the end of sequence and adds it as one child."""
        (leaf,) = self._grow(node, await self._draw(node, 1, True, by, how), whole=True)
        return leaf

    async def simulate(self, node: Node, n: int = 1, *, by: str = "policy", **how: Any) -> tuple[Segment, ...]:
        """Draws `n` completions of `node` to the end of sequence (n >= 1); the tree does not grow."""
        segments = await self._draw(node, n, True, by, how)
        self._emit(Simulated, node=node.id, segments=segments)
        return segments

    async def branch(self, node: Node, k: int) -> list[Node]:
        """Adds the `k` likeliest next tokens after `node` (k >= 1), a child each, likeliest first; fewer if there are.

        `child.segment.logprobs[0]` is the token's log-probability at temperature 1. Nothing is drawn: asked again it
        gives the same nodes. The policy has to list tokens (`search.ports.Enumerates`).
        """
        _open(node, k)
        async with self._turn:
            await self._granted(1, 1)
        request = Request(node.prefix, Sampling(max_tokens=1), (), top=k)
        segments = (await self._reply(node, self.policy, request, 1)).segments
        return [self.put(node, segment) for segment in segments]

    def extend(self, node: Node, text: str, *, by: Literal["environment", "user"] = "environment") -> Node:
        """Adds a child that the policy did not write: a result, or the user's next turn, also after an answer.

        The policy has to take text (`search.ports.Writes`); raises ConfigError if it does not.
        """
        if node.terminal and not (by == "user" and node.complete):
            raise ValueError(f"nothing can follow {node}: its path has ended")
        if (writer := ability(self.policy, Writes)) is None:
            raise ConfigError("policy", self.policy, "it takes no text written by others (search.ports.Writes)")
        segment = writer.turn(text) if by == "user" else writer.write(text)
        return self.put(node, replace(segment, by=by))

    async def ask(
        self, messages: Sequence[Mapping[str, str]], n: int = 1, *, by: str = "policy", **how: Any
    ) -> tuple[Segment, ...]:
        """`n` answers (n >= 1) of a policy to a chat outside the tree (a vote, a critique), charged to the root."""
        policy = self._policy(by)
        if (renders := ability(policy, Renders)) is None:
            raise ConfigError(by, policy, "it has no chat template (search.ports.Renders)")
        prefix, sampling = Prefix(renders.prompt(messages)), replace(self.whole, **how)
        async with self._turn:
            tokens = await self._granted(n, sampling.max_tokens)
            first = self._answers[by, prefix.digest]
            self._answers[by, prefix.digest] += n
        seeds = tuple(seed_of(self.seed, prefix, sampling, first + i) for i in range(n))
        request = Request(prefix, replace(sampling, max_tokens=tokens), seeds)
        segments = (await self._reply(self.root, policy, request, n * tokens)).segments
        self._emit(Asked, by=by, prompt=prefix.prompt, answers=segments)
        return segments

    async def score(self, nodes: Sequence[Node]) -> list[float]:
        """Scores of `nodes`, in order; the verifier is asked once about each node, open or terminal.

        Raises VerifierError for a verdict that breaks the port's contract, ConfigError without a verifier.
        """
        todo = [node for node in dict.fromkeys(nodes) if not node.scored and node not in self._judging]
        if any(not node.scored for node in nodes):
            for node, verdict in zip(todo, await self._judge(todo), strict=True):
                self._charge(node, verdict.cost)
                node.score, node.step_scores = verdict.value, verdict.steps
                self._emit(Scored, node=node.id, value=verdict.value, steps=verdict.steps)
        if lost := [node.id for node in nodes if not node.scored]:
            raise VerifierError(f"nodes {lost} were being judged by another call, which failed")
        return [node.score for node in nodes]

    def backup(self, path: Iterable[Node], value: float) -> None:
        """Adds a visit and `value` (finite) to each node of `path`."""
        path, value = list(path), _finite("value", value)
        for node in path:
            node.visits += 1
            node.total += value
        self._emit(Backed, path=tuple(node.id for node in path), value=value)

    def prune(self, node: Node) -> None:
        """Marks `node` as given up and lets the policy forget it; what it holds stays in the tree."""
        node.pruned = True
        self._emit(Pruned, node=node.id)
        if self._keeper:
            self._keeper.release(node.prefix)

    def note(self, node: Node, **numbers: float) -> None:
        """Writes finite numbers worth showing to `node.notes`."""
        node.notes.update({name: _finite(name, x) for name, x in numbers.items()})
        self._emit(Noted, node=node.id, numbers=numbers)

    def finish(self, stopped: str, answer: Node | None) -> None:
        """Emits the last event; for `search.run`, not for algorithms."""
        self._emit(Finished, stopped=stopped, answer=answer.id if answer else None, spent=self.budget.spent)

    async def _draw(self, node: Node, k: int, whole: bool, by: str, how: Mapping[str, Any]) -> tuple[Segment, ...]:
        _open(node, k)
        policy, sampling = self._policy(by), replace(self.whole if whole else self.step, **how)
        async with self._turn:
            tokens = await self._granted(k, sampling.max_tokens)
            first = node.reserve(k, whole)  # before the reply: numbers follow the order of calls
        seeds = tuple(seed_of(self.seed, node.prefix, sampling, first + i) for i in range(k))
        request = Request(node.prefix, replace(sampling, max_tokens=tokens), seeds)
        return (await self._reply(node, policy, request, k * tokens)).segments

    def _policy(self, by: str) -> Policy:
        if by == "policy":
            return self.policy
        if by not in self.roles:
            raise ConfigError(f"roles.{by}", None, "this search asks a policy of its own in this role: give one")
        return self.roles[by]

    async def _reply(self, node: Node, policy: Policy, request: Request, tokens: int) -> Reply:
        """What `policy` answers, charged to `node`; `tokens` is the most it may generate."""
        self._in_flight += tokens
        try:
            (reply,) = one_each(1, await self._in_order(policy.sample([request])), PolicyError)
            self._charge(node, checked_reply(request, reply, policy).cost)
        finally:
            self._in_flight -= tokens
            self._landed.set()
        return reply

    async def _granted(self, k: int, tokens: int) -> int:
        """Tokens that each of `k` draws may take, `tokens` if the budget allows it; raises BudgetExhausted.

        Under a strict budget a draw that could cross the limit together with those in flight waits for them.
        """
        while self._in_flight and self.budget.allowance() < self._in_flight + k * tokens:
            self._landed.clear()
            await self._landed.wait()
        self.budget.check(SAMPLING, k)
        return int(min(self.budget.allowance(), k * tokens)) // k

    def _grow(self, node: Node, segments: Sequence[Segment], whole: bool) -> list[Node]:
        before = len(self.tree)
        draws = Counter(self.tree.add(node, segment) for segment in segments)
        for child, count in draws.items():
            new = child.segment if child.id >= before else None
            self._emit(Added, node=child.id, parent=node.id, draws=count, whole=whole, segment=new)
        return list(draws)

    def put(self, node: Node, segment: Segment, draws: int = 0) -> Node:
        """Adds a child free of cost, counted as `draws` draws; a listed end of sequence put again is thereby taken."""
        before = len(self.tree)
        child = self.tree.add(node, segment, draws)
        node.reserve(draws, whole=False)
        if (new := child.id >= before) or draws:
            added = segment if new else None
            self._emit(Added, node=child.id, parent=node.id, draws=draws, whole=False, segment=added)
        return child

    async def _judge(self, todo: Sequence[Node]) -> list[Verdict]:
        """Verdicts of `todo`; even for none it waits for the calls before it, which may be judging what we need."""
        if self.verifier is None:
            raise ConfigError("verifier", None, "this search or selection needs scores: give a verifier")
        if not todo:
            await self._in_order(asyncio.sleep(0))
            return []
        self.budget.check(JUDGING)
        self._judging.update(todo)
        try:
            verdicts = await self._in_order(self.verifier.score([node.prefix for node in todo]))
        finally:
            self._judging.difference_update(todo)
        one_each(len(todo), verdicts, VerifierError)
        return [checked_verdict(node.prefix, verdict) for node, verdict in zip(todo, verdicts, strict=True)]

    def _charge(self, node: Node, cost: Cost) -> None:
        """The one place where cost is counted: in the budget, in the node and in the events."""
        self.budget.charge(cost)
        node.cost += cost
        self._emit(Charged, node=node.id, cost=cost)

    def _emit(self, event: Callable[..., Event], **fields: Any) -> None:
        record = event(seq=self._seq, seconds=self.seconds, **fields)
        self._seq += 1
        for sink in self._sinks:
            sink(record)


def _open(node: Node, k: int) -> None:
    if k < 1:
        raise ValueError(f"{k} asked for; at least 1 is needed")
    if node.terminal:
        raise ValueError(f"nothing can follow {node}: its path has ended")


def _finite(name: str, x: float) -> float:
    if not math.isfinite(x):
        raise ValueError(f"{name} is {x}; only finite numbers are recorded")
    return x
