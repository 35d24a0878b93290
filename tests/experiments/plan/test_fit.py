"""Times per step, row, prompt token and call are found again in steps made of them; what is not told is refused."""

from __future__ import annotations

import random
from dataclasses import asdict

import pytest

from experiments.plan.fit import fitted, relative
from experiments.plan.host import Host
from experiments.plan.paced import Paced
from policies.engine.pace import Did, Pace
from search.errors import ConfigError

TRUE = {"steps": 2e-3, "rows": 5e-5, "read": 2e-5, "calls": 1e-4}


def steps(count, make, *, noise=0.0, seed=0, true=TRUE):
    """What a replica tells after so many steps."""
    rng, pace = random.Random(seed), Pace("cpu", 1)
    for _ in range(count):
        did = make(rng)
        took = true["steps"] + true["rows"] * did.rows + true["read"] * did.read + true["calls"] * did.calls
        pace.observe(did, took * (1 + noise * rng.gauss(0, 1)))
    return {**pace.told(), "process": 1, "processor": 1e9}


def mixed(rng):
    rows, calls = rng.randrange(1, 200), rng.choice((0, 0, 1, 4, 16))
    return Did(rows, rows, calls * rng.choice((1, 1, 40, 200)), calls)


def verdicts(rng):
    calls = rng.choice((1, 2, 8, 16))
    return Did(0, 0, sum(rng.randrange(5, 60) for _ in range(calls)), calls)


@pytest.mark.parametrize(("noise", "within"), [(0.0, 1e-6), (0.2, 0.1)])
def test_coefficients_are_found_again(noise, within):
    found = fitted([steps(2000, mixed, noise=noise)])
    for cause, wanted in TRUE.items():
        assert found.each[cause] == pytest.approx(wanted, rel=within), cause
    whole = sum(found.each[cause] * total for cause, total in found.totals.items())
    assert whole == pytest.approx(found.seconds, rel=1e-6), "the seconds of all steps are those measured"


def test_replicas_are_taken_together():
    parts = [steps(300, mixed, noise=0.1, seed=seed) for seed in (1, 2)]
    both = fitted(parts)
    assert both.totals["steps"] == 600
    assert both.each["steps"] == pytest.approx(TRUE["steps"], rel=0.1)


def test_a_verifier_has_no_rows():
    found = fitted([steps(500, verdicts, noise=0.05)])
    assert "rows" not in found.each and found.told("rows", "verifier.full", "-") == 0
    assert found.each["read"] == pytest.approx(TRUE["read"], rel=0.1)


def test_calls_that_come_with_as_many_tokens_each_are_laid_to_these():
    def alike(rng):
        calls, rows = rng.randrange(0, 17), rng.randrange(1, 200)
        return Did(rows, rows, 11 * calls, calls)

    found = fitted([steps(500, alike)])
    assert found.each["calls"] == 0
    assert found.each["read"] == pytest.approx(TRUE["read"] + TRUE["calls"] / 11, rel=1e-3)
    assert found.each["rows"] == pytest.approx(TRUE["rows"], rel=1e-3), "the others are told all the same"


def test_what_always_comes_together_is_not_told_apart():
    """As many new tokens as rows, always: which of them took the time?"""

    def alike(rng):
        rows = rng.randrange(1, 200)
        return Did(rows, rows, rows, rng.randrange(0, 17))

    found = fitted([steps(500, alike)])
    assert found.each["read"] is None and found.each["rows"] is None
    with pytest.raises(ConfigError) as refused:
        found.told("read", "policy.prefill", "give policy.prefill")
    assert refused.value.field == "policy.prefill" and "500 steps" in str(refused.value)
    assert "give policy.prefill" in str(refused.value)


def test_steps_that_are_all_alike_tell_nothing():
    found = fitted([steps(500, lambda rng: Did(4, 4, 0, 0))])
    assert found.each["steps"] is None and found.each["rows"] is None


def test_few_steps_of_much_noise_tell_nothing():
    assert None in fitted([steps(12, mixed, noise=0.8)]).each.values()


def test_nothing_is_free():
    """Prompt tokens that cost less than the noise hides get what it may hide."""
    found = fitted([steps(3000, mixed, noise=0.1, true={**TRUE, "read": -1e-7})])
    assert 0 < found.each["read"] < 1e-5


def run_of(policy, verifier=None, **driver):
    told = {"processor": 3.0, "wall": 10.0, "requests": 1000, "process": 0, **driver}
    return Paced.of({"cores": 2, "driver": told, "policy": [policy], "verifier": [verifier] if verifier else []})


