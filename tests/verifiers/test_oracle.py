"""The test double tells the truth when asked to, and errs as often as it says it does."""

import asyncio
import math
import random
from statistics import NormalDist, fmean
from types import SimpleNamespace

import pytest

from experiments.problems import arithmetic, countdown
from search.errors import ConfigError
from search.types import Finish, Prefix, Segment
from verifiers.oracle import Oracle

PUZZLE = SimpleNamespace(id="p", question="Make 24 from 4 9 10 13.", fields={"numbers": (4, 9, 10, 13), "target": 24})
SUM = SimpleNamespace(id="a", question="Compute 24+(34*6-18).", fields={})


def path(*lines: str, end: bool = False) -> Prefix:
    prefix = Prefix(Segment((), "?"))
    for line in lines[:-1] if end else lines:
        prefix += Segment((), f"{line}\n\n")
    return prefix + Segment((), lines[-1], finish=Finish.END) if end else prefix


def values(oracle: Oracle, item, *prefixes: Prefix) -> list[float]:
    return [verdict.value for verdict in asyncio.run(oracle.bind(item).score(prefixes))]


GOOD = ("13-9=4 (left: 4 4 10)", "10-4=6 (left: 4 6)", "4*6=24 (left: 24)", r"\boxed{(13-9)*(10-4)}")


@pytest.mark.parametrize(
    ("lines", "end", "sound"),
    [
        (GOOD[:1], False, True),
        (GOOD[:3], False, True),
        (GOOD, True, True),
        (GOOD, False, True),
        (GOOD[:3], True, False),  # it ends without an answer
        (("13-9=5 (left: 4 5 10)",), False, False),
        (("13+9=22 (left: 4 10 22)",), False, False),  # valid, but 24 is out of reach
        (("13-9=5 (left: 4 5 10)", GOOD[3]), True, True),  # a right answer is right
        ((r"\boxed{13+9+10-4}",), True, False),
        (("13-9=4 (left: 4",), False, False),
    ],
)
def test_the_truth_of_countdown(lines, end, sound):
    assert values(Oracle(), PUZZLE, path(*lines, end=end)) == [float(sound)]


@pytest.mark.parametrize(
    ("lines", "end", "sound"),
    [
        (("34*6=204, 24+(204-18)",), False, True),
        (("34*6=206, 24+(206-18)",), False, False),
        (("34*6=204, 24+(206-18)",), False, False),
        (("34*6=206, 24+(206-18)", r"\boxed{210}"), True, True),
        ((r"\boxed{210}",), True, True),
        ((r"\boxed{211}",), True, False),
        (("34*6=204, 24+(204-18)",), True, False),
    ],
)
def test_the_truth_of_arithmetic(lines, end, sound):
    assert values(Oracle(), SUM, path(*lines, end=end)) == [float(sound)]


def test_step_values_are_those_of_the_shorter_prefixes():
    for oracle in (Oracle(), Oracle(separation=1.5, seed=3)):
        (verdict,) = asyncio.run(oracle.bind(PUZZLE).score([path(*GOOD, end=True)]))
        shorter = [path(*GOOD[:k]) for k in range(1, 4)]
        assert list(verdict.steps) == [*values(oracle, PUZZLE, *shorter), verdict.value]


def test_generated_solutions_are_sound_throughout():
    rng = random.Random(5)
    for _ in range(20):
        puzzle = countdown.sample(rng)
        item = SimpleNamespace(id="x", question=puzzle.question, fields={})
        (verdict,) = asyncio.run(Oracle().bind(item).score([path(*countdown.solve(puzzle, rng), end=True)]))
        assert set(verdict.steps) == {1.0}
        problem = arithmetic.sample(rng)
        item = SimpleNamespace(id="x", question=problem.question, fields={})
        (verdict,) = asyncio.run(Oracle().bind(item).score([path(*arithmetic.solve(problem), end=True)]))
        assert set(verdict.steps) == {1.0}


@pytest.mark.parametrize("separation", [0.0, 1.0, 2.0])
def test_its_quality_is_what_it_says(separation):
    oracle = Oracle(separation, seed=1)
    digests = [k.to_bytes(16, "big") for k in range(2000)]
    good, bad = ([oracle.value(sound, digest) for digest in digests] for sound in (True, False))
    pairs = list(zip(good, bad[1:] + bad[:1], strict=True))
    area = fmean((g > b) + 0.5 * (g == b) for g, b in pairs)
    assert area == pytest.approx(NormalDist().cdf(separation / math.sqrt(2)), abs=0.035)
    assert all(0 <= value <= 1 for value in good + bad)


def test_it_is_calibrated_where_both_are_equally_frequent():
    oracle = Oracle(1.0, seed=2)
    told = [(oracle.value(k % 2 == 0, k.to_bytes(16, "big")), k % 2 == 0) for k in range(6000)]
    high = [truth for value, truth in told if 0.7 < value < 0.8]
    assert len(high) > 300 and fmean(high) == pytest.approx(0.75, abs=0.06)


def test_noise_is_a_function_of_seed_and_prefix():
    one = path(GOOD[0])
    assert values(Oracle(1.0), PUZZLE, one) == values(Oracle(1.0), PUZZLE, one)
    assert values(Oracle(1.0, seed=1), PUZZLE, one) != values(Oracle(1.0, seed=2), PUZZLE, one)
    assert len(set(values(Oracle(1.0), PUZZLE, *(path(GOOD[0], line) for line in GOOD[1:])))) == 3


def test_it_calls_itself_a_test_double():
    assert "test double" in Oracle().fingerprint and "TEST DOUBLE" in (Oracle.__doc__ or "")
    assert Oracle(1.0).fingerprint != Oracle(2.0).fingerprint


def test_what_it_does_not_know():
    with pytest.raises(ConfigError, match="countdown and arithmetic only"):
        Oracle().bind(SimpleNamespace(id="w", question="How many?", fields={}))
    with pytest.raises(ConfigError, match="at most 6"):
        Oracle().bind(SimpleNamespace(id="p", question="Make 24 from 1 2 3 4 5 6 7.", fields={}))
    with pytest.raises(ConfigError, match="separation"):
        Oracle(separation=-1.0)
