"""Tree search against a plain recursive one, solved trees, and the sums that must hold."""

import dataclasses
import math
import random
import statistics
from collections import Counter

import pytest

from policies.toy import Toy
from search.algorithms.mcts import MCTS
from search.backups import arms, best, by_children, onward, q
from search.budget import Budget
from search.errors import ConfigError, VerifierError
from search.evaluate import Completions, RollForward
from search.events import Backed, Charged
from search.rules import by_times, ucb, uct, uct_fast, uniform
from search.run import run
from search.steps import Tokens
from search.types import Finish, Reply, Sampling, Verdict
from verifiers.toy import Hidden


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        values = [tuple(random.Random(str(p.steps[: i + 1])).random() for i in range(len(p.steps))) for p in prefixes]
        return [Verdict(value[-1] if value else 1.0, value) for value in values]


@pytest.fixture
def words(explicit):
    """Makes a tree of words with random scores and log-probabilities."""

    class Words(explicit):
        def __init__(self, seed, **size):
            rng = random.Random(seed)
            super().__init__(rng, **size)
            self.scores = {word: rng.random() for word in self.cost}

        def _reply(self, request):
            reply = super()._reply(request)
            named = [
                dataclasses.replace(s, logprobs=(-self.cost[request.prefix.text + s.text],)) for s in reply.segments
            ]
            return Reply(tuple(named), reply.cost)

    return Words


def plain(world, simulations, c, rule):
    """Visits of each word by a search of its own: recursive, with dictionaries, one simulation at a time."""
    n, total, opened = Counter(), Counter(), set()

    def prior(word, child):
        weights = {each: math.exp(-world.cost[each]) for each in world.children[word]}
        return weights[child] / sum(weights.values())

    def score(word, child):
        value = total[child] / n[child] if n[child] else world.scores[child]
        if rule == "uct":
            return (value + c * math.sqrt(math.log(n[word]) / n[child]) if n[child] else math.inf), value
        weight = math.log((n[word] + 19653) / 19652) + c
        return value + weight * prior(word, child) * math.sqrt(n[word]) / (1 + n[child]), value

    def simulate(word):
        if word in world.goals or (word and word not in opened and not n[word]):
            value = world.scores[word]
        else:
            opened.add(word)
            value = simulate(max(world.children[word], key=lambda child: score(word, child)))
        n[word] += 1
        total[word] += value
        return value

    for _ in range(simulations):
        simulate("")
    return {word: n[word] for word in n if n[word]}


def visits(tree):
    return {node.prefix.text: node.visits for node in tree if node.visits}


async def equals_the_plain_search(session, words, kind, rule, name):
    for seed in range(6):
        world = words(seed, depth=4)
        search = kind(simulations=120, width=3, rule=rule, c=0.7)
        outcome = await run(search, session(world, world))
        assert visits(outcome.tree) == plain(world, 120, 0.7, name)


@pytest.mark.parametrize(("name", "rule"), [("uct", uct), ("puct", MCTS.rule)])
async def test_visits_equal_those_of_a_plain_search(session, words, name, rule):
    await equals_the_plain_search(session, words, MCTS, rule, name)


class Timid(MCTS):
    """Broken: what was seen often is explored more."""

    def __post_init__(self):
        object.__setattr__(self, "rule", lambda arm, c: uct_fast(arm, 0.0) - c / (1 + arm.n))


class Leaky(MCTS):
    """Broken: what is in flight stays in the counts."""

    def select(self, path, flying, c, least):
        path = super().select(path, flying, c, least)
        for node in path:
            node.visits += 1
        return path


@pytest.mark.parametrize("broken", [Timid, Leaky])
async def test_broken_searches_are_caught_by_the_plain_one(session, words, broken):
    with pytest.raises(AssertionError):
        await equals_the_plain_search(session, words, broken, uct, "uct")


async def sums_hold(session, **fields):
    seen = []
    outcome = await run(fields.pop("kind", MCTS)(**fields), session(Toy(length=4), Noisy(), sinks=[seen.append]))
    backed = [event for event in seen if isinstance(event, Backed)]
    ends = Counter(event.path[-1] for event in backed)
    for node in outcome.tree:
        through = [event for event in backed if node.id in event.path]
        assert node.visits == len(through)
        assert node.total == pytest.approx(math.fsum(event.value for event in through))
        assert node.visits == sum(child.visits for child in node.children) + ends[node.id]
    for node in outcome.tree:
        if arms(node):
            assert math.fsum(arm.notes["prior"] for arm in arms(node)) == pytest.approx(1)
    return outcome


@pytest.mark.parametrize("parallel", [1, 2, 5, 16])
@pytest.mark.parametrize("mode", ["search", "path", "act"])
async def test_counts_equal_what_was_backed_up(session, parallel, mode):
    outcome = await sums_hold(session, simulations=16, width=3, parallel=parallel, mode=mode)
    assert outcome.tree.root.visits % 16 == 0


