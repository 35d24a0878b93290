"""Beam search over tokens: vanilla, first come first served, and with a patience factor (Kasai et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Literal

from search.errors import ConfigError
from search.hypotheses import Choice, best, check_choice, chosen, forsake, logprob, needs, take, taken
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class TokenBeam:
    """Keeps the `beams` likeliest hypotheses, token by token. Needs no verifier, and draws nothing.

    Two algorithms of Kasai et al. 2022, "A Call for Clarity in Beam Search: How It Works and When It Stops"
    (arXiv:2204.05424; its abstract was read, the rest recalled), which differ in what becomes of a finished hypothesis:

    - `stop="patience"`, what most libraries do. It leaves the beam, whose places all go to open hypotheses, and the
      search ends when p * k are finished. p = 1 is first come, first served; a larger p searches deeper.
    - `stop="vanilla"`, the textbook's. It keeps its place as long as it is among the k best; the search ends when the
      best one is finished, and with a length penalty, under which later ones may still pass it, when all are.

    The score is the sum of log-probabilities s, in the end s / length ** alpha. A call per hypothesis and token, one
    wave per token. Hypotheses of `length` tokens that have not ended are no answers. Of equals the older.

    Attributes:
        beams: hypotheses kept, at least 1 (k).
        patience: p, above 0.
        alpha: exponent of the length, at least 0; 0 prefers short answers, 1 takes the mean log-probability.
        stop: "patience" or "vanilla".
        length: tokens of a hypothesis at most, the end of sequence included.
        choose: who picks the answer among the finished hypotheses, "model" by the score or "verifier".
    """

    beams: int = 4
    patience: float = 1.0
    alpha: float = 0.0
    stop: Literal["patience", "vanilla"] = "patience"
    length: int = 256
    choose: Choice = "model"

    def __post_init__(self) -> None:
        for name in ("beams", "length"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not self.patience > 0:
            raise ConfigError("patience", self.patience, "give a number above 0")
        if not self.alpha >= 0:
            raise ConfigError("alpha", self.alpha, "give a number of at least 0")
        if self.stop not in ("patience", "vanilla"):
            raise ConfigError("stop", self.stop, 'give "patience" or "vanilla"')
        if self.stop == "vanilla" and self.patience != 1:
            raise ConfigError("patience", self.patience, "a vanilla beam has none: give 1")
        check_choice(self.choose)

    @property
    def needs(self) -> tuple[str, ...]:
        return needs(self.choose)

    async def __call__(self, s: Session) -> Node | None:
        finished = await (self.patient(s) if self.stop == "patience" else self.vanilla(s))
        return await chosen(s, finished, self.choose, self.alpha)

    async def patient(self, s: Session) -> list[Node]:
        """The finished hypotheses F when p * k are or nothing is open."""
        beam, finished = [s.root], list[Node]()
        for _ in range(self.length):
            # of one hypothesis at most k open successors are taken, and the end before the last of them
            listed = await gather(s.branch(node, self.beams + 1) for node in beam)
            before, beam, ended = beam, [], list[Node]()
            for node in sorted(chain.from_iterable(listed), key=logprob, reverse=True):
                if len(beam) == self.beams or len(finished) + len(ended) >= self.patience * self.beams:
                    break
                (ended if node.complete else beam).append(node)
            take(s, beam + ended)
            finished += ended
            forsake(s, before, beam)
            if not beam or len(finished) >= self.patience * self.beams:
                break
        return finished

    async def vanilla(self, s: Session) -> list[Node]:
        """The finished hypotheses in the last beam B."""
        beam = [s.root]
        for _ in range(self.length):
            open_ = [node for node in beam if not node.complete]
            listed = await gather(s.branch(node, self.beams) for node in open_)
            candidates = [node for node in beam if node.complete] + list(chain.from_iterable(listed))
            beam = sorted(candidates, key=logprob, reverse=True)[: self.beams]
            take(s, beam)
            forsake(s, open_, beam)
            if all(node.complete for node in (beam if self.alpha or self.choose == "verifier" else beam[:1])):
                break
        return [node for node in beam if node.complete]

    def nominate(self, s: Session) -> Node | None:
        """The best of the finished hypotheses when the budget ends."""
        return best(taken(s), self.choose, self.alpha)
