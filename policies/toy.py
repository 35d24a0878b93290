"""A toy language: finite, with a known distribution. Exact, instant, seeded; the oracle of the tests."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.errors import ConfigError
from search.steps import ended
from search.types import Cost, Finish, Reply, Request, Sampling, Segment

END = "."  # the end of sequence; a token like the letters, and no part of the text


@dataclass(frozen=True)
class Toy:
    """Words written letter by letter, a Markov chain with an end.

    A letter is a token (its code point); steps end where `Sampling.until` says, e.g. `steps.Tokens(1)` for one letter
    per step. What others write into a word is no part of it. After `length` letters the word ends for sure.

    Attributes:
        letters: the alphabet, without ".".
        length: letters in the longest word.
        end: probability that a word ends, after each letter but the last.
        chain: probabilities of the next letter, or of "." for the end, by the letter before ("" at the beginning of
            the word); each row adds up to 1. None: all letters alike, and `end`.
    """

    letters: str = "abc"
    length: int = 5
    end: float = 0.0
    chain: Mapping[str, Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        if not self.letters or END in self.letters or len(set(self.letters)) < len(self.letters):
            raise ConfigError("letters", self.letters, f"give different letters, none of them {END!r}")
        if self.length < 1:
            raise ConfigError("length", self.length, "give a number of at least 1")
        if not 0 <= self.end <= 1:
            raise ConfigError("end", self.end, "give a probability")
        if self.chain is not None:
            for before in ("", *self.letters):
                self._check(before, self.chain.get(before, {}))

    def _check(self, before: str, row: Mapping[str, float]) -> None:
        known = set(row) <= {*self.letters, END}
        if not known or any(p < 0 for p in row.values()) or abs(sum(row.values()) - 1) > 1e-9:
            raise ConfigError(f"chain[{before!r}]", row, "give probabilities of letters and '.', adding up to 1")

    @property
    def fingerprint(self) -> str:
        return repr(self)

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment:
        """The contents of the messages, joined by spaces; one token per character."""
        return self.write(" ".join(message["content"] for message in messages))

    def write(self, text: str) -> Segment:
        """One token per character."""
        return Segment(tuple(map(ord, text)), text)

    def turn(self, text: str) -> Segment:
        """As `write`; a new turn begins a new word."""
        return self.write(text)

    def text(self, tokens: Sequence[int]) -> str:
        """One character per token; the end has none."""
        return "".join(map(chr, tokens)).replace(END, "")

    def vocabulary_size(self) -> int:
        """The letters and the end."""
        return len(self.letters) + 1

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return [self._reply(request) for request in requests]

    def distribution(self, word: str, sampling: Sampling = Sampling()) -> dict[str, float]:
        """Probabilities of what comes after `word`, as `sampling` (temperature, top-k, top-p) makes them."""
        return _shaped(self._next(word), sampling)

    def probabilities(self, sampling: Sampling = Sampling()) -> dict[str, float]:
        """Every word of the language with its probability; they add up to 1."""
        words: dict[str, float] = {}
        open_ = {"": 1.0}
        while open_:
            word, p = open_.popitem()
            for letter, q in self.distribution(word, sampling).items():
                if letter == END:
                    words[word] = p * q
                elif q:
                    open_[word + letter] = p * q
        return words

    def _next(self, word: str) -> dict[str, float]:
        if len(word) >= self.length:
            return {END: 1.0}
        if self.chain is not None:
            return dict(self.chain[word[-1:]])
        end = self.end if word else 0.0
        return {letter: (1 - end) / len(self.letters) for letter in self.letters} | ({END: end} if end else {})

    def _reply(self, request: Request) -> Reply:
        word = "".join(step.text for step in request.prefix.reply if step.by == "policy")
        if request.top:
            return self._list(word, request)
        segments = tuple(self._draw(word, request.sampling, random.Random(seed)) for seed in request.seeds)
        generated = sum(len(segment.tokens) for segment in segments)
        return Reply(segments, Cost(generated=generated, prefilled=len(request.prefix.tokens), policy_calls=1))

    def _list(self, word: str, request: Request) -> Reply:
        """The likeliest letters after `word`; of equal ones the one named first."""
        ranked = sorted(self.distribution(word).items(), key=lambda item: -item[1])[: request.top]
        ends = (Finish.EMPTY if letter == END else Finish.STEP for letter, _ in ranked)
        segments = tuple(
            Segment((ord(letter),), letter.replace(END, ""), (math.log(p),), finish)
            for (letter, p), finish in zip(ranked, ends, strict=True)
        )
        return Reply(segments, Cost(generated=1, prefilled=len(request.prefix.tokens), policy_calls=1))

    def _draw(self, word: str, sampling: Sampling, rng: random.Random) -> Segment:
        text, tokens, logprobs = "", [], []
        while True:
            row = self.distribution(word + text, sampling)
            (letter,) = rng.choices(list(row), weights=list(row.values()))
            tokens.append(ord(letter))
            logprobs.append(math.log(row[letter]))
            if letter != END:
                text += letter
            if (finish := _finish(letter, text, logprobs, sampling)) is not None:
                return Segment(tuple(tokens), text, tuple(logprobs), finish)


def _finish(letter: str, text: str, logprobs: Sequence[float], sampling: Sampling) -> Finish | None:
    """Why a segment ends here: the end of sequence first, then the boundary, then the limit; None to go on."""
    if letter == END:
        return Finish.END if text else Finish.EMPTY
    if sampling.until is not None and ended(sampling.until, text, logprobs):
        return Finish.STEP
    return Finish.LENGTH if len(logprobs) >= sampling.max_tokens else None


def _shaped(row: Mapping[str, float], sampling: Sampling) -> dict[str, float]:
    """`row` after temperature, top-k and top-p; ties go to the letter named first."""
    ranked = sorted((letter for letter in row if row[letter] > 0), key=lambda letter: -row[letter])
    if sampling.temperature == 0:
        return {ranked[0]: 1.0}
    top = row[ranked[0]]
    weights = {letter: (row[letter] / top) ** (1 / sampling.temperature) for letter in ranked}
    if sampling.top_k:
        weights = {letter: weights[letter] for letter in ranked[: sampling.top_k]}
    kept, mass, enough = {}, 0.0, sampling.top_p * math.fsum(weights.values())
    for letter, weight in weights.items():
        if mass >= enough:
            break
        kept[letter], mass = weight, mass + weight
    return {letter: weight / mass for letter, weight in kept.items()}