async def test_a_virtual_loss_left_behind_is_caught(session):
    with pytest.raises(AssertionError):
        await sums_hold(session, kind=Leaky, simulations=16, width=3, parallel=4)


async def test_playouts_in_flight_spread_and_meet_in_one_expansion(session, words):
    world = words(1, depth=4)
    seen = []
    await run(MCTS(simulations=12, width=3, parallel=3), session(world, world, sinks=[seen.append]))
    asked = [event.node for event in seen if isinstance(event, Charged) and event.cost.policy_calls]
    assert len(asked) == len(set(asked)), "no leaf is expanded twice"
    first = [event.path[1] for event in seen if isinstance(event, Backed)][:3]
    assert len(set(first)) > 1, "not all three went the same way"


async def test_the_optimal_leaf_of_solved_trees_is_played(session, words):
    for seed in range(20):
        world = words(seed, depth=4)
        goal = random.Random(seed).choice(sorted(world.goals))
        world.scores = {word: 0.5 for word in world.cost} | {word: 0.8 * world.scores[word] for word in world.goals}
        world.scores[goal] = 1.0
        search = MCTS(simulations=400, width=3, rule=uct, c=1.0, mode="act", backup=best)
        assert (await run(search, session(world, world))).answer.prefix.text == goal


async def test_proven_values_are_those_of_the_solved_tree_and_nothing_is_visited_twice(session, words):
    def solved(world, word):
        return world.scores[word] if word in world.goals else max(solved(world, w) for w in world.children[word])

    for seed in range(10):
        world = words(seed, depth=3)
        seen = []
        search = MCTS(simulations=10_000, width=3, proven=True)
        outcome = await run(search, session(world, world, sinks=[seen.append]))
        assert {n.prefix.text: n.notes["proven"] for n in outcome.tree} == {
            word: pytest.approx(solved(world, word)) for word in ["", *world.cost]
        }
        ends = Counter(event.path[-1] for event in seen if isinstance(event, Backed))
        assert max(ends.values()) == 1
        assert outcome.answer.score == solved(world, "")


async def test_a_proven_best_step_is_played_though_others_were_visited_more(session, words):
    for seed in range(10):
        world = words(seed, depth=3)
        search = MCTS(simulations=500, width=3, proven=True, mode="act")
        outcome = await run(search, session(world, world))
        assert outcome.answer.score == max(world.scores[goal] for goal in world.goals)
        assert outcome.tree.root.visits < 500


async def test_without_exploration_it_is_greedy(session, words):
    for seed in range(10):
        world = words(seed)
        search = MCTS(simulations=1, width=3, rule=uct_fast, c=0.0, mode="path")
        outcome = await run(search, session(world, world))
        word = ""
        while word not in world.goals:
            word = max(world.children[word], key=world.scores.__getitem__)
        assert max(visits(outcome.tree), key=len) == word
        assert outcome.spent.policy_calls == len(word)


async def test_path_mode_of_equal_scores_follows_the_prior(session, words):
    world = words(3)
    world.scores = dict.fromkeys(world.cost, 0.5)
    outcome = await run(MCTS(simulations=1, width=3, mode="path"), session(world, world))
    word = ""
    while word not in world.goals:
        word = min(world.children[word], key=world.cost.__getitem__)
    assert max(visits(outcome.tree), key=len) == word


@pytest.mark.parametrize("parallel", [1, 4])
async def test_every_path_ends_at_an_answer(session, parallel):
    seen = []
    search = MCTS(simulations=8, width=3, mode="path", parallel=parallel)
    outcome = await run(search, session(Toy(length=4, end=0.2), Noisy(), sinks=[seen.append]))
    ends = [outcome.tree.nodes[event.path[-1]] for event in seen if isinstance(event, Backed)]
    assert len(ends) == 8 and all(end.complete for end in ends)
    assert len(set(ends)) > 1


async def test_a_move_keeps_its_subtree(session, words):
    world = words(5)
    seen = []
    search = MCTS(simulations=20, width=3, mode="act")
    outcome = await run(search, session(world, world, sinks=[seen.append]))
    backed = [event for event in seen if isinstance(event, Backed)]
    path = [node.id for node in outcome.answer.path()]
    assert len(backed) == 20 * outcome.answer.depth
    for move in range(outcome.answer.depth):
        through = backed[20 * move : 20 * (move + 1)]
        assert all(event.path[: move + 1] == tuple(path[: move + 1]) for event in through), "only below the move"
        before = Counter(event.path[move + 1] for event in backed[: 20 * (move + 1)] if len(event.path) > move + 1)
        assert before[path[move + 1]] == max(
            count for id, count in before.items() if outcome.tree.nodes[id].parent.id == path[move]
        ), "the most visited, counting visits of earlier moves"


