"""Explore-Execute: which plans are drawn, chosen and carried out, and at what cost."""

from collections import Counter

import pytest

from policies.toy import Toy
from search.algorithms.explore_execute import ExploreExecute
from search.cluster import characters
from search.errors import ConfigError
from search.run import run
from search.steps import Delimiter, Tokens
from search.types import Cost, Finish, Reply, Segment, Verdict
from verifiers.toy import Hidden

MANY = Toy("".join(map(chr, range(0x4E00, 0x4E00 + 3000))), length=6)


class Planner:
    """Draws the plans given, in turn, and carries each out to the same end; one token per word."""

    def __init__(self, *plans):
        self.plans, self.requests = plans, []

    def write(self, text):
        return Segment(tuple(map(ord, text)), text)

    def turn(self, text):
        return self.write(text)

    def prompt(self, messages):
        return Segment((1,), messages[-1]["content"])

    async def sample(self, requests):
        self.requests += requests
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        if "Choice" in request.prefix.prompt.text:
            texts, finish = ["The best choice is 2"], Finish.END
        elif request.sampling.until is None:
            texts, finish = ["done"], Finish.END
        else:
            texts, finish = self.plans, Finish.STEP
        segments = [self._segment(texts[i % len(texts)], finish) for i in range(len(request.seeds))]
        return Reply(tuple(segments), Cost(generated=sum(len(x.tokens) for x in segments), policy_calls=1))

    def _segment(self, text, finish):
        tokens = tuple(sum(map(ord, word)) for word in text.split())
        return Segment(tokens, text, (-1.0,) * len(tokens), Finish.END if "ended" in text else finish)


class Marks:
    """Likes the plans with an x best."""

    async def score(self, prefixes):
        return [Verdict(min(1.0, prefix.text.count("x") / 4)) for prefix in prefixes]


# Two families: adding (drawn 3 + 1 + 1 times) and whales (2 + 1)
PLANS = ("add a and b", "sing of whales", "add a and b", "add b and c", "sing to whales", "add a to b") + (
    "add a and b",
    "sing of whales",
)


async def test_the_central_plan_of_the_largest_cluster_is_carried_out(session):
    policy = Planner(*PLANS)
    s = session(policy, None)
    outcome = await run(ExploreExecute(plans=8, apart=0.7), s)
    assert outcome.answer.prefix.text == "add a and bdone"
    plans = s.root.children
    assert {plan.segment.text: plan.notes["drawn"] for plan in plans} == Counter(PLANS)
    assert [plan.notes["cluster"] for plan in plans] == [0, 1, 0, 1, 0]
    assert [plan.pruned for plan in plans] == [False, True, True, True, True]
    assert outcome.spent.generated == sum(len(plan.split()) for plan in PLANS) + 1


async def test_further_plans_come_from_further_clusters(session):
    s = session(Planner(*PLANS), None)
    outcome = await run(
        ExploreExecute(plans=8, executions=5, apart=0.7, embed=characters),
        s,
    )
    assert [node.prefix.text for node in s.tree.answers()] == ["add a and bdone", "sing of whalesdone"]
    assert outcome.answer is not None and outcome.candidates == 2


class Heaviest(ExploreExecute):
    """Broken: counts different plans, not draws."""

    def centres(self, s, plans):
        for plan in plans:
            s.note(plan, drawn=1)
        return super().centres(s, plans)


class Apart(ExploreExecute):
    """Broken: the plan farthest from the others stands for its cluster."""

    def centres(self, s, plans):
        return super().centres(s, plans)[::-1]


async def test_broken_copies_choose_another(session):
    # whales twice by two plans, adding three times by one
    plans = ("sing of whales", "add a and b", "sing to whales", "add a and b", "add a and b")
    for search, wanted in ((ExploreExecute, "add a and bdone"), (Heaviest, "sing of whalesdone"), (Apart, "sing")):
        outcome = await run(search(plans=5, apart=0.7), session(Planner(*plans), None))
        assert outcome.answer.prefix.text.startswith(wanted)


async def test_the_verifier_may_choose(session):
    s = session(Planner("a", "x", "x x x", "x x"), Marks())
    outcome = await run(ExploreExecute(plans=4, choose="verifier"), s)
    assert outcome.answer.prefix.text == "x x xdone"
    assert outcome.spent.passes == 4
    s = session(Planner("a", "x", "x x x", "x x"), Marks())
    await run(ExploreExecute(plans=4, choose="verifier", executions=2), s)
    assert [node.prefix.text for node in s.tree.answers()] == ["x x xdone", "x xdone"]


