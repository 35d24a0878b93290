"""Laws of a verifier, as plain async functions: what `search.ports.Verifier` promises and types cannot say.

    from verifiers.testing import check_verifier
    await check_verifier(MyVerifier(), prefixes)

Each law takes the verifier and at least two different prefixes, open and complete ones, and raises AssertionError with
the law's name and what was found, or VerifierError for a verdict no search would take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from search.contract import checked_verdict
from search.ports import Verifier
from search.types import Prefix, Verdict

Law = Callable[[Verifier, Sequence[Prefix]], Coroutine[None, None, None]]
ROUNDING = 1e-3  # by which a value may depend on what else is in the batch, in 16-bit arithmetic


async def check_verifier(verifier: Verifier, prefixes: Sequence[Prefix]) -> None:
    """Every law."""
    for law in LAWS:
        await law(verifier, prefixes)


async def empty_batch(verifier: Verifier, prefixes: Sequence[Prefix]) -> None:
    """No prefixes, no verdicts."""
    if list(await verifier.score([])):
        raise AssertionError("empty_batch: verdicts about nothing")


async def keeps_the_contract(verifier: Verifier, prefixes: Sequence[Prefix]) -> None:
    """One verdict per prefix; values in [0, 1]; no cost is negative."""
    verdicts = await verifier.score(prefixes)
    if len(verdicts) != len(prefixes):
        raise AssertionError(f"keeps_the_contract: {len(verdicts)} verdicts about {len(prefixes)} prefixes")
    for prefix, verdict in zip(prefixes, verdicts, strict=True):
        checked_verdict(prefix, verdict)


async def judges_alike(verifier: Verifier, prefixes: Sequence[Prefix]) -> None:
    """Asked again, it says the same."""
    _close("judges_alike", await verifier.score(prefixes), await verifier.score(prefixes))


async def batch_is_one_by_one(verifier: Verifier, prefixes: Sequence[Prefix]) -> None:
    """The order of a batch is kept, and what else is in it, or in flight, does not matter."""
    alone = [(await verifier.score([prefix]))[0] for prefix in prefixes]
    _close("batch_is_one_by_one", await verifier.score(prefixes), alone)
    _close("batch_is_one_by_one", list(await verifier.score(prefixes[::-1]))[::-1], alone)
    at_once: list[Sequence[Verdict]] = await asyncio.gather(*(verifier.score([prefix]) for prefix in prefixes))
    _close("batch_is_one_by_one", [verdict for (verdict,) in at_once], alone)


async def one_value_per_step(verifier: Verifier, prefixes: Sequence[Prefix]) -> None:
    """A verdict has a value for every step of the reply, or for none."""
    for prefix, verdict in zip(prefixes, await verifier.score(prefixes), strict=True):
        if len(verdict.steps) not in (0, len(prefix.reply)):
            found = f"{len(verdict.steps)} step values for {len(prefix.reply)} steps"
            raise AssertionError(f"one_value_per_step: {found} of {prefix.text[:60]!r}")


async def earlier_steps_stay(verifier: Verifier, prefixes: Sequence[Prefix]) -> None:
    """A further step adds one value and leaves those before it as they are: each is read at its own end.

    Holds for process reward models that read from left to right; a judge that looks at the whole again need not keep
    it. Nothing is compared unless some of the prefixes begin others.
    """
    verdicts = await verifier.score(prefixes)
    known = {(one.prompt, one.steps): verdict.steps for one, verdict in zip(prefixes, verdicts, strict=True)}
    for (prompt, steps), after in known.items():
        for count in range(1, len(steps)):
            before = known.get((prompt, steps[:count]), ())
            if not before or not after:
                continue
            same = all(abs(a - b) <= ROUNDING for a, b in zip(before, after, strict=False))
            if not same or len(after) <= len(before):
                raise AssertionError(f"earlier_steps_stay: {before} became {after} after {steps[-1].text[:40]!r}")


LAWS: tuple[Law, ...] = (empty_batch, keeps_the_contract, judges_alike, batch_is_one_by_one, one_value_per_step)
READING: tuple[Law, ...] = (earlier_steps_stay,)  # of verifiers that read from left to right


def _close(law: str, found: Sequence[Verdict], wanted: Sequence[Verdict]) -> None:
    for one, other in zip(found, wanted, strict=True):
        values, others = (one.value, *one.steps), (other.value, *other.steps)
        if len(values) != len(others) or any(abs(a - b) > ROUNDING for a, b in zip(values, others, strict=True)):
            raise AssertionError(f"{law}: {one} is not {other}")