async def test_moves_are_drawn_by_visits_and_temperature(session):
    search = MCTS(mode="act", temperature=0.5)
    s = session(Toy("ab", length=2), Noisy())
    a, b = await s.expand(s.root, 8)
    search.weigh(s, s.root, [a, b], 0.0)
    a.visits, b.visits = 1, 2
    share = sum(search.play(s, s.root) is b for _ in range(4000)) / 4000
    assert share == pytest.approx(4 / 5, abs=0.02)
    assert MCTS(mode="act").play(s, s.root) is b


@pytest.mark.parametrize("n", [1, 3])
async def test_rolled_out_answers_stay_in_the_tree_and_are_no_arms(session, n):
    seen = []
    search = MCTS(simulations=12, width=3, rule=uct, evaluate=Completions(n))
    outcome = await run(search, session(Toy(length=5), Noisy(), sinks=[seen.append]))
    tree = outcome.tree
    assert sum(node.completions for node in tree) == n * sum(
        not tree.nodes[event.path[-1]].terminal for event in seen if isinstance(event, Backed)
    )
    rolled = [node for node in tree.answers() if "prior" not in node.notes]
    assert rolled and all(node.scored and not node.visits for node in rolled)
    assert not any(node.scored for node in tree if not node.terminal), "open steps cost no pass"
    assert outcome.answer.score == max(node.score for node in tree.answers())


async def test_the_value_of_a_leaf_is_the_mean_of_its_roll_outs_mixed_with_its_score(session):
    for mix in (0.25, 1.0):
        s = session(Toy(length=4), Noisy())
        (leaf, *_) = await s.expand(s.root, 1)
        (value,) = await Completions(4, mix)(s, [leaf])
        mean = sum(child.score * child.times for child in leaf.children) / 4
        assert value == pytest.approx(mean if mix == 1 else 0.75 * leaf.score + 0.25 * mean)


async def test_a_roll_out_that_is_cut_is_worth_nothing(session):
    s = session(Toy(length=9), Noisy(), whole=Sampling(max_tokens=2))
    (leaf, *_) = await s.expand(s.root, 1)
    assert await Completions(3)(s, [leaf]) == [0.0]


async def test_rolling_forward_takes_the_best_value_seen(session, words):
    world = words(4, depth=5)
    s = session(world, world)
    leaves = await s.expand(s.root, 3)
    values = await RollForward(steps=2, branch=3, mix=0.25)(s, leaves)
    for leaf, value in zip(leaves, values, strict=True):
        first = max(world.children[leaf.prefix.text], key=world.scores.__getitem__)
        second = max((world.scores[w] for w in world.children.get(first, ())), default=0.0)
        seen = max(world.scores[first], second)
        assert value == pytest.approx(0.75 * leaf.score + 0.25 * seen)


async def test_values_by_children_are_means_by_visits(session):
    search = MCTS(simulations=40, width=3, rule=ucb, c=0.7, backup=by_children, expand_after=0)
    outcome = await run(search, session(Toy(length=4), Noisy()))
    inner = 0
    for node in outcome.tree:
        visited = [arm for arm in arms(node) if arm.visits]
        if visited:
            inner += 1
            total = sum(arm.visits for arm in visited)
            assert q(node) == pytest.approx(sum(arm.visits * q(arm) for arm in visited) / total)
        elif node.visits:
            assert q(node) == node.score
    assert inner > 5


async def test_the_largest_value_is_kept(session):
    seen = []
    s = session(Toy(length=4), Noisy(), sinks=[seen.append])
    outcome = await run(MCTS(simulations=40, width=3, backup=best), s)
    for node in outcome.tree:
        if node.visits:
            assert q(node) == max(e.value for e in seen if isinstance(e, Backed) and node.id in e.path)


async def test_rewards_from_each_node_on(session):
    s = session(Toy(length=4), Noisy())
    outcome = await run(MCTS(simulations=1, width=2, mode="path", returns=onward), s)
    path = outcome.answer.path()
    steps = outcome.answer.step_scores
    assert [node.total for node in path] == pytest.approx(
        [statistics.fmean(steps)] + [statistics.fmean(steps[i:]) for i in range(len(steps))]
    )


async def test_rewards_along_the_path_need_step_values(session, words):
    world = words(1)
    with pytest.raises(VerifierError, match="one value per step"):
        await run(MCTS(returns=onward), session(world, world))


async def test_the_constant_follows_the_spread_of_values(session):
    seen = []
    search = MCTS(simulations=25, width=3, adaptive=True)
    s = session(Toy(length=4), Noisy(), sinks=[seen.append])
    assert search.spread(s) == 1.0
    await run(search, s)
    values = [event.value for event in seen if isinstance(event, Backed)]
    assert search.spread(s) == pytest.approx(statistics.pstdev(values))
    assert MCTS(simulations=25, width=3).spread(s) == 1.0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
