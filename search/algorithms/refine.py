"""Iterative refinement with a verifier: review the best answer so far, refine it, repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node

RESTARTS = ("turn", "prefix")


def steepest(scores: Sequence[float]) -> int:
    """The step that loses most of the score before it (1 before the first): the error, where scores say "so far"."""
    return max(range(len(scores)), key=lambda i: (scores[i - 1] if i else 1.0) - scores[i])


def lowest(scores: Sequence[float]) -> int:
    """The first step of the lowest score: the error, where each step is judged by itself."""
    return min(range(len(scores)), key=lambda i: scores[i])


@dataclass(frozen=True)
class Refine:
    """The best of `drafts` first answers, then `rounds` of `width` new ones that know the best (and the worst) so far.

    Iterative agent decoding: "Review, Refine, Repeat" (Chakraborty et al. 2025, arXiv:2504.01931, algorithm 1):
    y+ = the best draft and y- = the worst by the verifier R; in each round draw new answers conditioned on y+, y- and
    the feedback, then y+ = argmax R over {y+, new}, y- = argmin R over {y-, new}. Only improvements are accepted; it
    stops when R(y+) reaches `enough`. With `rounds` = 0 it is best-of-N, and a verifier that says the same of all
    returns the first draft. At equal numbers of answers (drafts + rounds * width = N) it is compared with best-of-N.

    How a new answer knows the old one:

    * restart="turn", the paper's: the feedback is the user's next turn after y+ (`s.extend`), the answer the reply to
      it. An accepted answer is reviewed in the same chat, so a chat has as many turns as improvements. Needs a chat
      model: the policy takes text (`needs`: "writes").
    * restart="prefix", ours, for models that take no turns: answers are drawn step by step, and a new one keeps the
      steps of y+ before its weakest step and goes on from there. Step scores are the verifier's (`Verdict.steps`);
      for one without them, its scores of the prefixes.

    Templates are plain texts; {score}, {worst} and {worst_score} in them are replaced, {score} by R(y+) as "0.42".

    Attributes:
        drafts: first answers, at least 1 (N).
        rounds: at least 0 (T).
        width: new answers in each round, at least 1 (n).
        enough: R(y+) at which it stops; above 1 never.
        restart: "turn" or "prefix".
        feedback: the user's next turn.
        contrast: added to it where y- is worse than y+; "" leaves y- out.
        weakest: which step of y+ is its weakest, from the step scores: `steepest` or `lowest`.
        depth: steps of an answer under restart="prefix", at least 1; what is open then is completed at one go.
    """

    drafts: int = 4
    rounds: int = 3
    width: int = 4
    enough: float = 1.0
    restart: str = "turn"
    feedback: str = "A reviewer gave this answer {score} of 1. Find its mistake and write a better answer, in full."
    contrast: str = "\n\nThis other answer was worse ({worst_score} of 1); do not repeat its mistakes:\n\n{worst}"
    weakest: Callable[[Sequence[float]], int] = steepest
    depth: int = 40

    def __post_init__(self) -> None:
        for name, least in (("drafts", 1), ("rounds", 0), ("width", 1), ("depth", 1)):
            if (value := getattr(self, name)) < least:
                raise ConfigError(name, value, f"give a number of at least {least}")
        if self.restart not in RESTARTS:
            raise ConfigError("restart", self.restart, f"give one of {', '.join(RESTARTS)}")
        if not self.feedback:
            raise ConfigError("feedback", self.feedback, "give the text of the user's next turn")

    @property
    def whole(self) -> bool:
        """With turns it asks for complete answers alone."""
        return self.restart == "turn"

    @property
    def needs(self) -> tuple[str, ...]:
        """A verifier; and for turns a policy that takes text."""
        return ("verifier", "writes") if self.restart == "turn" else ("verifier",)

    async def __call__(self, s: Session) -> Node | None:
        best, worst = await self.review(s, await self.answers(s, s.root, self.drafts), [])
        for _ in range(self.rounds):
            if best is None or worst is None or best.score >= self.enough:
                break
            start = self.turn(s, best, worst) if self.restart == "turn" else await self.cut(s, best)
            best, worst = await self.review(s, await self.answers(s, start, self.width), [best, worst])
        return best

    def nominate(self, s: Session) -> Node | None:
        """The best answer that was scored before the budget ended."""
        return _best([node for node in s.tree.answers() if node.scored])

    async def answers(self, s: Session, start: Node, n: int) -> list[Node]:
        """`n` answers from `start` on, those cut by a token limit left out."""
        if self.restart == "turn":
            ends = await gather(s.complete(start) for _ in range(n))
            return [end for end in ends if end.complete]
        ends, chains = [], [start] * n
        for _ in range(self.depth - start.depth):
            chains = list(chain.from_iterable(await gather(s.expand(node, 1) for node in chains)))
            ends += [node for node in chains if node.complete]
            chains = [node for node in chains if not node.terminal]
            if not chains:
                break
        ends += await gather(s.complete(node) for node in chains)
        return [end for end in ends if end.complete]

    async def review(self, s: Session, new: list[Node], old: list[Node]) -> tuple[Node | None, Node | None]:
        """y+ and y- among the `old` ones and the `new`; of equals the older, so that only improvements are accepted."""
        await s.score(new)
        best, worst = _best([*old[:1], *new]), _best([*old[1:], *new], sign=-1)
        if best is not None:
            s.note(best, best=best.score)
        return best, worst

    def turn(self, s: Session, best: Node, worst: Node) -> Node:
        """The user's next turn after the best answer."""
        text = self.feedback + (self.contrast if worst.score < best.score else "")
        for name, value in (
            ("{score}", f"{best.score:.2f}"),
            ("{worst_score}", f"{worst.score:.2f}"),
            ("{worst}", worst.prefix.text),
        ):
            text = text.replace(name, value)
        return s.extend(best, text, by="user")

    async def cut(self, s: Session, best: Node) -> Node:
        """Where the best answer has its weakest step still before it."""
        path = best.path()
        return path[self.weakest(best.step_scores or await s.score(path[1:]))]


def _best(nodes: list[Node], sign: int = 1) -> Node | None:
    """The first of the highest score (sign 1) or the lowest (-1)."""
    return max(nodes, key=lambda node: sign * node.score, default=None)
