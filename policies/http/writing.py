"""One draw as it comes in: where its step ends, why it ends, and what of it counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from policies.http.client import broken
from policies.http.wire import Piece, end_of
from policies.vocabulary import Growing
from search.errors import ConfigError, PolicyError
from search.steps import Delimiter, Tokens
from search.types import Boundary, Finish, Sampling, Segment, WeighingBoundary


@dataclass(frozen=True)
class Plan:
    """How a draw is asked for.

    Attributes:
        until: where the step ends, or None.
        limit: tokens, at least 1.
        stop: strings the server is to stop at.
        stream: whether it comes in pieces, so that the request can be closed where the step ends.
        capped: whether the limit is the step's own length: reaching it is its end.
    """

    until: Boundary | None
    limit: int
    stop: tuple[str, ...] = ()
    stream: bool = False
    capped: bool = False


def planned(sampling: Sampling, stop: bool, stream: bool) -> Plan:
    """The cheapest way to find the boundary: by a limit, by stop strings, by streaming.

    Without any of these the whole completion is drawn and cut here, and what is beyond the cut is paid too.

    Args:
        stop: whether the server says which stop string it met.
        stream: whether it streams.
    """
    until, limit = sampling.until, sampling.max_tokens
    if isinstance(until, Tokens):
        return Plan(until, min(limit, until.count), capped=until.count <= limit)
    if isinstance(until, Delimiter) and stop:
        return Plan(until, limit, stop=until.strings)
    return Plan(until, limit, stream=stream and until is not None)


class Draw:
    """Grows by pieces until it ends.

    Attributes:
        finish: why it ended; None while it goes on.
        received: tokens that came, also those beyond the end; events where the server gives no ids.
        dropped: something came that is beyond the end.
        early: the server stopped at a stop string where the step does not end (before any text, say): to be drawn
            again without stop strings.
    """

    def __init__(self, plan: Plan, vocabulary: Any, ends: set[int], ids: bool):
        self.plan, self._ends, self._ids = plan, ends, ids
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self._growing = Growing(vocabulary) if vocabulary is not None else None
        self._vocabulary = vocabulary
        self._text = ""
        self.finish: Finish | None = None
        self.received = 0
        self.early = self.dropped = False

    @property
    def drawn(self) -> Segment:
        """What it holds so far."""
        return Segment(tuple(self._tokens), self._shown() if self._tokens else self._text, tuple(self._logprobs))

    def resumed(self) -> Draw:
        """The same draw, that goes on where the server stopped too early; its boundary is looked for here."""
        again = Draw(replace(self.plan, stop=(), stream=False), self._vocabulary, self._ends, self._ids)
        again._tokens, again._logprobs, again._text = [*self._tokens], [*self._logprobs], self._text
        if (growing := again._growing) is not None:
            for token in self._tokens:
                growing.add(token)
        return again

    def cut(self) -> Draw:
        """Itself, ended by a limit."""
        self.finish = Finish.LENGTH
        return self

    def add(self, piece: Piece) -> None:
        """Takes in what came; what comes after the end is counted, and dropped."""
        if self._ids and (len(piece.logprobs) != len(piece.tokens) or (piece.text and not piece.tokens)):
            raise broken(f"{len(piece.tokens)} ids and {len(piece.logprobs)} log-probabilities came for {piece.text!r}")
        for token, logprob, text, end in self._split(piece):
            self.received += 1
            if self.finish is None:
                self._take(token, logprob, text, end)
            else:
                self.dropped = True
        if piece.finish and self.finish is None:
            self._close(piece)

    def _split(self, piece: Piece) -> Iterator[tuple[int | None, tuple[float, ...], str, bool]]:
        """Token by token: id, log-probability, text, and whether it is the end of sequence."""
        if not self._ids:
            if len(piece.texts) == len(piece.logprobs) and "".join(piece.texts) == piece.text:
                for text, logprob in zip(piece.texts, piece.logprobs, strict=True):
                    yield None, (logprob,), text, False
            elif piece.text or piece.logprobs:
                yield None, piece.logprobs, piece.text if self.plan.stream else self._step(piece.text), False
            return
        ended = piece.finish == "stop" and piece.stop is None
        texts = list(piece.texts)
        over = ended and (piece.tokens[-1:] and (piece.tokens[-1] in self._ends or end_of(piece)))
        inside = len(piece.tokens) - bool(over)
        if "".join(texts[:inside]).startswith(piece.text) and texts:
            texts = texts[:inside]  # beyond a stop string the text is trimmed, and the tokens are not
        else:
            texts = [""] * (inside - 1) + [piece.text] if inside else []
        for i in range(inside):
            yield piece.tokens[i], piece.logprobs[i : i + 1], texts[i], False
        if over:
            yield piece.tokens[-1], piece.logprobs[-1:], "", True

    def _take(self, token: int | None, logprobs: tuple[float, ...], text: str, end: bool) -> None:
        self._logprobs += logprobs
        if token is not None:
            self._tokens.append(token)
            if end:
                self._ends.add(token)
                return
        if self._growing is not None and token is not None:
            self._growing.add(token)
            self._text = self._growing.text
        else:
            self._text += text
        plan = self.plan
        if plan.until is not None and not plan.capped and not plan.stop and self._over(plan.until):
            self.finish = Finish.STEP

    def _step(self, text: str) -> str:
        """Of an answer that came whole, as much as belongs to the step."""
        until = self.plan.until
        if until is not None and not self.plan.capped and not isinstance(until, WeighingBoundary):
            for end in range(1, len(text)):
                if until.ends(self._text + text[:end], end):
                    self.dropped = True
                    return text[:end]
        return text

    def _over(self, until: Boundary) -> bool:
        if isinstance(until, WeighingBoundary):
            if not self._logprobs:
                remedy = "it needs log-probabilities, which this server does not give: take another boundary"
                raise ConfigError("steps.until", until, remedy)
            return until.ends_by(self._text, self._logprobs)
        return until.ends(self._text, len(self._tokens) or self.received)

    def _close(self, piece: Piece) -> None:
        """The server's reason, kept apart from our boundary: "stop" alone may mean two things."""
        if piece.finish in ("tool_calls", "function_call"):
            raise PolicyError("the model called a tool; a search offers it none")
        if piece.finish not in ("stop", "length", "content_filter", "eos"):
            raise broken(f"the answer was given up ({piece.finish})")
        if piece.finish in ("length", "content_filter"):  # a filter ends a path against the model's will, as a limit
            self.finish = Finish.STEP if self.plan.capped and piece.finish == "length" else Finish.LENGTH
        elif self.plan.stop and piece.stop is not None:
            self._unread(piece)
        else:
            self.finish = Finish.END if self._shown() else Finish.EMPTY

    def _unread(self, piece: Piece) -> None:
        """A stop string was met; servers that trim it from the text have said which."""
        if not self._tokens and not self._text.endswith(str(piece.stop)):
            self._text += str(piece.stop)
        until = self.plan.until
        if until is not None and self._over(until):
            self.finish = Finish.STEP
        else:
            self.early = True

    def _shown(self) -> str:
        """The text; a character that is not complete shows as U+FFFD."""
        if self._vocabulary is None or not self._tokens:
            return self._text
        return str(self._vocabulary.text(token for token in self._tokens if token not in self._ends))

    def segment(self) -> Segment:
        """What was drawn; raises an error that asks for another attempt if it has not ended."""
        if self.finish is None:
            raise broken("the answer has no finish reason")
        logprobs = self._logprobs if self._ids or self._logprobs else ()
        return Segment(tuple(self._tokens), self._shown(), tuple(min(x, 0.0) for x in logprobs), self.finish)
