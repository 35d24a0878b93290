"""A*-decoding: optimal against networkx, and what the notes on the paper let one check."""

import math
import random
from itertools import pairwise
from types import SimpleNamespace

import networkx
import pytest

from policies.toy import Toy
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.budget import Budget
from search.errors import ConfigError
from search.events import Charged, Pruned
from search.rules import consistent, drop, shortfall, zero
from search.run import run
from search.select import First
from search.steps import Tokens
from search.types import Cost, Sampling, Verdict
from verifiers.toy import Hidden

COSTS = (drop, consistent, zero)


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


def expanded(seen):
    """Ids of the nodes expanded, in order."""
    return [event.node for event in seen if isinstance(event, Charged) and event.cost.policy_calls]


def best_by_networkx(world, heuristic):
    graph = networkx.DiGraph()
    for word, children in world.children.items():
        graph.add_weighted_edges_from((word, child, world.cost[child]) for child in children)
    graph.add_weighted_edges_from((goal, "goal", 0.0) for goal in world.goals)
    return networkx.astar_path_length(graph, "", "goal", lambda word, goal: heuristic.get(word, 0.0))


HEURISTICS = {
    "none": lambda togo: 0.0,
    "consistent": lambda togo: 0.7 * togo,
    "admissible": lambda togo: togo * random.Random(togo).random(),
}


async def solve(session, world, h):
    """The outcome of a search that knows the costs of the table `world` and the heuristic `h`."""
    search = AStar(
        width=world.width,
        step_cost=lambda parent, child: world.cost[child.prefix.text],
        heuristic=lambda node: h[node.prefix.text],
    )
    return await run(search, session(world, world))


@pytest.mark.parametrize("heuristic", HEURISTICS)
async def test_optimal_in_every_random_tree(session, explicit, heuristic):
    for seed in range(100):
        world = explicit(random.Random(f"{seed} {heuristic}"), depth=4)
        h = {word: HEURISTICS[heuristic](togo) for word, togo in world.togo.items()}
        best = best_by_networkx(world, h)
        outcome = await solve(session, world, h)
        assert outcome.answer.complete
        assert outcome.answer.notes["g"] == pytest.approx(best, abs=1e-6)
        assert best == pytest.approx(world.togo[""], abs=1e-12)


async def test_knowing_more_saves_work(session, explicit):
    grown = {}
    for heuristic, known in HEURISTICS.items():
        worlds = [explicit(random.Random(seed), depth=4) for seed in range(30)]
        tables = [{word: known(togo) for word, togo in world.togo.items()} for world in worlds]
        grown[heuristic] = sum([len((await solve(session, w, h)).tree) for w, h in zip(worlds, tables, strict=True)])
    assert grown["consistent"] < 0.8 * grown["none"]
    assert grown["admissible"] < grown["none"]


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("parallel", [1, 3])
async def test_nothing_open_is_better_than_the_answer(session, cost, parallel):
    for seed in range(20):
        search = AStar(width=3, step_cost=cost, parallel=parallel)
        outcome = await run(search, session(Toy(length=4), Noisy(), seed=seed))
        open_ = [node for node in outcome.tree if not node.children and node is not outcome.answer]
        assert outcome.answer.complete
        assert all(search.key(outcome.answer) <= search.key(node) for node in open_)


@pytest.mark.parametrize("cost", COSTS)
async def test_notes_are_the_sums_of_the_paper(session, cost):
    outcome = await run(AStar(width=3, step_cost=cost), session(Toy(length=4), Noisy()))
    assert outcome.tree.root.notes == {"f": 0, "g": 0, "h": 0}
    for node in outcome.tree.nodes[1:]:
        path = node.path()
        assert node.notes["g"] == pytest.approx(math.fsum(cost(a, b) for a, b in pairwise(path)))
        assert node.notes["h"] == shortfall(node)
        assert node.notes["f"] == node.notes["g"] + node.notes["h"]


@pytest.mark.parametrize("cost", COSTS)
async def test_how_the_three_change_along_a_path(session, cost):
    """g never falls; the changes of f by hand: drop counts a loss twice, consistent a gain not at all."""
    for seed in range(10):
        outcome = await run(AStar(width=3, step_cost=cost), session(Toy(length=4), Noisy(), seed=seed))
        for node in outcome.tree.nodes[1:]:
            here, before = node.notes, node.parent.notes
            dh = here["h"] - before["h"]
            grown = {drop: 2 * dh if dh > 0 else dh, consistent: max(0.0, dh), zero: dh}[cost]
            assert 0 <= here["h"] <= 1
            assert 0 <= before["g"] <= here["g"]
            assert here["f"] - before["f"] == pytest.approx(grown, abs=1e-9)


