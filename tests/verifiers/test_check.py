"""What the check says of verifiers that keep the laws, and of broken ones: each breaks the law it should."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from search.types import Cost, Finish, Prefix, Segment, Verdict
from verifiers.check import examine, merged, told
from verifiers.toy import Hidden


def prefix(text, last=Finish.STEP):
    ends = [*[Finish.STEP] * (len(text) - 1), last]
    steps = tuple(Segment((ord(c),), c, (-1.0,), end) for c, end in zip(text, ends, strict=True))
    return Prefix(Segment((1,), "?"), steps, "?")


MANY = [prefix("abcab"[:n]) for n in range(1, 5)] + [prefix("abc", Finish.END)]


@dataclass(frozen=True)
class Bent:
    """A good verifier with one fault."""

    fault: str
    inner: Hidden = Hidden("abxxx")
    asked: list = field(default_factory=list)

    async def score(self, prefixes):
        self.asked.append(len(prefixes))
        found = await self.inner.score(prefixes)
        match self.fault:
            case "empty_batch":
                return found or [Verdict(0.5)]
            case "keeps_the_contract":
                return [replace(verdict, value=1.5) for verdict in found]
            case "judges_alike":
                return [replace(verdict, value=1 / len(self.asked)) for verdict in found]
            case "batch_is_one_by_one":
                return [replace(verdict, value=verdict.value / len(prefixes)) for verdict in found]
            case "one_value_per_step":
                return [replace(verdict, steps=verdict.steps[:-1] or (0.1, 0.2)) for verdict in found]
            case "earlier_steps_stay":
                return [replace(verdict, steps=(verdict.value,) * len(verdict.steps)) for verdict in found]
        return found


def broken(verifier):
    findings, speed = asyncio.run(examine(verifier, MANY))
    return [each.law for each in findings if not each.holds], findings, speed


def test_nothing_is_said_against_a_good_verifier():
    names, findings, speed = broken(Bent("none"))
    assert names == [] and len(findings) == 6
    assert speed.passes == 5 and speed.cost == sum((Cost(passes=1, read=1 + len(p.steps)) for p in MANY), Cost())
    text = told(findings, [speed, speed])
    assert text.count("holds ") == 6 and "BROKEN" not in text and "4.4 tokens computed" not in text
    assert f"{speed.cost.read / 5:.1f} tokens computed" in text and "0% of all tokens" in text


@pytest.mark.parametrize(
    "fault",
    [
        "empty_batch",
        "keeps_the_contract",
        "judges_alike",
        "batch_is_one_by_one",
        "one_value_per_step",
        "earlier_steps_stay",
    ],
)
def test_each_fault_is_found_and_named(fault):
    names, findings, _ = broken(Bent(fault))
    assert fault in names
    assert set(names) <= {fault, "batch_is_one_by_one", "judges_alike", "earlier_steps_stay"}, "others hold"
    assert f"BROKEN  {fault}" in told(findings, [])


def test_a_verifier_that_raises_is_told_and_not_raised():
    class Raises:
        async def score(self, prefixes):
            raise ZeroDivisionError("by zero")

    names, findings, speed = broken(Raises())
    assert len(names) == 6 and speed is None and "ZeroDivisionError: by zero" in told(findings, [])


def test_findings_of_several_problems_become_one():
    good, bad = (broken(Bent(fault))[1] for fault in ("none", "keeps_the_contract"))
    assert [each.holds for each in merged([good, bad])] == [each.holds for each in bad]
    assert [each.holds for each in merged([good, good])] == [True] * 6
