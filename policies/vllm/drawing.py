"""One draw: how vLLM is asked for it, where its step ends, and what of what came is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from policies.vllm import installed
from policies.vocabulary import Growing, Vocabulary
from search.steps import Delimiter, Tokens, ended
from search.types import Boundary, Finish, Sampling, Segment

COLDEST, HOTTEST = 0.01, 2.0  # temperatures above 0 that vLLM takes as they are


@dataclass(frozen=True)
class Plan:
    """How the end of a step is found.

    Attributes:
        until: where the step ends, or None.
        limit: tokens, at least 1.
        capped: whether the limit is the step's own length: reaching it is its end.
        stops: ids at which the engine stops by itself, besides those that end a sequence.
        watched: whether tokens are looked at as they come and the request is aborted at the end of the step. What
            the engine draws until it takes notice is thrown away; what of it comes here is counted.
    """

    until: Boundary | None
    limit: int
    capped: bool = False
    stops: tuple[int, ...] = ()
    watched: bool = False


class Plans:
    """The cheapest way to find each boundary: a limit of tokens, ids to stop at, or watching."""

    def __init__(self, vocabulary: Vocabulary):
        self._vocabulary = vocabulary
        self._stops: dict[Delimiter, tuple[int, ...] | None] = {}

    def of(self, sampling: Sampling, limit: int) -> Plan:
        """For a draw of at most `limit` tokens."""
        until = sampling.until
        if until is None:
            return Plan(None, limit)
        if isinstance(until, Tokens):
            return Plan(until, min(limit, until.count), capped=until.count <= limit)
        if isinstance(until, Delimiter):
            if until not in self._stops:
                self._stops[until] = self._marks(until)
            if (stops := self._stops[until]) is not None:
                return Plan(until, limit, stops=stops)
        return Plan(until, limit, watched=True)

    def _marks(self, until: Delimiter) -> tuple[int, ...] | None:
        """All ids with a delimiter in their text; None if one of the delimiters is in none."""
        found: set[int] = set()
        for string in until.strings:
            mark = string.encode()
            having = {i for i, piece in enumerate(self._vocabulary.pieces) if mark in piece}
            if not having:
                return None
            found |= having
        return tuple(sorted(found))


def params(sampling: Sampling, plan: Plan, seed: int, ends: frozenset[int]) -> Any:
    """vLLM's `SamplingParams`."""
    told = installed.module("vllm.sampling_params")
    kind = told.RequestOutputKind.DELTA if plan.watched else told.RequestOutputKind.FINAL_ONLY
    greedy = sampling.temperature == 0
    return told.SamplingParams(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        seed=None if greedy else seed,
        max_tokens=plan.limit,
        stop_token_ids=[*ends, *plan.stops],
        logprobs=None if greedy else 0,  # a greedy token is certain
        detokenize=False,
        output_kind=kind,
        skip_reading_prefix_cache=None,
    )


class Draw:
    """Takes in tokens until its step ends.

    Attributes:
        received: tokens that came, those beyond the end included.
        finish: why it ended; None while it goes on.
        early: the engine stopped at an id where the step does not end (before any text, say): to be drawn again,
            watched.
    """

    def __init__(self, plan: Plan, vocabulary: Vocabulary, ends: frozenset[int], greedy: bool):
        self._plan, self._vocabulary, self._ends, self._greedy = plan, vocabulary, ends, greedy
        self._growing = Growing(vocabulary)
        self._tokens: list[int] = []
        self._logprobs: list[float] = []
        self.received = 0
        self.finish: Finish | None = None
        self.early = False

    def seen(self, output: Any) -> bool:
        """Takes in an output of vLLM; whether the step has ended."""
        (one,) = output.outputs
        for i, token in enumerate(one.token_ids):
            self.received += 1
            if self.finish is None:
                self._take(token, 0.0 if self._greedy else one.logprobs[i][token].logprob)
        if output.finished and self.finish is None:
            self._close(one.finish_reason)
        return self.finish is not None

    def _take(self, token: int, logprob: float) -> None:
        self._tokens.append(token)
        self._logprobs.append(min(logprob, 0.0))
        if token in self._ends:
            self.finish = Finish.END if self._growing.tokens and self._text(self._tokens[:-1]) else Finish.EMPTY
            return
        self._growing.add(token)
        until = self._plan.until
        if until is not None and not self._plan.capped and ended(until, self._growing.text, self._logprobs):
            self.finish = Finish.STEP

    def _close(self, reason: str | None) -> None:
        if reason == "length":
            self.finish = Finish.STEP if self._plan.capped else Finish.LENGTH
        elif reason == "stop" and self._plan.stops:
            self.early = True

    def _text(self, tokens: list[int]) -> str:
        return self._vocabulary.text(tokens)

    def segment(self) -> Segment | None:
        """What was drawn; None if it did not end."""
        if self.finish is None:
            return None
        bare = self._tokens[:-1] if self._tokens[-1:] and self._tokens[-1] in self._ends else self._tokens
        return Segment(tuple(self._tokens), self._text(bare), tuple(self._logprobs), self.finish)


def watched(plan: Plan) -> Plan:
    """The same step found by watching."""
    return replace(plan, stops=(), watched=True)


def speculated(output: Any) -> int:
    """Tokens that were guessed for a finished request."""
    told = output.outputs[0].spec_decode_metrics
    return 0 if told is None else int(told.num_draft_tokens)


def likeliest(logprobs: Mapping[int, Any], count: int, below: int) -> list[tuple[int, float]]:
    """The `count` likeliest of the tokens with ids `below`, likeliest first, with log-probabilities."""
    rows = [(token, min(row.logprob, 0.0)) for token, row in logprobs.items() if token < below]
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:count]