def test_both_costs_of_a_path_are_the_increases_of_h():
    """With drop f is h and all its increases; with consistent it is h of the prompt (0) and the same increases."""
    rng = random.Random(0)
    for _ in range(1000):
        path = [SimpleNamespace(parent=None, score=math.nan)]
        for _ in range(rng.randrange(1, 12)):
            path.append(SimpleNamespace(parent=path[-1], score=rng.random()))
        h = [shortfall(node) for node in path]
        increases = math.fsum(max(0.0, b - a) for a, b in pairwise(h))
        f = {cost: h[-1] + math.fsum(cost(a, b) for a, b in pairwise(path)) for cost in COSTS}
        assert f[drop] == pytest.approx(h[-1] + increases, abs=1e-9)
        assert f[consistent] == pytest.approx(h[0] + increases, abs=1e-9)
        assert f[zero] == h[-1]


async def test_with_consistent_costs_f_of_what_is_expanded_never_falls(session):
    for seed in range(20):
        seen = []
        outcome = await run(
            AStar(width=3, step_cost=consistent), session(Toy(length=4), Noisy(), seed=seed, sinks=[seen.append])
        )
        f = [outcome.tree.nodes[id].notes["f"] for id in expanded(seen)] + [outcome.answer.notes["f"]]
        assert all(a <= b + 1e-6 for a, b in pairwise(f))


async def test_passes_and_tokens_are_counted_by_the_book(session):
    outcome = await run(AStar(width=5), session(Toy(length=4), Noisy()))
    nodes = outcome.tree.nodes[1:]
    assert outcome.spent.passes == len(nodes)  # one per distinct partial solution
    assert outcome.spent.generated == sum(node.times * len(node.segment.tokens) for node in nodes)
    assert sum(node.times for node in nodes) == 5 * outcome.spent.policy_calls


async def test_of_width_one_it_is_plain_sampling(session):
    chain = await run(AStar(width=1), session(Toy(end=0.3), Noisy()))
    plain = await run(Beam(beams=1, width=1), session(Toy(end=0.3), Noisy()))
    assert [node.prefix for node in chain.tree] == [node.prefix for node in plain.tree]
    assert chain.answer is chain.tree.nodes[-1]


@pytest.mark.parametrize("cost", COSTS)
async def test_equal_scores_go_depth_first(session, cost, explicit):
    world = explicit(random.Random(1))
    world.scores = dict.fromkeys(world.cost, 1.0)
    outcome = await run(AStar(width=3, step_cost=cost), session(world, world))
    assert outcome.spent.policy_calls == outcome.answer.depth
    assert set(outcome.answer.prefix.text) == {"a"}  # of equals the older


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("frontier", ["global", "local"])
async def test_a_verifier_that_knows_leads_straight_to_the_goal(session, explicit, cost, frontier):
    for seed in range(20):
        world = explicit(random.Random(seed))
        goal = random.Random(seed).choice(sorted(world.goals))
        world.scores = {word: float(goal.startswith(word)) for word in world.cost}
        outcome = await run(AStar(width=3, step_cost=cost, frontier=frontier), session(world, world))
        assert outcome.answer.prefix.text == goal
        assert outcome.spent.policy_calls == len(goal)


async def test_ties_deeper_then_better_then_older(session, explicit):
    world = explicit(SimpleNamespace(random=lambda: 0.5), depth=4)  # every path has four steps
    almost = {"a": 0.5 - 2e-7, "b": 0.5, "ba": 0.5 - 4e-7}  # as good as equal
    world.scores = dict.fromkeys(world.cost, 0.1) | almost
    seen = []
    outcome = await run(AStar(width=3, step_cost=zero), session(world, world, sinks=[seen.append]))
    words = [outcome.tree.nodes[id].prefix.text for id in expanded(seen)]
    assert words == ["", "b", "ba", "a", "baa"]
    assert outcome.answer.prefix.text == "baaa"


