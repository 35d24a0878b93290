"""TreePO: trajectories that share prefixes, grown segment by segment (Li et al. 2025, arXiv:2508.17445)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from search.cuts import after, close
from search.divergence import ALLOCATIONS, POSITIONS, SOURCES, fork, kept, sources
from search.draws import advance
from search.endings import Ending, Trajectory, boxed, repeats
from search.errors import ConfigError
from search.session import Session
from search.steps import Tokens
from search.tree import Node
from search.types import Finish


@dataclass(frozen=True)
class TreePO:
    """Grows W trajectories: all active paths decode a segment of L tokens side by side, then some of them fork.

    Made to sample for policy-gradient training (for its advantages see `search.advantage`); by itself a sampler that
    saves the tokens of shared prefixes. After each round with n active paths and f just finished, the paths go on as

        max(n, min(W - finished, d * (n + f)))

    copies; when none is active and trajectories are missing, new ones branch off finished ones (fallback).

    An end is looked for after each segment in this order: repetition (`repetition="most"`), answer, end of sequence,
    `max_tokens`, `depth`, repetition ("least"). Paths that end without the model's end of sequence are closed in the
    tree: as answers where the rule is the boxed one, as dead ends otherwise. The tree may end up with more than W.

    We follow the published code but for: a remainder of an even allocation goes to paths drawn at random
    (`remainder="last"`: all to the last, as published); a box split over two segments is seen (`look="segment"`:
    only inside one); a fallback starts from the prompt (`position="random"` is the published default), since for
    answering a question the answers found are no better than others; fallbacks are bounded. Needs a temperature
    above 0. The answer is left to the selection: `select.Majority`, or `select.PrefixWeighted` against the sway of
    shared prefixes. Notes: `ending` of a leaf, a number of `search.endings.Ending`.

    Attributes:
        width: W, trajectories wanted, at least 1.
        segment: L, tokens per segment, at least 1.
        depth: segments per trajectory, at least 1.
        max_tokens: per trajectory, at least 1; None: depth * segment.
        divergence: d, at least 1; for "tokens", tokens of a round.
        divergence_max: for "random", d is drawn anew each round, between `divergence` and this.
        first: least and most copies of the prompt in the first round, drawn evenly; None: d.
        divergence_by: "fixed" (above); "random"; "tokens", as many copies as d tokens are segments.
        width_by: "trajectories"; "tokens", W is lowered (to `min_width` at least) to what is left of `width_tokens`
            for trajectories as long as the active ones will be.
        allocation: which paths fork, of `search.divergence.fork`: even, logprob, norm_logprob, node_logprob,
            inverse_logprob, inverse_norm_logprob, inverse_node_logprob; by softmax at `temperature` (above 0).
        box: "as_eos": an answer ends the path; "and_eos": only where the model also ends it; it then counts as
            answered, and an end without one as an end; "ignored".
        answered: whether a text holds an answer.
        repetition: "least" or "most" prioritised, or "ignored"; see `search.endings.repeats`.
        min_tokens: shorter trajectories do not count, 0 for all.
        fallback, position: see `search.divergence.sources` and `kept`; fallback "none" for none.
        window, back, block: tokens of a window (None: L) and windows (None: all) to go back; tokens of a block.
        answer_windows: least length, in windows, of what "long_answers" goes back to.
        fallbacks: at most, 0 or more; None: W.
    """

    width: int = 16
    segment: int = 512
    depth: int = 14
    max_tokens: int | None = None
    divergence: int = 2
    divergence_max: int | None = None
    first: tuple[int, int] | None = (2, 8)
    divergence_by: Literal["fixed", "random", "tokens"] = "fixed"
    width_by: Literal["trajectories", "tokens"] = "trajectories"
    width_tokens: int | None = None
    min_width: int = 1
    allocation: str = "even"
    temperature: float = 1.0
    remainder: Literal["random", "last"] = "random"
    box: Literal["as_eos", "and_eos", "ignored"] = "as_eos"
    answered: Callable[[str], bool] = boxed
    look: Literal["answer", "segment"] = "answer"
    repetition: Literal["least", "most", "ignored"] = "least"
    min_tokens: int = 0
    fallback: str = "finished_first"
    position: str = "from_start"
    window: int | None = None
    back: int | None = None
    block: int = 128
    answer_windows: int = 1
    fallbacks: int | None = None

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        for name in ("min_tokens", "fallbacks"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ConfigError(name, value, "give a number of at least 0")
        if not self.temperature > 0:
            raise ConfigError("temperature", self.temperature, "give a number above 0")
        if self.first is not None:
            object.__setattr__(self, "first", tuple(self.first))  # of a list, as YAML has it
        if self.first is not None and not (len(self.first) == 2 and 1 <= self.first[0] <= self.first[1]):
            raise ConfigError("first", self.first, "give the least and the most, at least 1, or null")
        if (self.divergence_by == "random") != (self.divergence_max is not None):
            raise ConfigError(
                "divergence_max", self.divergence_max, "give it with divergence_by=random, and only there"
            )
        if self.divergence_max is not None and self.divergence_max < self.divergence:
            raise ConfigError("divergence_max", self.divergence_max, f"give at least divergence={self.divergence}")
        if (self.width_by == "tokens") != (self.width_tokens is not None):
            raise ConfigError("width_tokens", self.width_tokens, "give it with width_by=tokens, and only there")
        for name, words in _WORDS.items():
            if (word := getattr(self, name)) not in words:
                raise ConfigError(name, word, f"give one of {', '.join(words)}")

    @property
    def needs(self) -> tuple[str, ...]:
        """Log-probabilities, where they allocate or place; to cut inside a segment, tokens that can be read."""
        weighed = self.allocation != "even" or (self.fallback != "none" and self.position == "min_logprob_token")
        return (*(("logprobs",) if weighed else ()), *self.cutting)

    @property
    def cutting(self) -> tuple[str, ...]:
        """What going back to a place inside a segment needs."""
        aligned = self.position == "from_start" or (self.position == "random" and not (self.window or 0) % self.segment)
        return () if aligned or self.fallback == "none" else ("reads",)

    async def __call__(self, s: Session) -> Node | None:
        finished: list[Trajectory] = []
        active = [s.root] * min(s.rng.randint(*self.first or (self.divergence, self.divergence)), self.width)
        fallbacks = self.width if self.fallbacks is None else self.fallbacks
        while active:
            steps = [(node, self.ending(node)) for node in await advance(s, active, self.how)]
            active = [node for node, ending in steps if ending is None]
            ended = [self.finish(s, node, ending) for node, ending in steps if ending is not None]
            ended = [trajectory for trajectory in ended if trajectory.tokens >= self.min_tokens]
            finished += ended
            missing = max(self.wanted(finished, active) - len(finished), 0)
            if active:
                active = self.diverge(s, active, missing, len(ended))
            elif missing and fallbacks and self.fallback != "none":
                fallbacks -= 1
                active = self.fall_back(s, finished, missing)
        return None

    def how(self, node: Node) -> dict[str, Any]:
        """A segment of L tokens, or of what `max_tokens` leaves."""
        size = min(self.segment, self.limit - _tokens(node))
        return {"until": Tokens(size), "max_tokens": size}

    @property
    def limit(self) -> int:
        """Tokens of a trajectory."""
        return self.max_tokens or self.depth * self.segment

    def ending(self, node: Node) -> Ending | None:
        """Why the path of `node` has ended; None if it has not."""
        new = node.segment.text
        if node.terminal and not node.complete:
            return Ending.UNFINISHED
        if self.repetition == "most" and repeats(new):
            return Ending.REPETITION
        answer = self.answered(node.prefix.text if self.look == "answer" else new)
        if answer and (self.box == "as_eos" or (self.box == "and_eos" and node.complete)):
            return Ending.ANSWERED
        if node.complete:
            return Ending.END
        if _tokens(node) >= self.limit:
            return Ending.TOKENS
        if node.depth >= self.depth:
            return Ending.DEPTH
        return Ending.REPETITION if self.repetition == "least" and repeats(new) else None

    def finish(self, s: Session, node: Node, ending: Ending) -> Trajectory:
        """Closes the path, unless the model has, and keeps the record."""
        if not node.terminal:
            node = close(s, node, Finish.EMPTY if ending is Ending.ANSWERED else Finish.LENGTH)
        s.note(node, ending=int(ending))
        return Trajectory(node, ending, _tokens(node))

    def wanted(self, finished: list[Trajectory], active: list[Node]) -> int:
        """Trajectories at the end: W, or what `width_tokens` will do for."""
        if self.width_tokens is None:
            return self.width
        mean = sum(map(_tokens, active)) / max(len(active), 1)
        left = self.width_tokens - sum(trajectory.tokens for trajectory in finished)
        more = int(max(left, 0) // (mean + self.segment))
        return min(max(more + len(finished), self.min_width), self.width)

    def diverge(self, s: Session, active: list[Node], missing: int, ended: int) -> list[Node]:
        """The active paths, as often as they go on; the rights of those that ended pass to the others."""
        d = self.divergence
        if self.divergence_by == "tokens":
            copies = min(missing, d // self.segment)
        else:
            copies = s.rng.randint(d, self.divergence_max or d) * (len(active) + ended)
        total = max(min(missing, copies), len(active))
        rng = s.rng if self.remainder == "random" else None
        counts = fork(active, total, self.allocation, self.temperature, rng)
        return [node for node, count in zip(active, counts, strict=True) for _ in range(count)]

    def fall_back(self, s: Session, finished: list[Trajectory], missing: int) -> list[Node]:
        """Points on finished trajectories, d times each until nothing is `missing`; else the prompt."""
        window, places = self.window or self.segment, list[Node]()
        for source in sources(finished, self.fallback, self.answer_windows * window, s.rng):
            if len(places) >= missing:
                break
            tokens = kept(source, self.position, window, self.back, self.block, s.rng)
            node = after(s, source.leaf, tokens)
            while node.depth >= self.depth and node.parent is not None:
                node = node.parent
            places += [node] * self.divergence
        return (places or [s.root] * self.divergence)[:missing]


_COUNTS = ["width", "segment", "depth", "max_tokens", "divergence", "min_width"]
_COUNTS += ["window", "back", "block", "answer_windows"]
_WORDS = {
    "divergence_by": ("fixed", "random", "tokens"),
    "width_by": ("trajectories", "tokens"),
    "allocation": ALLOCATIONS,
    "remainder": ("random", "last"),
    "box": ("as_eos", "and_eos", "ignored"),
    "look": ("answer", "segment"),
    "repetition": ("least", "most", "ignored"),
    "fallback": SOURCES,
    "position": POSITIONS,
}


def _tokens(node: Node) -> int:
    return sum(len(step.tokens) for step in node.prefix.steps)
