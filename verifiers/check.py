"""Whether a verifier keeps the laws, on prefixes of one's own problems, and how fast it is.

    python -m verifiers.check verifier=mine task=game24 limit=3

draws a few solutions of a few problems with the configured policy, puts all their beginnings before the verifier, and
prints what holds and what does not. Exit status: 0 if every law holds, 1 if not, 2 for a wrong setting. The command's
settings are those of `experiments.solve`; what composes them lives in `experiments.check`, because nothing here may
import from there.
"""

from __future__ import annotations

import runpy
import time
from collections.abc import Sequence
from typing import NamedTuple

from search.errors import VerifierError
from search.ports import Verifier
from search.types import Cost, Prefix
from verifiers.testing import LAWS, READING, Law

TITLES = {
    "empty_batch": "no prefixes, no verdicts",
    "keeps_the_contract": "one verdict per prefix, values in [0, 1]",
    "judges_alike": "asked again, it says the same",
    "batch_is_one_by_one": "order is kept, and a batch is judged as one by one",
    "one_value_per_step": "as many step values as steps, or none",
    "earlier_steps_stay": "a further step adds one value and leaves the others",
}


class Finding(NamedTuple):
    """What came of one law: whether it holds, and what was found where it does not."""

    law: str
    holds: bool
    said: str = ""


class Speed(NamedTuple):
    """What the first reading of every prefix took, shorter ones first."""

    passes: int
    seconds: float
    cost: Cost


async def examine(verifier: Verifier, prefixes: Sequence[Prefix]) -> tuple[list[Finding], Speed | None]:
    """Every law of `verifiers.testing`, and the speed of the first reading (None if that failed)."""
    speed = await _speed(verifier, prefixes)
    return [await _finding(law, verifier, prefixes) for law in (*LAWS, *READING)], speed


def merged(findings: Sequence[Sequence[Finding]]) -> list[Finding]:
    """One finding per law over several sets of prefixes: the first that does not hold, if any."""
    return [next((each for each in same if not each.holds), same[0]) for same in zip(*findings, strict=True)]


def told(findings: Sequence[Finding], speeds: Sequence[Speed]) -> str:
    """A line per law and one about speed."""
    lines = [
        f"{'holds ' if each.holds else 'BROKEN'}  {each.law:<20}  {TITLES.get(each.law, '')}"
        + ("" if each.holds else f"\n        {each.said}")
        for each in findings
    ]
    if passes := sum(speed.passes for speed in speeds):
        seconds = sum(speed.seconds for speed in speeds)
        cost = sum((speed.cost for speed in speeds), Cost())
        share = cost.reused / max(cost.read + cost.reused, 1)
        each = (
            f"{1000 * seconds / passes:.2f} ms a prefix, one at a time; {cost.read / passes:.1f} tokens computed for it"
        )
        lines.append(f"speed   {each}, {share:.0%} of all tokens found in its cache")
    return "\n".join(lines)


async def _finding(law: Law, verifier: Verifier, prefixes: Sequence[Prefix]) -> Finding:
    try:
        await law(verifier, prefixes)
    except (AssertionError, VerifierError) as error:
        return Finding(law.__name__, False, str(error).removeprefix(f"{law.__name__}: "))
    except Exception as error:  # a user's class may raise anything; the other laws are still worth knowing
        return Finding(law.__name__, False, f"{type(error).__name__}: {error}")
    return Finding(law.__name__, True)


async def _speed(verifier: Verifier, prefixes: Sequence[Prefix]) -> Speed | None:
    cost, began = Cost(), time.perf_counter()
    ordered = sorted(prefixes, key=lambda prefix: len(prefix.steps))
    try:
        for prefix in ordered:
            for verdict in await verifier.score([prefix]):
                cost += verdict.cost
    except Exception:  # told by the laws
        return None
    return Speed(len(ordered), time.perf_counter() - began, cost)


if __name__ == "__main__":
    runpy.run_module("experiments.check", run_name="__main__")
