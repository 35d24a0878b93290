"""Combinations against numbers by hand; what they open, bind, ask and pay."""

import asyncio
import math
from dataclasses import dataclass, field

import pytest

from search.errors import ConfigError, VerifierError
from search.ports import Binds
from search.types import Cost, Finish, Prefix, Segment, Verdict
from verifiers.combine import Aggregate, Cascade, Least, Product, Rescaled, Weighted
from verifiers.curves import Isotonic, Temperature
from verifiers.testing import check_verifier
from verifiers.toy import Hidden


def prefix(*texts):
    return Prefix(Segment((1,), "?"), tuple(Segment((2,), text, (-1.0,)) for text in texts), "?")


@dataclass(frozen=True)
class Given:
    """Says of every prefix what it was told; notes when it was opened and what it was asked."""

    value: float = 0.5
    steps: tuple[float, ...] = ()
    cost: Cost = Cost(passes=1)
    log: list = field(default_factory=list, compare=False, repr=False)

    @property
    def fingerprint(self):
        return f"given {self.value} {self.steps}"

    async def __aenter__(self):
        self.log.append("in")
        return self

    async def __aexit__(self, *_):
        self.log.append("out")

    async def score(self, prefixes):
        self.log.append(len(prefixes))
        return [Verdict(self.value, self.steps, self.cost) for _ in prefixes]


def verdict(verifier, one=None):
    async def main():
        async with verifier:
            return (await verifier.score([one or prefix("a", "b", "c")]))[0]

    return asyncio.run(main())


STEPS = (0.8, 0.2, 0.5)


@pytest.mark.parametrize(
    ("how", "window", "value"),
    [("mean", 2, 0.35), ("min", 1, 0.5), ("min", 2, 0.2), ("prod", 2, 0.1), ("mean", 9, 0.5), ("last", 2, 0.5)],
)
def test_a_window_takes_the_latest_steps(how, window, value):
    assert verdict(Aggregate(Given(steps=STEPS), how, window)).value == pytest.approx(value)
    with pytest.raises(ConfigError, match="window"):
        Aggregate(Given(), how, 0)


def test_several_are_combined_step_by_step():
    two = (Given(0.9, (0.8, 0.6, 0.4), Cost(passes=1, read=7)), Given(0.5, (0.5, 0.5, 0.1), Cost(passes=2, read=1)))
    found = verdict(Weighted(two, (3, 1)))
    assert (found.value, found.steps) == (pytest.approx(0.8), pytest.approx((0.725, 0.575, 0.325)))
    assert found.cost == Cost(passes=3, read=8)
    assert verdict(Weighted(two)).value == pytest.approx(0.7)
    found = verdict(Product(two))
    assert (found.value, found.steps) == (pytest.approx(0.45), pytest.approx((0.4, 0.3, 0.04)))
    found = verdict(Least(two))
    assert (found.value, found.steps) == (0.5, (0.5, 0.5, 0.1))
    assert verdict(Least((*two, Given(0.7)))).steps == (), "one gives none"
    with pytest.raises(VerifierError, match="different numbers"):
        verdict(Product((*two, Given(0.7, (0.1,)))))


def test_a_weighted_mean_of_equal_values_is_that_value():
    same = tuple(Given(1.0) for _ in range(3))
    assert verdict(Weighted(same, (0.1, 0.2, 0.7))).value == 1.0


@pytest.mark.parametrize(("value", "asked"), [(0.1, False), (0.2, False), (0.21, True), (0.79, True), (0.8, False)])
def test_a_cascade_asks_the_dear_one_only_when_unsure(value, asked):
    dear = Given(0.33, (0.1, 0.2, 0.33), Cost(passes=1, read=100))
    found = verdict(Cascade(Given(value, cost=Cost(passes=1, read=5)), dear))
    assert found.value == (0.33 if asked else value)
    assert found.cost.read == (105 if asked else 5) and found.cost.passes == 1 + asked
    assert dear.log == (["in", 1, "out"] if asked else ["in", "out"])