async def test_widening_bounds_the_draws(session, exponent):
    search = MCTS(simulations=60, width=2, widening=exponent)
    outcome = await run(search, session(Toy("abcdefgh", length=4), Noisy()))
    for node in outcome.tree:
        assert node.draws <= math.ceil(2 * max(node.visits, 1) ** exponent)
    widest = max(node.draws for node in outcome.tree)
    assert widest == 2 if exponent == 0 else widest > 6


async def test_noise_at_the_root_alone_and_from_the_session(session):
    def priors(outcome):
        return [[arm.notes["prior"] for arm in arms(node)] for node in outcome.tree if len(arms(node)) > 1]

    async def search(noise):
        settings = MCTS(simulations=8, width=4, noise=noise, prior=uniform, c=0.0)
        return priors(await run(settings, session(Toy(length=4), Noisy())))

    quiet, loud, again = await search(0.0), await search(0.5), await search(0.5)
    assert loud == again
    assert len(set(quiet[0])) == 1 and len(set(loud[0])) == len(loud[0]) > 1
    assert all(len(set(row)) == 1 for row in loud[1:])
    assert all(prior >= 0.5 / len(loud[0]) for prior in loud[0])


async def test_an_answer_that_passes_the_gate_ends_the_search(session):
    word = Hidden("abcab")
    outcome = await run(MCTS(simulations=4000, width=6, gate=1.0), session(Toy(), word))
    assert outcome.answer.prefix.text == "abcab"
    assert outcome.tree.root.visits < 200


async def test_without_an_answer_the_most_visited_path_is_completed(session):
    search = MCTS(simulations=6, width=3)
    outcome = await run(search, session(Toy(length=30), Noisy()))
    (leaf,) = outcome.tree.answers()
    assert outcome.answer is leaf
    for parent in leaf.path()[:-2]:
        if any(arm.visits for arm in arms(parent)):
            on_path = next(arm for arm in arms(parent) if arm in leaf.path())
            assert on_path.visits == max(arm.visits for arm in arms(parent))


async def test_steps_that_were_cut_are_no_arms(session):
    cut = {"step": Sampling(until=Tokens(3), max_tokens=2), "whole": Sampling(max_tokens=2)}
    outcome = await run(MCTS(simulations=6), session(Toy(length=9), **cut))
    assert outcome.answer is None
    assert (outcome.tree.root.visits, outcome.tree.root.total) == (6, 0.0)
    assert outcome.spent.passes == 0
    assert {node.segment.finish for node in outcome.tree.nodes[1:]} == {Finish.LENGTH}


async def test_a_step_drawn_twice_is_one_arm(session):
    search = MCTS(simulations=2, width=8, prior=by_times)
    outcome = await run(search, session(Toy("ab", length=3), Noisy()))
    assert [arm.notes["prior"] for arm in arms(outcome.tree.root)] == [
        arm.times / 8 for arm in outcome.tree.root.children
    ]


async def test_passes_and_tokens_do_not_grow_with_visits(session, words):
    world = words(2, depth=2)
    some = await run(MCTS(simulations=30, width=3), session(world, world))
    more = await run(MCTS(simulations=300, width=3), session(world, world))
    assert some.spent == more.spent


async def test_when_the_budget_ends_nothing_is_in_flight(session):
    for limit in range(3, 40, 4):
        s = session(Toy(length=6), Noisy(), budget=Budget({"generated": limit}))
        outcome = await run(MCTS(simulations=64, width=3, parallel=4), s)
        root = outcome.tree.root
        assert outcome.stopped == "generated"
        assert root.visits % 4 == 0 and root.visits == sum(child.visits for child in root.children)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"simulations": 0}, "simulations"),
        ({"width": 0}, "width"),
        ({"c": -1.0}, "c"),
        ({"c": math.nan}, "c"),
        ({"constants": {"bonus": 1.0}}, "constants"),
        ({"noise": 1.5}, "noise"),
        ({"alpha": 0.0}, "alpha"),
        ({"widening": -0.5}, "widening"),
        ({"expand_after": -1}, "expand_after"),
        ({"temperature": -1.0}, "temperature"),
        ({"gate": -0.1}, "gate"),
        ({"parallel": 0}, "parallel"),
        ({"depth": 0}, "depth"),
        ({"mode": "play"}, "mode"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        MCTS(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize("make", [Completions, RollForward])
def test_settings_of_evaluations_are_checked(make):
    for fields in ({"mix": 0.0}, {"mix": 1.5}, {"n" if make is Completions else "branch": 0}):
        with pytest.raises(ConfigError):
            make(**fields)
