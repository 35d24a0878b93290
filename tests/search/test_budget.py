"""Budgets: what is spent, what is checked, how they nest."""

import pickle
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.budget import JUDGING, KINDS, SAMPLING, Budget
from search.errors import BudgetExhausted, ConfigError
from search.types import Cost

costs = st.builds(Cost, generated=st.integers(0, 50), passes=st.integers(0, 5), policy_calls=st.integers(0, 3))


@given(st.lists(st.tuples(st.booleans(), costs), max_size=30))
def test_what_is_spent_inside_is_spent_outside(charges):
    outer = Budget()
    inner, sibling = Budget(parent=outer), Budget(parent=outer)
    for to_inner, cost in charges:
        (inner if to_inner else sibling).charge(cost)
    assert inner.spent + sibling.spent == outer.spent
    assert outer.spent == sum((cost for _, cost in charges), Cost())


@given(st.sampled_from(["generated", "passes", "policy_calls"]), st.integers(0, 60), st.lists(costs, max_size=20))
def test_the_first_check_after_the_line_stops(kind, limit, charges):
    budget = Budget({kind: limit})
    for cost in charges:
        budget.charge(cost)
        if getattr(budget.spent, kind) >= limit:
            with pytest.raises(BudgetExhausted) as caught:
                budget.check()
            assert (caught.value.kind, caught.value.limit) == (kind, limit)
            assert caught.value.spent == getattr(budget.spent, kind)
            assert caught.value.budget is budget
        else:
            budget.check()


def test_the_budget_that_stopped_is_named():
    experiment = Budget({"generated": 10})
    problem = Budget({"generated": 100}, experiment)
    phase = Budget({"passes": 5}, problem)
    phase.charge(Cost(generated=10))
    with pytest.raises(BudgetExhausted, match="generated: spent 10 of 10") as caught:
        phase.check()
    assert caught.value.budget is experiment


def test_wall_runs_from_the_first_check(clock):
    budget = Budget({"wall": 5}, clock=clock)
    clock.now = 100
    assert budget.wall == 0
    budget.check()
    clock.now = 104.5
    budget.check()
    assert budget.wall == 4.5
    clock.now = 105
    with pytest.raises(BudgetExhausted, match="wall: spent 5 of 5"):
        budget.check()


def test_only_what_a_call_spends_can_stop_it():
    budget = Budget({"generated": 1})
    budget.charge(Cost(generated=1))
    budget.check(JUDGING)
    with pytest.raises(BudgetExhausted):
        budget.check(SAMPLING)


def test_every_kind_stops_sampling_or_judging():
    assert set(KINDS) == SAMPLING | JUDGING


def test_strict_budgets_say_what_is_left():
    loose = Budget({"generated": 5})
    assert loose.allowance() == float("inf")
    outer = Budget({"generated": 100}, strict=True)
    inner = Budget({"generated": 30}, outer, strict=True)
    inner.charge(Cost(generated=10))
    assert (inner.allowance(), outer.allowance()) == (20, 90)
    outer.charge(Cost(generated=85))
    assert inner.allowance() == 5


@pytest.mark.parametrize(
    "limits", [{"tokens": 5}, {"generated": -1}, {"generated": float("nan")}, {"wall": "5"}, {"passes": True}]
)
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(ConfigError, match=f"budget.{next(iter(limits))}="):
        Budget(limits)


def test_null_is_no_limit():
    budget = Budget({"generated": None})
    budget.charge(Cost(generated=10**9))
    budget.check()


def test_config_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(ConfigError("budget.wall", -1, "give a number of at least 0")))
    assert str(error) == "budget.wall=-1 is not valid: give a number of at least 0"


def test_costs_add_in_every_field():
    ones = Cost(*(1 for _ in fields(Cost)))
    assert all(getattr(ones + ones, field.name) == 2 for field in fields(Cost))
