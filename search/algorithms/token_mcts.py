"""Monte Carlo tree search over tokens for programs: PG-TD (Zhang et al. 2023) and Seed-CTS (Wang et al. 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search.errors import ConfigError
from search.hypotheses import claim
from search.rules import Arm, p_ucb
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class TokenMcts:
    """Grows a tree of tokens, completes a program from each new leaf, and backs up what the verifier says of it.

    Zhang et al. 2023, "Planning with Large Language Models for Code Generation" (PG-TD, arXiv:2303.05510), algorithm
    1, used at test time as in Seed-CTS (Wang et al. 2024, arXiv:2412.12544). One simulation: from the root choose
    children by P-UCB down to a leaf; list its `top` likeliest tokens as children; complete it greedily; run the tests
    (the verifier); back up. A leaf that an earlier completion runs through has that completion, and costs none: with
    greedy completions it would be the same one (the sequence cache of PG-TD). The search stops with the first program
    whose score reaches `enough`.

    Q is the largest reward seen below a node, as in PG-TD, since one program is looked for and not a good average;
    "mean" is Seed-CTS's other choice. A child without visits has Q = 0. PG-TD completes by beam search, here greedily.
    A completion cut by the token limit is no program and earns 0 without a test. Constants other than PG-TD's
    c_base = 10 and c = 4 are reconstructed.

    Attributes:
        simulations: at least 1; a call for the leaf's tokens and at most one completion each.
        top: children of a node, at least 1 (K).
        c_base, c: constants of beta in P-UCB (`rules.p_ucb`); c_base above 0, c at least 0.
        backup: "max" or "mean".
        enough: in [0, 1]; a score that ends the search.
        depth: nodes of this many tokens get no children.
        parallel: leaves in work at once, at least 1; above 1 each sees a visit of value 0 of those before it.
    """

    simulations: int = 100
    top: int = 3
    c_base: float = 10.0
    c: float = 4.0
    backup: Literal["max", "mean"] = "max"
    enough: float = 1.0
    depth: int = 256
    parallel: int = 1

    def __post_init__(self) -> None:
        for name in ("simulations", "top", "depth", "parallel"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not self.c_base > 0:
            raise ConfigError("c_base", self.c_base, "give a number above 0")
        if not self.c >= 0:
            raise ConfigError("c", self.c, "give a number of at least 0")
        if self.backup not in ("max", "mean"):
            raise ConfigError("backup", self.backup, 'give "max" or "mean"')
        if not 0 <= self.enough <= 1:
            raise ConfigError("enough", self.enough, "give a score in [0, 1]")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("next_tokens", "verifier")

    async def __call__(self, s: Session) -> Node | None:
        tree: dict[Node, list[Node]] = {}  # the tokens listed after each node of the search
        programs: dict[tuple[int, ...], Node] = {}  # completions by their tokens
        for start in range(0, self.simulations, self.parallel):
            paths: list[list[Node]] = []
            try:
                for _ in range(min(self.parallel, self.simulations - start)):
                    paths.append(self.select(s.root, tree))
                leaves = list(dict.fromkeys(path[-1] for path in paths))
                fresh = [leaf for leaf in leaves if not leaf.terminal and leaf.depth < self.depth and leaf not in tree]
                tree.update(zip(fresh, await gather(s.branch(leaf, self.top) for leaf in fresh), strict=True))
                ends = {leaf: end for leaf in leaves if (end := self.known(leaf, programs))}
                new = [leaf for leaf in leaves if leaf not in ends]
                completed = await gather(s.complete(leaf, temperature=0.0) for leaf in new)
                for leaf, end in zip(new, completed, strict=True):
                    ends[leaf] = programs.setdefault(end.prefix.tokens, end)
                for end in ends.values():
                    claim(s, end)
                await s.score([end for end in ends.values() if end.complete])
            finally:
                for path in paths:
                    for node in path:
                        node.visits -= 1
            for path in paths:
                end = ends[path[-1]]
                self.back_up(s, path, end.score if end.complete else 0.0)
            for end in ends.values():
                if end.complete and end.score >= self.enough:
                    return end
        return self.nominate(s)

    def select(self, root: Node, tree: dict[Node, list[Node]]) -> list[Node]:
        """The path to a leaf by P-UCB, each of its nodes visited once for the time being. Of equals the likelier."""
        path = [root]
        while children := tree.get(node := path[-1]):
            path.append(max(children, key=lambda child: self.promise(node, child)))
        for node in path:
            node.visits += 1
        return path

    def promise(self, node: Node, child: Node) -> float:
        q = child.value if self.backup == "mean" else child.notes.get("best", 0.0)
        prior = math.exp(child.segment.logprobs[0])
        return p_ucb(Arm(q, prior, child.visits, node.visits), self.c, self.c_base)

    def known(self, leaf: Node, programs: dict[tuple[int, ...], Node]) -> Node | None:
        """The program that `leaf` is, by the node that was judged for it, or the first one that runs through `leaf`."""
        tokens = leaf.prefix.tokens
        if leaf.terminal:
            return programs.setdefault(tokens, leaf)
        return next((end for program, end in programs.items() if program[: len(tokens)] == tokens), None)

    def back_up(self, s: Session, path: list[Node], reward: float) -> None:
        s.backup(path, reward)
        for node in path:
            if reward > node.notes.get("best", -1.0):
                s.note(node, best=reward)

    def nominate(self, s: Session) -> Node | None:
        """The program of the highest score so far; of equals the older."""
        return max((node for node in s.tree.answers() if node.scored), key=lambda node: node.score, default=None)
