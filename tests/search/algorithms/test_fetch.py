"""FETCH: without merging it is plain search, with merging it spends less on repetitions; against plain searches."""

import math
import random
from collections import Counter

import pytest

from policies.toy import Toy
from search.algorithms.fetch import Fetch
from search.algorithms.fetch_mcts import FetchMCTS
from search.errors import ConfigError
from search.merge import Merge
from search.run import run
from search.steps import Tokens
from search.types import Cost, Finish, Reply, Sampling, Segment, Verdict


def state(node):
    """The word without regard to case: what a letter means."""
    return node.prefix.text.lower()


APART, BY_STATE = Merge(state=lambda node: None), Merge(state=state)


class Cases:
    """An explicit tree whose every letter is written in one of two ways, by a coin; the scores see no difference."""

    def __init__(self, world):
        self.world = world

    async def sample(self, requests):
        return [self.reply(request) for request in requests]

    def reply(self, request):
        word, segments = request.prefix.text.lower(), []
        for seed in request.seeds:
            rng = random.Random(seed)
            letters = self.world.children[word][rng.randrange(self.world.width)][len(word) :]
            while request.sampling.until is None and word + letters not in self.world.goals:
                letters = self.world.children[word + letters][0][len(word) :]
            end = Finish.END if word + letters in self.world.goals else Finish.STEP
            said = letters.upper() if rng.random() < 0.5 else letters
            segments.append(Segment(tuple(map(ord, said)), said, (-0.5,) * len(said), end))
        generated = sum(len(segment.tokens) for segment in segments)
        return Reply(tuple(segments), Cost(generated=generated, policy_calls=1))

    async def score(self, prefixes):
        return [Verdict(self.world.scores.get(prefix.text.lower(), 1.0)) for prefix in prefixes]


def cases(explicit, seed, depth=3):
    rng = random.Random(seed)
    world = explicit(rng, depth=depth)
    world.scores = {word: 0.2 + 0.8 * rng.random() for word in world.cost}
    return Cases(world)


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


async def best_first(s, width, iterations):
    """Plain best-first search, written apart; ends with a greedy completion unless an answer is in front."""
    open_ = [(-1.0, 0, s.root)]
    for _ in range(iterations):
        open_.sort(key=lambda entry: entry[:2])
        if not open_ or open_[0][2].complete:
            return
        node = open_.pop(0)[2]
        for child in await s.expand(node, width):
            (score,) = await s.score([child])
            repeated = node.parent is not None and child.segment.text and child.segment.text == node.segment.text
            worth = 0.0 if repeated else score
            open_.append((-worth, child.id, child))
    open_.sort(key=lambda entry: entry[:2])
    if open_ and not open_[0][2].complete:
        await s.complete(open_[0][2], temperature=0.0)


def grown(tree):
    return [(node.prefix.text, node.times, node.draws) for node in tree]


async def test_without_merging_it_is_plain_best_first_search(session):
    for seed in range(20):
        mine, plain = (session(Toy(length=6, end=0.1), Noisy(), seed=seed) for _ in range(2))
        await run(Fetch(width=3, iterations=9, merge=APART), mine)
        await best_first(plain, 3, 9)
        assert sorted(grown(mine.tree)) == sorted(grown(plain.tree))


async def beam_by_hand(s, beams, width):
    """Beam search in which each open beam has `width` draws, written apart."""
    beam = [s.root]
    for _ in range(50):
        pool = [node for node in beam if node.complete]
        for node in beam:
            if not node.complete:
                pool += await s.expand(node, width)
        await s.score(pool)
        said = {n: n.segment.text == n.parent.segment.text != "" and n.parent is not s.root for n in pool}
        beam = sorted(pool, key=lambda n: 0.0 if said[n] else -n.score)[:beams]
        if all(node.complete for node in beam):
            return


async def test_without_merging_its_beam_is_plain_beam_search(session):
    for seed in range(20):
        mine, plain = (session(Toy(length=5, end=0.1), Noisy(), seed=seed) for _ in range(2))
        await run(Fetch("beam", width=3, beams=3, merge=APART), mine)
        await beam_by_hand(plain, 3, 3)
        assert grown(mine.tree) == grown(plain.tree)


@pytest.mark.parametrize("strategy", ["best_first", "beam"])
async def test_merging_saves_what_repetitions_cost(session, explicit, strategy):
    spent, found = Counter(), Counter()
    for seed in range(30):
        world = cases(explicit, seed)
        for name, merge in (("apart", APART), ("merged", BY_STATE)):
            search = Fetch(strategy, width=6, beams=3, iterations=8, merge=merge)
            outcome = await run(search, session(world, world, seed=seed))
            spent[name] += outcome.spent.generated
            found[name] += outcome.answer.score
    assert spent["merged"] < (0.9 if strategy == "best_first" else 1.01) * spent["apart"]
    assert found["merged"] >= 0.95 * found["apart"]


async def test_the_beam_holds_different_states(session, explicit):
    """Merged, a beam of three is three states; apart, two ways of writing one letter take two places."""
    for seed in range(10):
        world, different = cases(explicit, seed), {}
        for merge in (BY_STATE, APART):
            s = session(world, world, seed=seed)
            await run(Fetch("beam", width=40, beams=3, merge=merge), s)
            different[merge] = len({state(node) for node in s.root.children if node.draws})
        assert different == {BY_STATE: 3, APART: 2}