async def test_a_local_frontier_never_goes_back(session):
    for seed in range(10):
        seen = []
        s = session(Toy(length=4), Noisy(), seed=seed, sinks=[seen.append])
        outcome = await run(AStar(width=3, frontier="local"), s)
        path = expanded(seen) + [outcome.answer.id]
        assert path == [node.id for node in outcome.answer.path()]
        for node in outcome.answer.path()[1:]:
            assert node.notes["f"] == min(sibling.notes["f"] for sibling in node.parent.children)


async def test_paths_that_were_cut_or_grew_too_deep_are_dead_ends(session):
    cut = await run(AStar(), session(step=Sampling(until=Tokens(9), max_tokens=3)))
    assert cut.answer is None and cut.spent.policy_calls == 1
    shallow = await run(AStar(depth=2), session())
    assert shallow.answer is None
    assert shallow.tree.depth == 2 and not any(node.children for node in shallow.tree if node.depth == 2)


async def test_a_cap_bounds_what_is_open_and_prunes_the_rest(session):
    seen = []
    outcome = await run(AStar(width=3, cap=2), session(Toy(length=4), Noisy(), sinks=[seen.append]))
    pruned = {event.node for event in seen if isinstance(event, Pruned)}
    assert pruned and pruned == {node.id for node in outcome.tree if node.pruned}
    assert not any(node.children for node in outcome.tree if node.pruned)


async def test_when_the_budget_ends_the_best_goal_generated_is_the_answer(session):
    """Every goal has a worse f than what is open, so none is popped before the budget ends."""

    class Sceptic:
        async def score(self, prefixes):
            dull = [prefix.steps[-1].finish != "step" for prefix in prefixes]
            return [
                Verdict(random.Random(prefix.digest).random() / 10 if end else 1.0)
                for prefix, end in zip(prefixes, dull, strict=True)
            ]

    search = AStar(width=4)
    s = session(Toy(end=0.5, length=30), Sceptic(), budget=Budget({"generated": 60}))
    outcome = await run(search, s, First())
    answers = outcome.tree.answers()
    assert outcome.stopped == "generated" and len(answers) > 3
    assert outcome.answer.notes["f"] == min(node.notes["f"] for node in answers)
    assert outcome.answer is not answers[0]  # what First would have said


async def test_more_at_once_grows_more_and_finds_as_good(session):
    word = Hidden("abca")
    one = await run(AStar(width=3), session(Toy(length=4), word))
    many = await run(AStar(width=3, parallel=4), session(Toy(length=4), word))
    assert many.answer.notes["f"] <= one.answer.notes["f"]
    assert many.spent.generated >= one.spent.generated > Cost().generated


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 0}, "width"),
        ({"parallel": 0}, "parallel"),
        ({"depth": 0}, "depth"),
        ({"cap": 0}, "cap"),
        ({"expansions": 0}, "expansions"),
        ({"revisit": -0.1}, "revisit"),
        ({"revisit": math.inf}, "revisit"),
        ({"frontier": "somewhere"}, "frontier"),
        ({"frontier": "local", "parallel": 2}, "parallel"),
        ({"frontier": "local", "answers": None}, "answers"),
        ({"answers": 0}, "answers"),
        ({"best": "g"}, "best"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        AStar(**fields)
    assert caught.value.field == field


async def test_a_node_whose_children_disappoint_is_drawn_from_again(session):
    world = Toy(letters="abcdefgh", length=3)
    word, once, again = Hidden("hgf", strict=True), [], []
    narrow = await run(AStar(width=4), session(world, word, sinks=[once.append]))
    patient = await run(AStar(width=4, expansions=20), session(world, word, sinks=[again.append]))
    assert narrow.answer is None or narrow.answer.prefix.text != "hgf"
    assert patient.answer.prefix.text == "hgf"
    assert max(map(expanded(again).count, expanded(again))) > 1
    assert max(map(expanded(once).count, expanded(once))) == 1
    assert all(node.draws <= 4 * 20 for node in patient.tree.nodes)


async def test_with_good_children_nothing_is_drawn_again(session):
    seen = []
    world = Toy(letters="a", length=4)
    outcome = await run(AStar(width=2, expansions=5), session(world, Hidden("aaaa"), sinks=[seen.append]))
    assert outcome.answer.prefix.text == "aaaa"
    assert len(expanded(seen)) == len(set(expanded(seen))) == 5
