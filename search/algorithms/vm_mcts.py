"""VM-MCTS of ReST-RL: tree search by first lines of full samples, under a value model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar

from search.backups import arms, dead, q
from search.errors import ConfigError
from search.rules import Arm, by_times, uct_offset
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class VMMCTS:
    """Expands a leaf by `samples` full completions; their first lines are its children, the best of them stay visible.

    ReST-RL, its decoding stage (arXiv:2508.19576, and its published code at test time): a sampled first line is
    judged by the value model and counts as one visit of that value, drawn again as one more; the leaf and all above it
    get the sum of its children's visits and values, so a node's value is the mean over all lines drawn below it. Only
    the `decision` best new children may be chosen later, by V + c * sqrt((1 + ln N_p) / (eps + N)). A path that comes
    to an end once more backs its value up with one visit. The answer is the best-scored full completion: all of them
    are scored and left to the selection.

    A full completion is here a first line (`Session.expand`) and what follows it (`Session.complete`, once per draw of
    that line). For a policy that writes from left to right this is the same distribution for the same tokens, ids
    stay those sampled, and the tree holds every answer where it belongs, below its first line. A line ends as the
    session's step does.

    Where we differ: of equal arms the older is taken, where the reference draws; lines cut by a token limit are
    dropped (a leaf left without lines is worth 0); paths end after `depth` lines.

    Attributes:
        iterations: leaves expanded or ends revisited, at least 1; 15 at test.
        samples: completions drawn after a leaf (num_sample), at least 1.
        decision: children of a leaf that stay visible (num_decision), at least 1.
        c: exploration constant, at least 0.
        rule, constants: score of an arm and its further constants; see `search.rules`.
        parallel: leaves in work at once, at least 1; each counts as a visit of value 0 until its values are known.
        depth: nodes with this many lines are not expanded.
    """

    iterations: int = 15
    samples: int = 5
    decision: int = 3
    c: float = 0.1
    rule: Callable[..., float] = uct_offset
    constants: Mapping[str, float] = field(default_factory=dict)
    parallel: int = 1
    depth: int = 40
    needs: ClassVar[tuple[str, ...]] = ("verifier",)

    def __post_init__(self) -> None:
        for name in ("iterations", "samples", "decision", "parallel", "depth"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not 0 <= self.c < math.inf:
            raise ConfigError("c", self.c, "give a number of at least 0")

    async def __call__(self, s: Session) -> Node | None:
        for start in range(0, self.iterations, self.parallel):
            flying = Counter[Node]()
            ends = [self.select(s.root, flying) for _ in range(min(self.parallel, self.iterations - start))]
            leaves = list(dict.fromkeys(end for end in ends if self.open(end)))
            before = Counter({child: child.times for leaf in leaves for child in leaf.children})  # whole samples
            drawn = await gather(s.expand(leaf, self.samples) for leaf in leaves)
            lines = [[line for line in children if not dead(line)] for children in drawn]
            await s.score(list(chain.from_iterable(lines)))
            for leaf, children in zip(leaves, lines, strict=True):
                s.note(leaf, drawn=self.samples)
                for line in children:
                    for _ in range(line.times - before[line]):
                        s.backup(line.path(), line.score)
                best = sorted(children, key=lambda line: -line.score)[: self.decision]
                for line, p in zip(best, by_times(best), strict=True):
                    s.note(line, prior=p)
            rest = [line for line in chain.from_iterable(lines) if not line.terminal]
            wholes = await gather(s.complete(line) for line in rest for _ in range(line.times))
            await s.score([whole for whole in wholes if whole.complete])
            for end in ends:
                if end not in leaves or dead(end):
                    s.backup(end.path(), 0.0 if dead(end) else q(end))
        return None

    def select(self, root: Node, flying: Counter[Node]) -> Node:
        """The leaf that `rule` leads to."""
        node = root
        while choice := arms(node):
            parent = node.visits + flying[node]
            flying[node] += 1

            def score(arm: Node, parent: int = parent) -> float:
                n = arm.visits + flying[arm]
                return self.rule(Arm(arm.total / n, arm.notes["prior"], n, parent), self.c, **self.constants)

            node = max(choice, key=score)
        flying[node] += 1
        return node

    def open(self, node: Node) -> bool:
        """Whether lines are to be drawn after `node`."""
        return not node.terminal and node.depth < self.depth and "drawn" not in node.notes