async def test_where_nothing_ends_the_best_path_is_completed_greedily(session):
    for strategy in ("best_first", "beam"):
        outcome = await run(Fetch(strategy, iterations=2, width=3, beams=2), session(Toy(length=9), Noisy()))
        answers = outcome.tree.answers()
        assert len(answers) == (1 if strategy == "best_first" else 2)
        assert all(node.segment.text == "a" * len(node.segment.text) for node in answers)


async def mcts_by_hand(s, search):
    """FETCH's MCTS over groups by state, written apart: lists of rewards, groups as tuples of nodes."""
    rewards, kids, parents, depth, share = {}, {}, {}, {}, {}
    root = (s.root,)
    depth[root], share[root], rewards[root] = 0, 1.0, []
    time, terminals = 0, 0.0

    def value(group):
        said = [n.segment.text == n.parent.segment.text and n.parent is not s.root for n in group]
        return max(0.0 if again else n.score for n, again in zip(group, said, strict=True))

    def q(group):
        return sum(rewards[group]) / len(rewards[group]) if rewards[group] else 0.0

    while (time < search.least or terminals < search.terminals) and time < search.most:
        time += 1
        at = root
        while kids.get(at) and all(rewards[kid] for kid in kids[at]):
            n = len(rewards[at]) + 1
            at = max(
                kids[at],
                key=lambda kid: (
                    q(kid) + search.c * (0.8 + 0.2 * share[kid]) * math.sqrt(math.log(n) / (len(rewards[kid]) + 1))
                ),
            )
        if at[0].complete:
            reward = rewards[at][0]
            terminals += 0.1
        else:
            if not kids.get(at):
                base = search.width if at is not root else search.root_width
                draws = base + round(min(0.5 * len(at), base))
                turns = Counter(at[i % len(at)] for i in range(draws))
                new = []
                whole = depth[at] >= search.depth or q(at) >= search.confident
                for node, n in turns.items():
                    new += [await s.complete(node) for _ in range(n)] if whole else await s.expand(node, n)
                new = list(dict.fromkeys(new))
                await s.score(new)
                groups = {}
                for node in new:
                    groups.setdefault((node.complete, node.prefix.text.lower()), []).append(node)
                kids[at] = []
                for members in groups.values():
                    group = tuple(sorted(members, key=lambda n: -value([n])))
                    kids[at].append(group)
                    rewards[group], parents[group], depth[group] = [], at, depth[at] + 1
                    share[group] = sum(n.times for n in members) / sum(n.times for n in new)
            at = next(kid for kid in kids[at] if not rewards[kid])
            reward = value(at)
            if at[0].complete:
                terminals += 1
            else:
                leaves = [await s.complete(at[i % len(at)]) for i in range(search.rollouts)]
                scores = await s.score(leaves)
                reward = (1 - search.alpha) * reward + search.alpha * sum(scores) / len(scores)
        while True:
            rewards[at].append(reward)
            if at is root:
                break
            at = parents[at]
    return {node: len(rewards[group]) for group in rewards for node in group}


@pytest.mark.parametrize("fields", [{}, {"depth": 2}, {"confident": 0.6}, {"c": 0.0}])
async def test_mcts_visits_are_those_of_an_independent_one(session, explicit, fields):
    search = FetchMCTS(root_width=5, width=4, least=25, most=60, terminals=8, merge=BY_STATE, **fields)
    differ = 0
    for seed in range(12):
        world = cases(explicit, seed, depth=4)
        mine, plain, broken = (session(world, world, seed=seed) for _ in range(3))
        await run(search, mine)
        visits = await mcts_by_hand(plain, search)
        wanted = {node.prefix.text: n for node, n in visits.items()}
        assert {node.prefix.text: node.visits for node in mine.tree if node.prefix.text in wanted} == wanted
        assert grown(mine.tree) == grown(plain.tree)
        await run(Unmerged(root_width=5, width=4, least=25, most=60, terminals=8, merge=BY_STATE, **fields), broken)
        differ += grown(broken.tree) != grown(plain.tree)
    assert differ > 8


class Unmerged(FetchMCTS):
    """Broken: the prior forgets how often a cluster was drawn."""

    def ucb(self, node):
        node.share = 0.0
        return super().ucb(node) * (1 + (node.visits % 2))


async def test_mcts_ends_when_enough_was_seen(session):
    world = Toy("ab", length=3)
    few = await run(FetchMCTS(least=5, most=400, terminals=0), session(world, Noisy()))
    more = await run(FetchMCTS(least=5, most=400, terminals=6), session(world, Noisy()))
    most = await run(FetchMCTS(least=5, most=17, terminals=99), session(world, Noisy()))
    assert few.tree.root.visits == 5 and most.tree.root.visits == 17
    assert 5 < more.tree.root.visits < 400


async def test_mcts_stops_at_a_root_without_a_future(session):
    cut = session(step=Sampling(until=Tokens(9), max_tokens=2))
    outcome = await run(FetchMCTS(), cut)
    assert outcome.answer is None and outcome.tree.root.visits == 1


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (Fetch, {"strategy": "deep"}, "strategy"),
        (Fetch, {"width": 0}, "width"),
        (Fetch, {"beams": 0}, "beams"),
        (Fetch, {"iterations": 0}, "iterations"),
        (FetchMCTS, {"most": 0}, "most"),
        (FetchMCTS, {"c": -1}, "c"),
        (FetchMCTS, {"rollouts": -1}, "rollouts"),
        (FetchMCTS, {"alpha": 1.5}, "alpha"),
        (FetchMCTS, {"confident": -0.5}, "confident"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind, fields, field):
    with pytest.raises(ConfigError) as caught:
        kind(**fields)
    assert caught.value.field == field
