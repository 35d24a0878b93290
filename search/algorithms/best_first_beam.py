"""Best-first beam search: what beam search finds, with fewer calls (Meister, Vieira and Cotterell 2020)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from search.errors import ConfigError
from search.frontier import Frontier
from search.hypotheses import Choice, best, check_choice, chosen, logprob, needs, take, taken
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class BestFirstBeam:
    """Pops the likeliest hypothesis of any length, at most `beams` of each length; the first finished is the answer.

    Meister et al. 2020, "Best-First Beam Search" (arXiv:2007.03909; its abstract was read, the rest recalled), without
    a heuristic. Since a log-probability never rises from a prefix to its continuation, the first k pops of a length are
    the beam of that length, and the first finished hypothesis that stays in all later beams is the best of the last
    one: exactly the answer of vanilla beam search (`token_beam.TokenBeam` with `stop="vanilla"`), up to ties. Prefixes
    worse than it are never continued. The paper puts a finished hypothesis back into the queue, one token longer each
    time, until it is longer than the limit or k others of that length have come before it; here its places are counted
    in one go.

    It holds for scores that never rise along a path, and for these alone. A length-normalised score does rise, so there
    is no length penalty; the paper's bounds for it give up the equality, too.

    Attributes:
        beams: pops of each length at most, at least 1 (k).
        length: tokens of a hypothesis at most, the end of sequence included (n_max).
        answers: best members of the last beam that are found, 1 to `beams`; above 1 it is for a verifier's choice.
        parallel: hypotheses first in line whose successors are asked for together, at least 1. The answer does not
            depend on it; above 1 some calls may turn out to have been for nothing.
        choose: who picks among the `answers`, "model" by log-probability or "verifier".
    """

    beams: int = 4
    length: int = 256
    answers: int = 1
    parallel: int = 1
    choose: Choice = "model"

    def __post_init__(self) -> None:
        for name in ("beams", "length", "parallel"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not 1 <= self.answers <= self.beams:
            raise ConfigError("answers", self.answers, f"give a number from 1 to beams={self.beams}")
        check_choice(self.choose)

    @property
    def needs(self) -> tuple[str, ...]:
        return needs(self.choose)

    async def __call__(self, s: Session) -> Node | None:
        queue, pops, finished = Frontier(), Counter[int](), list[Node]()
        listed: dict[Node, list[Node]] = {}
        self.push(queue, s.root)
        while queue and len(finished) < self.answers:
            await self.look_ahead(s, queue, pops, listed)
            node = queue.pop()
            if pops[node.depth] >= self.beams:
                continue
            if node.complete:
                if self.stays(node, pops):
                    finished.append(node)
                    take(s, [node])
                continue
            pops[node.depth] += 1
            take(s, [node])
            for child in listed.pop(node, ()):
                self.push(queue, child)
        return await chosen(s, finished, self.choose)

    async def look_ahead(self, s: Session, queue: Frontier, pops: Counter[int], listed: dict[Node, list[Node]]) -> None:
        """Asks for the successors of the first in line, unless they are known, and of some that come next."""
        if not self.open(queue.peek(), pops) or queue.peek() in listed:
            return
        line = [queue.pop() for _ in range(min(self.parallel, len(queue)))]
        wanted = [node for node in line if self.open(node, pops) and node not in listed]
        listed.update(zip(wanted, await gather(s.branch(node, self.beams) for node in wanted), strict=True))
        for node in line:
            self.push(queue, node)

    def open(self, node: Node, pops: Counter[int]) -> bool:
        return not node.complete and node.depth < self.length and pops[node.depth] < self.beams

    def stays(self, node: Node, pops: Counter[int]) -> bool:
        """Gives a finished hypothesis its place in the beam of each later length; False where one is full."""
        for length in range(node.depth, self.length + 1):
            if pops[length] >= self.beams:
                return False
            pops[length] += 1
        return True

    def push(self, queue: Frontier, node: Node) -> None:
        queue.push(node, -logprob(node), node.depth, node.id)

    def nominate(self, s: Session) -> Node | None:
        """The best of the finished hypotheses when the budget ends."""
        return best(taken(s), self.choose)