def test_stations_of_a_run():
    policy, verifier = steps(2000, mixed), steps(500, verdicts)
    policy["processor"] = policy["sums"][-1][-1] + 0.5
    verifier["processor"] = verifier["sums"][-1][-1]
    found = run_of(policy, verifier)
    assert found.driver() == pytest.approx(0.003) and found.shares("policy")
    assert found.spent("policy") == policy["processor"]
    station = found.station("policy", {"rows": 64, "price": 2.5})
    assert station.step(1) == pytest.approx(TRUE["steps"] + TRUE["rows"])
    assert station.step(64) == pytest.approx(TRUE["steps"] + 64 * TRUE["rows"])
    assert 1 / station.prefill == pytest.approx(TRUE["read"], rel=1e-4)
    beside = 0.5 / policy["sums"][3][-1]
    assert station.call == pytest.approx(TRUE["calls"] + beside, rel=1e-4), "what the process does beside its steps"
    assert (station.rows, station.price) == (64, 2.5)
    judge = found.station("verifier", {})
    assert judge.step(1) == pytest.approx(judge.step(100)) == pytest.approx(TRUE["steps"])


def test_times_are_those_of_a_processor_that_computes_alone():
    """The driver took 3 of 10 seconds and the policy 9: each was crowded for as long as the other was at work."""
    policy = steps(2000, mixed)
    policy["processor"] = 9.0
    found, host = run_of(policy), Host(cores=2, crowding=0.5, stations=("policy", "driver"))
    assert found.driver(host) == pytest.approx(0.003 / (1 + 0.5 * 0.9))
    crowded, alone = found.station("policy", {}), found.station("policy", {}, host)
    assert crowded.step(30) / alone.step(30) == pytest.approx(1 + 0.5 * 0.3)
    assert alone.prefill / crowded.prefill == pytest.approx(1 + 0.5 * 0.3)
    assert crowded.call / alone.call == pytest.approx(1 + 0.5 * 0.3)


def test_requests_are_on_their_way_for_what_is_left():
    """Of 1,000 requests 50 ms away each, 30 were with the model; its process took 2 more to take them in."""
    policy = {**steps(2000, mixed), "inside": 30.0}
    calls = policy["sums"][3][-1]
    policy["processor"] = policy["sums"][-1][-1] + 0.002 * calls
    told = {"processor": 3.0, "wall": 100.0, "requests": 1000, "process": 0}
    found = Paced.of(
        {"cores": 2, "driver": told, "away": {"policy": {"seconds": 50.0, "items": 1000}}, "policy": [policy]}
    )
    assert found.station("policy", {}).way == pytest.approx(0.05 - 0.03 - 0.002)
    twice = Paced.merged([found, found])
    assert twice.station("policy", {}).way == pytest.approx(0.018) and twice.driver() == found.driver()


def test_what_is_given_needs_not_be_told():
    policy = steps(500, lambda rng: Did(4, 4, 0, 0))
    found = run_of(policy)
    with pytest.raises(ConfigError) as refused:
        found.station("policy", {})
    assert refused.value.field == "policy.rate" and "more problems" in str(refused.value)
    given = {"rate": 50.0, "full": 400.0, "rows": 64, "prefill": 1000.0, "call": 0.001}
    assert given.items() <= asdict(found.station("policy", given)).items()


def test_tokens_of_speculation_make_a_row_faster():
    def guessed(rng):
        did = mixed(rng)
        return did._replace(drawn=3 * did.rows)

    plain, fast = (run_of(steps(1000, make)).station("policy", {}) for make in (mixed, guessed))
    assert fast.step(20) == pytest.approx(plain.step(20) / 3)


def test_a_run_that_asked_nothing_tells_nothing():
    assert run_of(steps(10, mixed), requests=0) is None


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_trials_tell_what_varies_in_them(noise):
    """A verifier's call and its tokens: told where the length of prompts varies by itself, else not."""
    rng, lines, times, alike = random.Random(1), [], [], []
    for count in (1, 4, 16) * 30:
        read = count * rng.choice((50, 300))
        lines.append((count, read))
        alike.append((count, 50 * count))
        times.append((1e-3 * count + 2e-5 * read) * (1 + noise * rng.gauss(0, 1)))
    call, reading = relative(lines, times)
    assert call == pytest.approx(1e-3, rel=1e-6 + noise) and reading == pytest.approx(2e-5, rel=1e-6 + 2 * noise)
    assert relative(alike, times) == [None, None], "as the trials were before, and came out as nothing per call"