def test_a_cascade_sends_on_only_what_is_unsure():
    @dataclass(frozen=True)
    class ByLength:
        async def score(self, prefixes):
            return [Verdict(len(one.steps) / 10) for one in prefixes]

    dear = Given(0.99)
    many = [prefix(*"x" * n) for n in (1, 5, 9, 3, 8)]
    found = asyncio.run(Cascade(ByLength(), dear).score(many))
    assert [v.value for v in found] == [0.1, 0.99, 0.9, 0.99, 0.8] and dear.log == [2]


def test_rescaling_bends_values_and_steps():
    curve = Isotonic((0.2, 0.8), (0.0, 0.6))
    found = verdict(Rescaled(Given(0.5, STEPS), curve))
    assert (found.value, found.steps) == (pytest.approx(0.3), pytest.approx((0.6, 0.0, 0.3)))
    told = {"kind": "temperature", "temperature": 2.0, "bias": 0.0}
    assert verdict(Rescaled(Given(0.9), told)).value == Temperature(2.0)(0.9) == pytest.approx(0.75)


def test_parts_are_opened_once_and_closed():
    one, two = Given(0.1), Given(0.2)
    verdict(Weighted((one, two, one)))
    assert one.log == ["in", 1, 1, "out"] and two.log == ["in", 1, "out"]

    class Broken(Given):
        async def __aenter__(self):
            raise ConfigError("model", "x", "there is none")

    first = Given()
    with pytest.raises(ConfigError, match="there is none"):
        verdict(Weighted((first, Broken())))
    assert first.log == ["in", "out"]


def test_parts_that_need_the_item_are_bound():
    @dataclass(frozen=True)
    class Needs:
        def bind(self, item):
            return Given(item)

    whole = Weighted((Rescaled(Aggregate(Needs()), Temperature()), Cascade(Given(0.5), Needs())))
    assert isinstance(whole, Binds)
    bound = whole.bind(0.25)
    assert bound.verifiers[0].verifier.prm == Given(0.25) and bound.verifiers[1].dear == Given(0.25)
    assert bound.verifiers[1].cheap == Given(0.5) and whole.verifiers[1].dear == Needs()


def test_fingerprints_tell_parts_and_settings_apart():
    a, b = Given(0.1), Given(0.2)
    made = [
        Weighted((a, b)), Weighted((b, a)), Weighted((a, b), (1, 2)), Product((a, b)), Least((a, b)), Cascade(a, b),
        Cascade(a, b, 0.1), Rescaled(a, Temperature()), Rescaled(a, Temperature(2.0)), Aggregate(a),
        Aggregate(a, "min"), Aggregate(a, "min", 2),
    ]  # fmt: skip
    assert len({one.fingerprint for one in made}) == len(made)


def test_settings_are_checked():
    for make, name in [
        (lambda: Weighted(()), "verifiers"),
        (lambda: Weighted((Given(),), (1, 2)), "weights"),
        (lambda: Weighted((Given(),), (-1,)), "weights"),
        (lambda: Weighted((Given(),), (0,)), "weights"),
        (lambda: Weighted((Given(),), (math.nan,)), "weights"),
        (lambda: Cascade(Given(), Given(), 0.5, 0.5), "low"),
        (lambda: Rescaled(Given(), {"kind": "cubic"}), "calibration"),
    ]:
        with pytest.raises(ConfigError, match=name):
            make()


def test_combinations_keep_the_laws():
    many = [prefix(*"abcab"[:n]) for n in range(1, 5)] + [
        Prefix(Segment((1,), "?"), (Segment((2,), "ab", (-1.0,), Finish.END),), "?")
    ]
    good, bad = Hidden("abcab"), Hidden("abbbb")
    for one in (
        Weighted((good, bad)), Product((good, bad)), Least((good, bad)), Cascade(good, bad, 0.1, 0.9),
        Rescaled(good, Temperature(0.5)), Aggregate(good, "mean", 2),
    ):  # fmt: skip
        asyncio.run(check_verifier(one, many))