async def test_a_judge_may_choose(session):
    judge = Planner()
    s = session(Planner("a", "b", "c"), None, roles={"judge": judge})
    outcome = await run(ExploreExecute(plans=3, choose="vote", votes=3), s)
    assert outcome.answer.prefix.text == "bdone"
    assert s.root.notes == {"votes": 3, "invalid_votes": 0}
    assert "Choice 3:\nc" in judge.requests[0].prefix.prompt.text
    with pytest.raises(ConfigError, match=r"roles\.judge"):
        await run(ExploreExecute(choose="vote"), session(Planner("a"), None))


async def test_one_plan_is_plan_then_solve(session):
    for choose in ("cluster", "verifier"):
        s = session(MANY, Hidden("abc"))
        outcome = await run(ExploreExecute(plans=1, plan_steps=3, choose=choose, temperature=None), s)
        plain = session(MANY, Hidden("abc"))
        node = plain.root
        for _ in range(3):
            (node,) = await plain.expand(node, 1)
        leaf = await plain.complete(node)
        assert outcome.answer.prefix.text == leaf.prefix.text


async def test_the_same_plan_is_carried_out_the_same_way(session):
    chain = {"": {"a": 0.9, "b": 0.1}, "a": {"a": 0.6, "b": 0.3, ".": 0.1}, "b": {"b": 0.4, "a": 0.5, ".": 0.1}}
    ends = {}
    for seed in range(20):
        s = session(Toy("ab", length=6, chain=chain), None, seed=seed)
        await ExploreExecute(plans=4, executions=4, apart=0.0)(s)
        for leaf in s.tree.answers():
            if leaf.depth == 2:
                assert ends.setdefault(leaf.parent.prefix.text, leaf.prefix.text) == leaf.prefix.text
    assert set(ends) == {"a", "b"}


async def test_executions_are_at_most_as_many_as_asked_for(session):
    for executions in (1, 2, 3, 9):
        s = session(MANY, Hidden("abc"))
        await ExploreExecute(plans=6, executions=executions, choose="verifier")(s)
        assert sum(node.completions for node in s.tree) == min(executions, 6)
        assert s.root.draws == 6


async def test_plans_have_steps_or_a_boundary_of_their_own(session):
    s = session(MANY, None)
    await ExploreExecute(plans=3, plan_steps=2)(s)
    assert [node.depth for node in s.tree if "drawn" in node.notes] == [2, 2, 2]
    s = session(Toy("ab;", length=20), None)
    await ExploreExecute(plans=3, until=Delimiter((";",)), plan_tokens=18, plan_temperature=2.0)(s)
    plans = [node for node in s.tree if "drawn" in node.notes]
    assert plans and all(plan.segment.text.endswith(";") for plan in plans)


async def test_text_of_others_stands_before_and_after_the_plan(session):
    policy = Planner("a", "b")
    s = session(policy, None)
    outcome = await run(ExploreExecute(plans=2, lead="Plan: ", handover=" Do it: ", apart=0.0), s)
    assert outcome.answer.prefix.text == "Plan: a Do it: done"
    assert [step.by for step in outcome.answer.prefix.steps] == ["environment", "policy", "environment", "policy"]

    class Mute:
        sample = policy.sample

    with pytest.raises(ConfigError, match="search.ports.Writes"):
        await run(ExploreExecute(lead="Plan: "), session(Mute(), None))


async def test_a_plan_that_answers_already_is_its_own_execution(session):
    s = session(Planner("ended", "ended", "go on"), None)
    outcome = await run(ExploreExecute(plans=3), s)
    assert outcome.answer.prefix.text == "ended"
    assert sum(node.completions for node in s.tree) == 0


async def test_plans_that_were_cut_are_dropped(session):
    s = session(Toy("ab", length=9), None)
    outcome = await run(ExploreExecute(until=Tokens(3), plan_tokens=2), s)
    assert (outcome.answer, outcome.stopped, len(s.tree.answers())) == (None, "done", 0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"plans": 0}, "plans"),
        ({"executions": 0}, "executions"),
        ({"plan_steps": 0}, "plan_steps"),
        ({"choose": "coin"}, "choose"),
        ({"until": Tokens(1), "plan_steps": 2}, "plan_steps"),
        ({"plan_temperature": 0.0}, "plan_temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"apart": 3.0}, "apart"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        ExploreExecute(**fields)
    assert caught.value.field == field
