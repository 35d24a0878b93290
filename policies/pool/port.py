"""What a pool has to know of a port: the method that takes a batch, where its items belong, what a good answer is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

from search.contract import Unknown, checked_reply, checked_verdict
from search.errors import PolicyError, VerifierError
from search.types import Prefix


@dataclass(frozen=True)
class Port:
    """A method of a part: batch in, batch out, same order, each item answered without regard to the others.

    Attributes:
        method: its name.
        key: bytes of an item; items with equal keys go to the same replica while the load allows it.
        check: raises `error` for an answer that cannot be one to this item.
        error: what is raised for an item that is given up.
        weight: draws in an item, at least 1: what load is counted in.
        columns: the method takes one sequence per column of the items (tuples) in place of one of items.
    """

    method: str
    key: Callable[[Any], bytes]
    check: Callable[[Any, Any], object]
    error: type[Exception]
    weight: Callable[[Any], int] = lambda item: 1
    columns: bool = False


def anything(item: object, answer: object) -> None:
    """Takes every answer."""


def by_content(item: object) -> bytes:
    """A key of the item's `repr`: equal items go to the same replica."""
    return blake2b(repr(item).encode(), digest_size=16).digest()


def belongs(prefix: Prefix, steps: int) -> bytes:
    """The key of a prefix: its prompt and its first `steps` steps.

    With 0 steps all of one problem goes to one replica, which then has every prefix of it in its cache: nothing is
    computed twice, and with more problems at work than replicas the load is even. With k > 0, subtrees of one problem
    are spread over replicas, each of which computes the prompt and the first steps once more: for few hard problems on
    many replicas. In between a replica with too much to do spills to the next in the order of its key.
    """
    return Prefix(prefix.prompt, prefix.steps[:steps]).digest


def sample(steps: int = 0) -> Port:
    """`search.ports.Policy.sample`."""
    return Port(
        "sample",
        lambda request: belongs(request.prefix, steps),
        partial(checked_reply, by=Unknown()),
        PolicyError,
        lambda request: max(len(request.seeds), 1),
    )


def score(steps: int = 0) -> Port:
    """`search.ports.Verifier.score`."""
    return Port("score", lambda prefix: belongs(prefix, steps), checked_verdict, VerifierError)


def logprobs(steps: int = 0) -> Port:
    """`search.ports.Likelihood.logprobs`; items are pairs of prefix and continuation."""
    return Port("logprobs", lambda pair: belongs(pair[0], steps), _one_per_token, PolicyError, columns=True)


def _one_per_token(pair: Sequence[Any], answer: Sequence[float]) -> None:
    if len(answer) != len(pair[1].tokens):
        raise PolicyError(f"{len(answer)} log-probabilities came back for {len(pair[1].tokens)} tokens")
