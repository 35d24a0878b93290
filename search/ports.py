"""The holes a search has, and the optional abilities of what fills them. Batch in, batch out, same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from search.types import Prefix, Reply, Request, Segment, Verdict


class Policy(Protocol):
    """Continues prefixes: one reply per request, in order, never partial; an empty batch is allowed."""

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]: ...


class Verifier(Protocol):
    """Judges prefixes: one verdict per prefix, in order; values in [0, 1], finite, higher is better."""

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]: ...


@runtime_checkable
class Renders(Protocol):
    """Turns chat messages into a prompt, once, by the model's own template."""

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment: ...


@runtime_checkable
class KeepsPrefixes(Protocol):
    """Holds keys and values of prefixes; hints only, results never depend on them."""

    def retain(self, prefix: Prefix) -> None: ...

    def release(self, prefix: Prefix) -> None: ...


@runtime_checkable
class Enumerates(Protocol):
    """Lists the likeliest next tokens: answers requests with `Request.top`."""

    def vocabulary_size(self) -> int:
        """How many tokens there are, the end of sequence included; asking for more gives as many."""
        ...


@runtime_checkable
class Writes(Protocol):
    """Turns text into the policy's tokens, so that others than the policy can write into a prefix."""

    def write(self, text: str) -> Segment:
        """`text` as a segment that was not sampled."""
        ...

    def turn(self, text: str) -> Segment:
        """The user's next turn after an answer that has ended, by the model's chat template, ready for the reply.

        Raises ConfigError where the template does not continue what it wrote before.
        """
        ...


@runtime_checkable
class Reads(Protocol):
    """Says what ids decode to, so that a segment can be cut inside."""

    def text(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, as that of a segment of them; end-of-sequence tokens left out."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """Log-probabilities (nats, temperature 1) of given continuations, one tuple per pair, one number per token."""

    async def logprobs(
        self, prefixes: Sequence[Prefix], continuations: Sequence[Segment]
    ) -> Sequence[tuple[float, ...]]: ...


@runtime_checkable
class Describes(Protocol):
    """Says what it is: model, revision, sampler. Part of every journal, so answers of others are never replayed."""

    @property
    def fingerprint(self) -> str: ...


@runtime_checkable
class Binds(Protocol):
    """A verifier that needs the item it judges (its numbers, its public tests), never its reference answer."""

    def bind(self, item: Any) -> Verifier: ...


class Grader(Protocol):
    """Says which final answers are equal. Used by votes; never sees a reference answer."""

    async def classes(self, texts: Sequence[str]) -> Sequence[int | None]:
        """One label per text, in order: equal answers have equal labels; None where no answer is found."""
        ...


@runtime_checkable
class Lacks(Protocol):
    """Says what it turned out not to be able to do: a remote model is known only once it has been asked."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """Reasons by what is lacking: the name of a port above, "logprobs" (none with its draws), or "continues" (it
        answers prompts, and goes on with no answer that has begun)."""
        ...


def ability(part: object, wanted: type[Any]) -> Any:
    """The optional ability `wanted` of a policy or verifier, or None; what it says it `Lacks` it does not have.

    A wrapper that only passes answers on (a batcher, a journal, a pool) names what it wraps `inner`, and what it
    wraps is asked in its place. A wrapper that changes answers must not: it has abilities of its own or none.
    """
    layer: Any = part
    while layer is not None and not (isinstance(layer, wanted) and lacking(layer, wanted.__name__) is None):
        layer = getattr(layer, "inner", None)
    return layer


def lacking(part: object, what: str) -> str | None:
    """Why `part`, or what it wraps, says it lacks `what`; None if it says no such thing."""
    layer: Any = part
    while layer is not None:
        if isinstance(layer, Lacks) and what in layer.lacks:
            return layer.lacks[what]
        layer = getattr(layer, "inner", None)
    return None
