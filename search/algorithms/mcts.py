"""Monte Carlo tree search over steps: select, expand, evaluate, back up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from search.backups import Backup, Returns, arms, dead, proven, q, same
from search.errors import ConfigError
from search.evaluate import Evaluate, Score
from search.rules import Arm, by_logprob, puct
from search.session import Session, gather
from search.tree import Node

Rule = Callable[..., float]  # (arm, c, **constants)


@dataclass(frozen=True)
class MCTS:
    """Goes down by `rule` to a leaf, draws `width` steps there, evaluates one of them, and backs its value up.

    The search of TS-LLM (Feng et al. 2023, arXiv:2309.17179, appendix on "AlphaZero-like" decoding and its code): an
    action is a drawn step, drawn twice it is one; the prior P is exp(mean log-probability), made to add up to 1 over
    the distinct steps; an unvisited step counts with its score where it has one, else with its parent's Q; steps cut
    by a token limit are dropped, and a node left without steps is a dead end of value 0 (the reference draws again up
    to three times). P is taken of the distribution sampled from, temperature included.

    Modes: "search" makes `simulations` playouts from the root and leaves the choice to the selection; without any
    answer then, the most visited path is completed. "act" (MCTS-alpha) makes them before each move, plays a step by
    visits^(1/temperature) and keeps what is known below it. "path" (the reference's vanilla MCTS) walks all the way to
    an end in each playout, expanding what it meets.

    Where we differ: a leaf evaluated before is expanded and the best of its new steps evaluated at once, where the
    reference backs the leaf's own value up once more; values are backed up to the prompt also after a move; `parallel`
    playouts are chosen one after the other, each visit of an earlier one counting as a loss until its own value is
    known (Chaslot, Winands and van den Herik 2008), and playouts that meet at a leaf share its expansion.

    Attributes:
        simulations: playouts from the root ("search", "path") or per move ("act"), at least 1.
        width: steps drawn after a node, at least 1.
        rule: score of an arm, the largest is taken; see `search.rules`. Ties: the larger Q, then P, then the older.
        c: exploration constant of `rule`, at least 0.
        constants: further constants of `rule`, by name.
        adaptive: c is multiplied by the standard deviation of the values backed up to the prompt so far (SC-MCTS*,
            arXiv:2410.01707, takes its C from the spread of Q); by 1 while there is none.
        prior: P of the distinct steps after a node; see `search.rules`.
        evaluate: the value of a leaf; see `search.evaluate`.
        backup: Q of a node on the path, leaf first; see `search.backups`. None: the mean of the values backed up.
        returns: what each node of the path gets of a value; see `search.backups`.
        expand_after: visits a leaf must have had; 0 expands it at its first (ReST-MCTS*), 1 at its second (MCTS-alpha).
            "path" expands at once, and so does every mode the root.
        widening: exponent a >= 0 of progressive widening: steps drawn after a node are at most ceil(width * N^a)
            (Couetoux et al. 2011); None for `width`.
        noise: share in [0, 1] of Dirichlet noise in the priors at the root of the playouts.
        alpha: of the Dirichlet noise, above 0.
        proven: scores of answers are final, as an exact checker's are: an answer, and a node below which all is
            proven, is not visited again. What is proven is noted and kept apart from the means.
        gate: an answer of at least this score ends the search and is nominated; None for none.
        mode: "search", "act" or "path".
        temperature: of the moves, at least 0; 0 plays the most visited step.
        parallel: playouts in flight, at least 1.
        depth: nodes with this many steps are not expanded.
    """

    simulations: int = 32
    width: int = 4
    rule: Rule = puct
    c: float = 1.25
    constants: Mapping[str, float] = field(default_factory=dict)
    adaptive: bool = False
    prior: Callable[[Sequence[Node]], list[float]] = by_logprob
    evaluate: Evaluate = Score()
    backup: Backup | None = None
    returns: Returns = same
    expand_after: int = 1
    widening: float | None = None
    noise: float = 0.0
    alpha: float = 0.3
    proven: bool = False
    gate: float | None = None
    mode: Literal["search", "act", "path"] = "search"
    temperature: float = 0.0
    parallel: int = 1
    depth: int = 40

    @property
    def needs(self) -> tuple[str, ...]:
        """A verifier; and for priors made of them, log-probabilities."""
        return ("verifier", "logprobs") if self.rule is puct and self.prior is by_logprob else ("verifier",)

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if (value := getattr(self, name)) is not None and not least <= value < math.inf:
                raise ConfigError(name, value, f"give a number of at least {least}")
        if not 0 <= self.noise <= 1:
            raise ConfigError("noise", self.noise, "give a number in [0, 1]")
        if not 0 < self.alpha < math.inf:
            raise ConfigError("alpha", self.alpha, "give a number above 0")
        if self.mode not in ("search", "act", "path"):
            raise ConfigError("mode", self.mode, "give search, act or path")
        try:
            self.rule(Arm(0.5, 0.5, 1, 2), self.c, **self.constants)
        except TypeError as error:
            raise ConfigError("constants", self.constants, f"give those of the rule ({error})") from None

    async def __call__(self, s: Session) -> Node | None:
        root = s.root
        while True:
            for start in range(0, self.simulations, self.parallel):
                if proven(root):
                    break
                if answer := await self.wave(s, root, min(self.parallel, self.simulations - start)):
                    return answer
            if self.mode != "act" or not arms(root):
                return await self.finish(s)
            root = self.play(s, root)
            if root.terminal:
                return root
            self.weigh(s, root, arms(root), self.noise)

    async def wave(self, s: Session, root: Node, count: int) -> Node | None:
        """`count` playouts from `root`; the first answer that passes the gate, if any."""
        known, c, flying = len(s.tree), self.c * self.spread(s), Counter[Node]()
        least = 0 if self.mode == "path" else self.expand_after
        paths: list[list[Node]] = []
        for _ in range(count):
            flying[root] += 1
            paths.append(self.select([root], flying, c, least))
        while leaves := dict.fromkeys(path[-1] for path in paths if self.due(path, least)):
            await self.expand(s, leaves, root)
            least = 0 if self.mode == "path" else 1  # of the new steps one is evaluated, not expanded
            for path in paths:
                if path[-1] in leaves:
                    self.select(path, flying, c, least)
        ends = [path[-1] for path in paths]
        alive = [end for end in ends if not dead(end)]
        values = iter(await self.evaluate(s, alive) if alive else ())
        for end in ends:
            self.back_up(s, end.path(), 0.0 if dead(end) else next(values))
        if self.gate is None:
            return None
        judged = (node for node in (*s.tree.nodes[known:], *ends) if node.complete and node.scored)
        return next((node for node in judged if node.score >= self.gate), None)

    def select(self, path: list[Node], flying: Counter[Node], c: float, least: int) -> list[Node]:
        """Goes on from the end of `path` to a leaf: a node that is due, or has no arms."""

        def score(arm: Node) -> tuple[float, float, float]:
            n = arm.visits + flying[arm]
            value = q(arm) * arm.visits / n if flying[arm] else q(arm)  # in flight: a visit of value 0
            return self.rule(Arm(value, arm.notes["prior"], n, parent), c, **self.constants), value, arm.notes["prior"]

        while not self.due(path, least) and (choice := arms(path[-1])):
            parent = path[-1].visits + flying[path[-1]] - 1  # without this playout itself
            arm = max([arm for arm in choice if not proven(arm)] or choice, key=score)
            flying[arm] += 1
            path.append(arm)
        return path

    def due(self, path: Sequence[Node], least: int) -> bool:
        """Whether the end of `path` is to be expanded: by visits, except at the root, and by steps drawn so far."""
        node, enough = path[-1], len(path) == 1 or path[-1].visits >= least
        return enough and not node.terminal and node.depth < self.depth and self.missing(node) > 0

    def missing(self, node: Node) -> int:
        """Steps still to be drawn after `node`."""
        wanted = self.width
        if self.widening is not None:
            wanted = math.ceil(self.width * max(node.visits, 1) ** self.widening)
        return wanted - int(node.notes.get("drawn", 0))

    async def expand(self, s: Session, leaves: Iterable[Node], root: Node) -> None:
        """Draws what is missing after each of `leaves`; steps that were not cut become arms."""
        leaves = {leaf: self.missing(leaf) for leaf in leaves}
        drawn = await gather(s.expand(leaf, k) for leaf, k in leaves.items())
        steps = [[child for child in children if not dead(child)] for children in drawn]
        if self.evaluate.first:
            await s.score([child for children in steps for child in children])
        for (leaf, k), children in zip(leaves.items(), steps, strict=True):
            s.note(leaf, drawn=leaf.notes.get("drawn", 0) + k)
            self.weigh(s, leaf, list(dict.fromkeys([*arms(leaf), *children])), self.noise if leaf is root else 0.0)

    def weigh(self, s: Session, node: Node, choice: list[Node], noise: float) -> None:
        """Makes `choice` the arms of `node`: gives them their priors."""
        priors = self.prior(choice) if choice else []
        if noise:
            gammas = [s.rng.gammavariate(self.alpha, 1) for _ in choice]
            total = math.fsum(gammas) or 1.0
            priors = [(1 - noise) * p + noise * gamma / total for p, gamma in zip(priors, gammas, strict=True)]
        for arm, p in zip(choice, priors, strict=True):
            s.note(arm, prior=p)

    def back_up(self, s: Session, path: Sequence[Node], value: float) -> None:
        """Counts one playout in each node of `path`, leaf first where a value depends on what is below it."""
        values = self.returns(path, value)
        if len(set(values)) == 1:
            s.backup(path, value)
        else:
            for node, own in zip(path, values, strict=True):
                s.backup([node], own)
        for node, own in zip(reversed(path), reversed(values), strict=True):
            if self.backup:
                s.note(node, q=self.backup(node, own))
            if self.proven and not proven(node):
                self.prove(s, node)
        if self.adaptive:
            s.note(s.root, squares=s.root.notes.get("squares", 0.0) + values[0] ** 2)

    def prove(self, s: Session, node: Node) -> None:
        """Notes the value of an answer, of a dead end, or the best of arms that are all proven."""
        if node.terminal:
            s.note(node, proven=node.score)
        elif self.widening is None and self.missing(node) <= 0 and all(map(proven, arms(node))):
            s.note(node, proven=max((arm.notes["proven"] for arm in arms(node)), default=0.0))

    def spread(self, s: Session) -> float:
        """What c is multiplied by."""
        if not self.adaptive or not s.root.visits:
            return 1.0
        variance = s.root.notes["squares"] / s.root.visits - s.root.value**2
        return math.sqrt(variance) if variance > 1e-12 else 1.0

    def play(self, s: Session, node: Node) -> Node:
        """The move from `node`; of equal ones the best, then the oldest. What is proven best is played at once."""
        best = max(arms(node), key=lambda arm: arm.notes.get("proven", q(arm)))
        choice = [arm for arm in arms(node) if not proven(arm)]
        if proven(best) or not any(arm.visits for arm in choice):
            return best
        most = max(choice, key=lambda arm: (arm.visits, q(arm)))
        if self.temperature == 0:
            return most
        weights = [(arm.visits / most.visits) ** (1 / self.temperature) for arm in choice]
        return s.rng.choices(choice, weights)[0]

    async def finish(self, s: Session) -> Node | None:
        """Leaves the choice to the selection; without an answer, completes the most visited path."""
        if s.tree.answers():
            return None
        node = s.root
        while visited := [arm for arm in arms(node) if arm.visits]:
            node = max(visited, key=lambda arm: arm.visits)
        leaf = await s.complete(node)
        return leaf if leaf.complete else None


_LEAST: dict[str, float] = {
    "simulations": 1,
    "width": 1,
    "c": 0,
    "expand_after": 0,
    "widening": 0,
    "gate": 0,
    "temperature": 0,
    "parallel": 1,
    "depth": 1,
}
