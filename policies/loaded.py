"""What an embedded policy has once its weights are loaded, and how what the engine draws becomes segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from policies.engine.calls import Draw, Watch
from policies.engine.engine import Engine
from policies.vocabulary import Growing, Vocabulary, added
from search.errors import PolicyError
from search.steps import Delimiter
from search.types import Boundary, Finish, Sampling, Segment, WeighingBoundary


@dataclass(frozen=True, slots=True)
class Loaded:
    """The engine and the words of its model.

    Attributes:
        ends: ids that end a sequence.
    """

    engine: Engine
    vocabulary: Vocabulary
    ends: frozenset[int]
    watches: dict[Boundary, tuple[Callable[[], Watch], frozenset[int] | None]] = field(default_factory=dict)

    def ids(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        if not tokens:
            raise PolicyError("a prefix without token ids cannot be continued by an embedded model")
        if not 0 <= min(tokens) <= max(tokens) < self.engine.vocabulary:
            raise PolicyError(f"the prefix has ids beyond this model's vocabulary of {self.engine.vocabulary}")
        return tokens

    @property
    def end_texts(self) -> list[str]:
        """The end-of-sequence tokens as a template writes them."""
        tokenizer = self.vocabulary.tokenizer
        return [tokenizer.convert_ids_to_tokens(i) for i in sorted(self.ends)]

    def listed(self, before: tuple[int, ...], tokens: Sequence[int], logprobs: Sequence[float]) -> tuple[Segment, ...]:
        """Each token as a segment; its text is what it adds to that of `before`."""
        last = Growing(self.vocabulary)
        for known in before[-4:]:  # a character has four bytes at most
            last.add(known)

        def segment(token: int, logprob: float) -> Segment:
            if token in self.ends:
                return Segment((token,), "", (logprob,), Finish.EMPTY)
            text = None if last.cut else self.vocabulary.texts[token]
            return Segment((token,), added(self.vocabulary, before, token) if text is None else text, (logprob,))

        return tuple(map(segment, tokens, logprobs))

    def watch(self, sampling: Sampling) -> tuple[Callable[[], Watch] | None, frozenset[int] | None]:
        """What makes a watcher per draw, None where only end tokens end one; and what alerts it, None for any token."""
        boundary = sampling.until
        if boundary is None:
            return None, None
        if boundary not in self.watches:
            if len(self.watches) > 256:  # boundaries that count down what is left of a budget are many
                self.watches.clear()
            self.watches[boundary] = _watcher(self.vocabulary, boundary), _alert(self.vocabulary, boundary)
        return self.watches[boundary]

    def segment(self, draw: Draw) -> Segment:
        ended = draw.finish == "end"
        text = self.vocabulary.text(draw.tokens[:-1] if ended else draw.tokens)
        finish = {"stop": Finish.STEP, "length": Finish.LENGTH, "end": Finish.END if text else Finish.EMPTY}
        return Segment(draw.tokens, text, draw.logprobs, finish[draw.finish])


def _watcher(vocabulary: Vocabulary, boundary: Boundary) -> Callable[[], Watch]:
    weighs = boundary.ends_by if isinstance(boundary, WeighingBoundary) else None

    def make() -> Watch:
        growing = Growing(vocabulary)
        costs: list[float] = []

        def watch(tokens: Sequence[int], logprobs: Sequence[float]) -> bool:
            for token in tokens:
                growing.add(token)
            if weighs is None:
                return boundary.ends(growing.text, growing.tokens)
            costs.extend(logprobs)
            return weighs(growing.text, costs)

        return watch

    return make


def _alert(vocabulary: Vocabulary, boundary: Boundary) -> frozenset[int] | None:
    """The tokens after which a step can end; None where that does not hang on the token."""
    if type(boundary) is not Delimiter:
        return None
    # the token that completes a delimiter has its last byte
    last = {string.encode()[-1] for string in boundary.strings}
    return frozenset(token for token, piece in enumerate(vocabulary.pieces) if not last.isdisjoint(piece))
