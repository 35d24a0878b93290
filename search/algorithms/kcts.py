"""Token-level tree search guided by a classifier of prefixes: KCTS (Choi et al. 2023, arXiv:2310.09044)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from search.errors import ConfigError
from search.hypotheses import claim
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class Kcts:
    """Before each token it emits, looks ahead by `simulations` of PUCT; a leaf's value is the verifier's score of it.

    Choi et al. 2023, "KCTS: Knowledge-Constrained Tree Search Decoding with Token-Level Hallucination Detection"
    (arXiv:2310.09044), whose classifier of prefixes is any verifier here. One simulation: from the last token emitted
    choose children by Q + c P sqrt(N) / (1 + n) down to a leaf; score it; list its likeliest tokens as children; back
    up the score as a running mean. Then the most visited child is emitted and its subtree kept. The search ends when
    that is the end of sequence.

    A leaf is scored whether it has ended or not, once: simulations that come back to it cost nothing. The first node
    is listed before the simulations begin, so the visits of its children add up to `simulations`. P is the softmax of
    the tokens listed, at `temperature`. Left out: the repetition penalty of the authors' code, which acts on logits
    that a list of tokens does not give, and the mixing of likelihood into the value (their alpha is 1).

    Attributes:
        simulations: per token emitted, at least 1.
        top: children of a node, at least 1.
        c: weight of the prior, at least 0.
        temperature: of the prior, above 0.
        length: tokens emitted at most, the end of sequence included.
        parallel: simulations at once, at least 1; above 1 each sees a visit of value 0 of those before it.
    """

    simulations: int = 50
    top: int = 10
    c: float = 3.0
    temperature: float = 1.0
    length: int = 256
    parallel: int = 1

    def __post_init__(self) -> None:
        for name in ("simulations", "top", "length", "parallel"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not self.c >= 0:
            raise ConfigError("c", self.c, "give a number of at least 0")
        if not self.temperature > 0:
            raise ConfigError("temperature", self.temperature, "give a number above 0")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("next_tokens", "verifier")

    async def __call__(self, s: Session) -> Node | None:
        last = s.root
        tree = {last: await s.branch(last, self.top)}  # the tokens listed after each node of the search
        while last.depth < self.length:
            for start in range(0, self.simulations, self.parallel):
                await self.simulate(s, last, tree, min(self.parallel, self.simulations - start))
            siblings = tree[last]
            last = max(siblings, key=lambda node: node.visits)  # of equals the likelier
            s.note(last, emitted=last.depth)
            if last.complete:
                return last
            for node in siblings:
                if node is not last:
                    s.prune(node)
        return None

    async def simulate(self, s: Session, last: Node, tree: dict[Node, list[Node]], count: int) -> None:
        """A wave of `count` simulations from the token emitted last."""
        paths: list[list[Node]] = []
        try:
            for _ in range(count):
                paths.append(self.select(last, tree))
            for path in paths:
                claim(s, path[-1])
            values = await s.score([path[-1] for path in paths])
            fresh = list(dict.fromkeys(path[-1] for path in paths if self.unlisted(path[-1], tree)))
            tree.update(zip(fresh, await gather(s.branch(leaf, self.top) for leaf in fresh), strict=True))
        finally:
            for path in paths:
                for node in path:
                    node.visits -= 1
        for path, value in zip(paths, values, strict=True):
            s.backup(path, value)

    def unlisted(self, leaf: Node, tree: dict[Node, list[Node]]) -> bool:
        return not leaf.terminal and leaf.depth < self.length and leaf not in tree

    def select(self, last: Node, tree: dict[Node, list[Node]]) -> list[Node]:
        """The path to a leaf by PUCT, each of its nodes visited once for the time being. Of equals the likelier."""
        path = [last]
        while children := tree.get(node := path[-1]):
            mass = math.fsum(math.exp(child.segment.logprobs[0] / self.temperature) for child in children)
            path.append(max(children, key=lambda child: self.promise(node, child, mass)))
        for node in path:
            node.visits += 1
        return path

    def promise(self, node: Node, child: Node, mass: float) -> float:
        prior = math.exp(child.segment.logprobs[0] / self.temperature) / mass
        return child.value + self.c * prior * math.sqrt(node.visits) / (1 + child.visits)

    def nominate(self, s: Session) -> Node | None:
        """When the budget ends: of the ends looked at, the one of the highest score; of equals the older."""
        return max((node for node in s.tree.answers() if node.scored), key=lambda node: node.score, default=None)
