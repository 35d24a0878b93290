"""One run: nomination, selection, the end of a budget."""

from dataclasses import dataclass

import pytest

from search.algorithms.flat import Flat
from search.budget import Budget
from search.errors import PolicyError
from search.events import Finished
from search.run import run
from search.select import Best, First, Majority
from search.types import Cost, Sampling


@dataclass(frozen=True)
class Climb:
    """Completes the prompt again and again, and nominates by a rule of its own."""

    nominates: bool = True

    async def __call__(self, s):
        while True:
            await s.complete(s.root)

    def nominate(self, s):
        return s.tree.answers()[-1] if self.nominates and s.tree.answers() else None


async def test_a_nominated_node_is_the_answer(session):
    class Second:
        async def __call__(self, s):
            await s.complete(s.root)
            return await s.complete(s.root)

    s = session()
    outcome = await run(Second(), s)
    assert outcome.answer is s.tree.answers()[1]
    assert not outcome.answer.scored  # nothing had to be chosen
    assert (outcome.stopped, outcome.candidates) == ("done", 2)


async def test_the_selection_scores_what_it_needs(session):
    s = session()
    outcome = await run(Flat(9), s, Majority())
    assert outcome.spent.passes == 0
    outcome = await run(Flat(9), s := session(), Best())
    assert outcome.spent.passes == len(s.tree.answers())
    assert outcome.answer.score == max(node.score for node in s.tree.answers())


async def test_a_search_may_nominate_when_its_budget_ends(session):
    s = session(budget=Budget({"generated": 20}))
    outcome = await run(Climb(), s)
    assert outcome.stopped == "generated"
    assert outcome.answer is s.tree.answers()[-1]


async def test_a_budget_around_ends_a_search_as_its_own_does(session):
    experiment = Budget({"generated": 20})
    outcome = await run(Climb(), session(budget=Budget({"generated": 1000}, experiment)))
    assert outcome.stopped == "generated" and outcome.answer is outcome.tree.answers()[-1]
    assert outcome.spent == experiment.spent
    later = await run(Climb(), session(budget=Budget(parent=experiment)))
    assert (later.answer, later.stopped, later.spent) == (None, "generated", Cost())


async def test_else_the_selection_chooses_and_judging_is_still_paid_for(session):
    s = session(budget=Budget({"generated": 20}))
    outcome = await run(Climb(nominates=False), s)
    assert outcome.stopped == "generated"
    assert outcome.answer.score == max(node.score for node in s.tree.answers())
    assert outcome.spent.passes == len(s.tree.answers())


async def test_an_answer_is_found_even_when_nothing_is_left_for_judging(session):
    outcome = await run(Flat(4), session(budget=Budget({"passes": 0})))
    assert (outcome.stopped, outcome.answer.id) == ("passes", 1)
    assert outcome.spent.passes == 0


@pytest.mark.parametrize("truncated", [False, True])
async def test_paths_that_were_cut_stand_only_where_a_selector_says_so(session, truncated):
    outcome = await run(Flat(4), session(whole=Sampling(max_tokens=3)), Best(truncated=truncated))
    assert outcome.candidates == (4 if truncated else 0)
    assert (outcome.answer is not None) == truncated


async def test_complete_paths_come_before_those_that_were_cut(session):
    class Mixed:
        async def __call__(self, s):
            s.whole = Sampling(max_tokens=1)
            await s.complete(s.root)
            s.whole = Sampling()
            await s.complete(s.root)

    outcome = await run(Mixed(), session(), First(truncated=True))
    assert outcome.answer.complete


async def test_the_outcome_says_what_happened(session, clock):
    seen = []
    s = session(sinks=[seen.append], clock=clock)
    clock.now = 3.0
    outcome = await run(Flat(5), s)
    assert outcome.wall == 3.0
    assert outcome.tree is s.tree
    assert outcome.spent == s.budget.spent != Cost()
    assert seen[-1] == Finished(len(seen) - 1, 3.0, "done", outcome.answer.id, outcome.spent)


async def test_faults_are_not_ends(session):
    class Broken:
        async def sample(self, requests):
            raise PolicyError("no power")

    with pytest.raises(PolicyError, match="no power"):
        await run(Flat(1), session(policy=Broken()))
