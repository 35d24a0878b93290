"""What a reply and a verdict must satisfy: checked once, where they enter, so that nothing wrong travels on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import ClassVar, TypeVar

from search.errors import PolicyError, VerifierError
from search.ports import lacking
from search.types import Cost, Finish, Prefix, Reply, Request, Segment, Verdict

ROUNDING = 1e-4  # nats by which a log-probability may exceed 0 in 16-bit arithmetic

T = TypeVar("T")


def one_each(asked: int, answers: Sequence[T], error: type[Exception]) -> Sequence[T]:
    """`answers`, if there is one for each of the `asked`; raises `error` otherwise."""
    if len(answers) != asked:
        raise error(f"{len(answers)} answers came back for {asked} questions")
    return answers


class Unknown:
    """In place of a policy of which it is not known what it lacks."""

    lacks: ClassVar[Mapping[str, str]] = {"logprobs": "whoever asked knows"}


def checked_reply(request: Request, reply: Reply, by: object = None) -> Reply:
    """`reply`, if it answers `request` by the contract of `search.ports.Policy`; raises PolicyError otherwise.

    Draws without log-probabilities are right only where the policy they are `by` says that it lacks them.
    """
    if request.top:
        return _checked_list(request, reply)
    if len(reply.segments) != len(request.seeds):
        raise PolicyError(f"{len(reply.segments)} segments came back for {len(request.seeds)} seeds")
    for segment in reply.segments:
        if fault := _fault(request, segment, by):
            raise PolicyError(f"segment {segment.text!r}: {fault}")
    _check_cost(reply.cost, PolicyError)
    return reply


def _checked_list(request: Request, reply: Reply) -> Reply:
    """`reply`, if it lists different tokens, likeliest first, each with its log-probability."""
    listed = reply.segments
    logprobs = [segment.logprobs[0] for segment in listed if len(segment.logprobs) == 1 == len(segment.tokens)]
    if not 0 < len(listed) <= request.top or len(logprobs) < len(listed):
        raise PolicyError(f"{len(listed)} segments came back for the {request.top} likeliest tokens, or not of a token")
    if logprobs != sorted(logprobs, reverse=True) or len({s.tokens for s in listed}) < len(listed):
        raise PolicyError(f"the likeliest tokens are not different, likeliest first: {[s.text for s in listed]}")
    if not math.fsum(map(math.exp, logprobs)) <= 1 + 1e-2:  # 16-bit arithmetic
        raise PolicyError("the probabilities of the likeliest tokens add up to more than 1")
    _check_cost(reply.cost, PolicyError)
    return reply


def _fault(request: Request, segment: Segment, by: object) -> str | None:
    count, limit = len(segment.tokens), request.sampling.max_tokens
    if count > limit and segment.by == "policy":
        return f"it has {count} tokens where at most {limit} were asked for"
    unweighed = count and segment.by == "policy" and len(segment.logprobs) != count
    if unweighed and (segment.logprobs or lacking(by, "logprobs") is None):
        return f"it has {len(segment.logprobs)} log-probabilities for {count} tokens"
    if any(not x <= ROUNDING for x in segment.logprobs):
        return f"a log-probability is above 0 or nan: {segment.logprobs}"
    if segment.finish is Finish.STEP and request.sampling.until is None:
        return "it ends as a step, and no boundary was asked for"
    if segment.finish is Finish.STEP and not (segment.tokens or segment.text):
        return "it is an empty step, which could go on for ever"
    if segment.finish is Finish.EMPTY and segment.text:
        return "it ends as empty, and has text"
    return None


def checked_verdict(prefix: Prefix, verdict: Verdict) -> Verdict:
    """`verdict`, if it keeps the contract of `search.ports.Verifier`; raises VerifierError otherwise."""
    for name, values in (("value", (verdict.value,)), ("step value", verdict.steps)):
        if any(not 0 <= value <= 1 for value in values):
            raise VerifierError(f"a {name} is outside [0, 1] for {prefix.text!r}: {values}")
    _check_cost(verdict.cost, VerifierError)
    return verdict


def _check_cost(cost: Cost, error: type[Exception]) -> None:
    if any(not getattr(cost, f.name) >= 0 for f in fields(cost)):
        raise error(f"a cost is negative or nan: {cost}")
