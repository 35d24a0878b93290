"""The anytime variant of A*-decoding: it goes on after the first answer, against a full search by hand."""

import random

import pytest

from policies.toy import Toy
from search.algorithms.astar import AStar
from search.budget import Budget
from search.events import Charged
from search.run import run
from search.select import First
from search.types import Verdict


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


def expanded(seen):
    """Ids of the nodes expanded, in order."""
    return [event.node for event in seen if isinstance(event, Charged) and event.cost.policy_calls]


def informed(world, h, answers):
    """A search that knows the costs of `world` and the heuristic `h`."""
    return AStar(
        width=world.width,
        step_cost=lambda parent, child: world.cost[child.prefix.text],
        heuristic=lambda node: h[node.prefix.text],
        answers=answers,
    )


def goals_by_hand(world, h):
    """All complete words in the order a frontier that never stops gives them: an independent A* by exhaustion."""
    open_, order = [(h[""], 0, "")], []
    cost = {"": 0.0}
    while open_:
        f, _, word = open_.pop(open_.index(min(open_)))
        if word in world.goals:
            order.append((word, f))
            continue
        for child in world.children[word]:
            cost[child] = cost[word] + world.cost[child]
            open_.append((round(cost[child] + h[child], 6), -len(child), child))
    return order


@pytest.mark.parametrize("answers", [1, 2, 5, None])
async def test_the_anytime_variant_pops_answers_in_the_order_of_a_full_search(session, explicit, answers):
    for seed in range(20):
        rng = random.Random(seed)
        world = explicit(rng, depth=3)
        h = {word: rng.random() for word in world.togo}  # may overestimate: the first popped need not be the best
        outcome = await run(informed(world, h, answers), session(world, world))
        wanted = goals_by_hand(world, h)[:answers]
        popped = sorted((n for n in outcome.tree if "popped" in n.notes), key=lambda n: n.notes["popped"])
        assert [node.prefix.text for node in popped] == [word for word, _ in wanted]
        assert outcome.answer.notes["f"] == pytest.approx(min(f for _, f in wanted), abs=1e-6)


async def test_more_answers_are_the_same_search_gone_on(session):
    one, five = [], []
    first = await run(AStar(width=3), session(Toy(length=4), Noisy(), sinks=[one.append]))
    more = await run(AStar(width=3, answers=5), session(Toy(length=4), Noisy(), sinks=[five.append]))
    assert expanded(five)[: len(expanded(one))] == expanded(one)
    assert first.answer.prefix == next(n for n in more.tree if n.notes.get("popped") == 1).prefix
    assert more.answer.notes["f"] <= first.answer.notes["f"]


async def test_of_the_answers_popped_the_score_may_choose_or_the_selection(session):
    """Losses on the way make the answer of highest score not the one of least f."""
    different = 0
    for seed in range(20):
        by = {}
        for best in ("f", "score", "select"):
            outcome = await run(
                AStar(width=3, answers=6, best=best), session(Toy(length=4), Noisy(), seed=seed), First()
            )
            popped = [node for node in outcome.tree if "popped" in node.notes]
            by[best] = outcome.answer
        assert by["f"].notes["f"] == min(node.notes["f"] for node in popped)
        assert by["score"].score == max(node.score for node in popped)
        assert by["select"].id == min(node.id for node in outcome.tree.answers())
        different += by["f"].prefix != by["score"].prefix
    assert different > 3


async def test_when_the_budget_ends_the_best_of_what_was_popped_is_the_answer(session):
    search = AStar(width=3, answers=None)
    free = await run(search, session(Toy(length=4), Noisy()))
    cut = await run(search, session(Toy(length=4), Noisy(), budget=Budget({"generated": free.spent.generated // 2})))
    popped = [node for node in cut.tree if "popped" in node.notes]
    assert (free.stopped, cut.stopped) == ("done", "generated")
    assert len(popped) > 1 and cut.answer in popped
    assert cut.answer.notes["f"] == min(node.notes["f"] for node in popped)
    assert free.answer.notes["f"] <= cut.answer.notes["f"]
