"""An ensemble of verifiers: means by hand, the laws, and less noise in what a search follows."""

import random
import statistics
from dataclasses import dataclass

import pytest

from search.errors import ConfigError, VerifierError
from search.types import Cost, Finish, Prefix, Segment, Verdict
from verifiers.ensemble import Ensemble, disagreement
from verifiers.testing import check_verifier
from verifiers.toy import Hidden

PROMPT = Segment((0,), "q")
PREFIXES = [
    Prefix(PROMPT) + Segment((1,), "a"),
    Prefix(PROMPT) + Segment((1,), "a") + Segment((2,), "b", (), Finish.END),
]


@dataclass(frozen=True)
class Says:
    """Always the same."""

    value: float
    steps: tuple = ()

    async def score(self, prefixes):
        return [Verdict(self.value, self.steps, Cost(passes=1, read=3)) for _ in prefixes]


@dataclass(frozen=True)
class Blurred:
    """The truth, 0.5, and noise of its own."""

    seed: int

    async def score(self, prefixes):
        return [Verdict(random.Random(f"{self.seed} {prefix.digest}").random()) for prefix in prefixes]


async def test_by_hand():
    two = [Says(0.2, (0.4, 0.2)), Says(0.8, (0.6, 1.0))]
    (verdict,) = await Ensemble(two).score(PREFIXES[:1])
    assert (verdict.value, verdict.steps) == (pytest.approx(0.5), pytest.approx((0.5, 0.6)))
    assert verdict.cost == Cost(passes=2, read=6)
    (careful,) = await Ensemble(two, caution=0.5).score(PREFIXES[:1])
    assert (careful.value, careful.steps) == (pytest.approx(0.35), pytest.approx((0.45, 0.4)))
    (shy,) = await Ensemble(two, caution=9).score(PREFIXES[:1])
    assert shy.value == 0.0
    assert [disagreement([0.2, 0.8]), disagreement([0.7]), disagreement([0, 1])] == pytest.approx([0.3, 0, 0.5])


async def test_step_values_that_do_not_match_are_left_out():
    (verdict,) = await Ensemble([Says(0.2, (0.2,)), Says(0.4)]).score(PREFIXES[:1])
    assert verdict.steps == () and verdict.value == pytest.approx(0.3)


async def test_it_keeps_the_laws_of_a_verifier():
    await check_verifier(Ensemble([Hidden("ab"), Hidden("ba", strict=True), Says(0.3)], caution=0.2), PREFIXES)


async def test_of_one_it_is_that_one():
    assert await Ensemble([Hidden("ab")]).score(PREFIXES) == await Hidden("ab").score(PREFIXES)


async def test_more_verifiers_vary_less():
    prefixes = [Prefix(PROMPT) + Segment((i,), str(i)) for i in range(400)]
    spread = {}
    for n in (1, 4):
        values = [verdict.value for verdict in await Ensemble([Blurred(i) for i in range(n)]).score(prefixes)]
        spread[n] = statistics.stdev(values)
    assert spread[4] == pytest.approx(spread[1] / 2, rel=0.15)


async def test_it_enters_binds_and_names_its_verifiers():
    @dataclass(frozen=True)
    class Needs:
        log: list

        def bind(self, item):
            return Says(item)

        async def __aenter__(self):
            self.log.append("in")

        async def __aexit__(self, *error):
            self.log.append("out")

    log = []
    ensemble = Ensemble([Needs(log), Says(0.4)])
    async with ensemble:
        assert log == ["in"]
    assert log == ["in", "out"]
    (verdict,) = await ensemble.bind(0.8).score(PREFIXES[:1])
    assert verdict.value == pytest.approx(0.6)
    assert Ensemble([Hidden("ab"), Says(1.0)]).fingerprint != Ensemble([Hidden("ab"), Says(0.5)]).fingerprint


async def test_a_verifier_that_says_too_little_is_caught():
    @dataclass(frozen=True)
    class Mute:
        async def score(self, prefixes):
            return []

    with pytest.raises(VerifierError):
        await Ensemble([Mute()]).score(PREFIXES)


@pytest.mark.parametrize(("fields", "field"), [({"verifiers": ()}, "verifiers"), ({"caution": -1}, "caution")])
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        Ensemble(**({"verifiers": (Says(1.0),)} | fields))
    assert caught.value.field == field
