"""LiteSearch: its tables by hand, and its whole course against an independent one on explicit trees."""

import math
import random
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from policies.toy import Toy
from search.algorithms.litesearch import LiteSearch
from search.budget import Budget
from search.errors import ConfigError
from search.rules import tries, tries_by_depth, tries_by_value
from search.run import run
from search.select import First
from search.steps import Tokens
from search.types import Cost, Finish, Reply, Sampling, Segment, Verdict


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


class Listed:
    """The words of an explicit tree in a fixed order: a draw of a node gives the next of its children, then the first.

    The greedy step is the first child. Counts its own draws, so it serves one session at a time, and sequential calls.
    """

    def __init__(self, world):
        self.world, self.drawn, self.order = world, {}, []

    async def sample(self, requests):
        return [self.reply(request) for request in requests]

    def reply(self, request):
        word, segments = request.prefix.text, []
        for _ in request.seeds:
            greedy = request.sampling.temperature == 0
            at = 0 if greedy else self.drawn.get(word, 0)
            self.drawn[word] = self.drawn.get(word, 0) + (not greedy)
            child = self.world.children[word][at % self.world.width]
            self.order.append((word, greedy))
            end = Finish.END if child in self.world.goals else Finish.STEP
            segments.append(Segment((ord(child[-1]),), child[-1], (-0.5,), end))
        return Reply(tuple(segments), Cost(generated=len(segments), policy_calls=1))

    async def score(self, prefixes):
        return await self.world.score(prefixes)


def test_the_table_of_tries():
    assert [tries(v) for v in (0.0, 0.05, 0.2, 0.3, 0.5, 0.7, 0.89, 0.9, 1.0)] == [10, 10, 10, 7, 4, 2, 2, 1, 1]
    assert [tries(0.5, most=3), tries(0.5, chance=0.5), tries(0.5, chance=0.99)] == [3, 1, 7]
    values = [i / 100 for i in range(101)]
    assert [tries(v) for v in values] == sorted((tries(v) for v in values), reverse=True)
    assert all(1 <= tries(v, 7) <= 7 for v in values)
    for v in values[6:90]:  # so many succeed with the chance asked for, one fewer does not
        b = tries(v, 100)
        assert 1 - (1 - v) ** b >= 0.9 - 1e-9 and (b == 1 or 1 - (1 - v) ** (b - 1) < 0.9)


def test_the_table_of_tries_in_the_code_of_the_authors():
    """By hand: value and depth, then the same mixed with a greedy answer worth 0.3."""
    alone = {(0.5, 1): 4, (0.5, 2): 2, (0.5, 3): 2, (0.2, 1): 10, (0.2, 3): 3, (0.2, 4): 2, (0.95, 1): 2, (0.0, 1): 0}
    assert {case: tries_by_depth(*case, None, 10, 0.9) for case in alone} == alone
    mixed = {(0.5, 1): 5, (0.7, 1): 4, (0.1, 1): 10, (0.9, 1): 3, (0.1, 2): 5}  # means 0.4, 0.5, 0.2, 0.6, 1/6
    assert {case: tries_by_depth(*case, 0.3, 10, 0.9) for case in mixed} == mixed


def by_hand(world, search, value_of):
    """The words in the order in which the search comes to them, and the answer: written apart from the search."""
    path = [""]
    while path[-1] in world.children:
        path.append(world.children[path[-1]][0])
    greedy = world.scores[path[-1]]
    come, done, tried = [""], {}, {"": 0}
    drawn = {}

    def limit(word):
        if word in world.goals:
            return math.inf
        value = greedy if word == "" else world.scores[word]
        return search.node_budget(value, len(word) + 1, greedy, search.most, search.chance)

    for _ in range(search.iterations):
        ready = [word for word in come if tried[word] < limit(word)]
        if not ready:
            break
        best = max(ready, key=lambda word: (value_of(word, greedy, len(path) - 1), -come.index(word)))
        if best in world.goals or (best and world.scores[best] < search.floor):
            break
        for _ in range(1 if search.incremental else limit(best) - tried[best]):
            if tried[best] == 0:
                child = world.children[best][0]
            else:
                child = world.children[best][drawn.get(best, 0) % world.width]
                drawn[best] = drawn.get(best, 0) + 1
            tried[best] += 1
            if child not in tried:
                tried[child] = 0
                come.append(child)
        done = {word: world.scores[word] for word in come if word in world.goals}
        if max(done.values(), default=0) > max(search.theta, greedy - 0.01) or len(done) >= search.answers:
            break
    done[path[-1]] = greedy
    return come, tried, max(done.values())


@pytest.mark.parametrize("incremental", [True, False])
@pytest.mark.parametrize("node_budget", [tries_by_value, tries_by_depth])
@pytest.mark.parametrize("progress", [0.0, 0.5])
async def test_its_course_is_that_of_an_independent_one(session, explicit, incremental, node_budget, progress):
    for seed in range(25):
        rng = random.Random(seed)
        world = explicit(rng, depth=4)
        world.scores = {word: round(rng.random(), 6) for word in world.cost}
        search = LiteSearch(
            most=5,
            incremental=incremental,
            node_budget=node_budget,
            progress=progress,
            theta=rng.random(),
            iterations=15,
        )

        def value(word, greedy, length, world=world):
            base = world.scores[word] if word else greedy
            return base + progress * min(len(word) / length, 1)

        policy = Listed(world)
        outcome = await run(search, session(policy, policy))
        come, tried, best = by_hand(world, search, value)
        found = [node for node in outcome.tree if "tries" in node.notes]
        assert {node.prefix.text for node in found} == set(come)
        assert outcome.answer.score == best
        for node in found:
            most = node_budget(node.score if node.parent else 0, node.depth + 1, None, 5, 0.9)
            if node.parent and node_budget is tries_by_value:
                assert node.draws <= most
        path = next(n for n in outcome.tree.answers() if set(n.prefix.text) == {"a"}).path()[:-1]
        for node in outcome.tree:
            drawn = node.draws - (node in path and not tried.get(node.prefix.text, 0))  # the greedy solution is extra
            assert drawn == tried.get(node.prefix.text, 0)


async def test_a_sure_node_has_one_child_and_a_doubtful_one_many(session, explicit):
    world = explicit(SimpleNamespace(random=lambda: 0.5), depth=3)
    world.scores = dict.fromkeys(world.cost, 0.95)
    sure = await run(LiteSearch(theta=1.0), session(Listed(world), world))
    assert {node.draws for node in sure.tree if node.children} == {1}
    assert sure.spent.generated == 3  # the greedy solution, drawn once
    world.scores = {word: 0.95 if len(word) < 3 else 0.0 for word in world.cost}
    doubt = await run(LiteSearch(theta=1.0, iterations=50), session(Listed(world), world))
    assert doubt.tree.root.draws == 10  # what the greedy solution, worth 0, asks for


@pytest.mark.parametrize(("theta", "more"), [(0.8, False), (0.95, True)])
async def test_an_answer_that_is_good_enough_ends_it(session, explicit, theta, more):
    world = explicit(SimpleNamespace(random=lambda: 0.5), depth=2)
    world.scores = {"a": 0.5, "b": 0.7, "c": 0.99, "aa": 0.1, "ba": 0.9, "ca": 0.97} | {
        word: 0.2 for word in ("ab", "ac", "bb", "bc", "cb", "cc")
    }
    outcome = await run(LiteSearch(theta=theta, most=4, incremental=False), session(Listed(world), world))
    assert outcome.answer.prefix.text == "ca"
    assert outcome.answer.score == 0.97
    world.scores["c"] = 0.3
    outcome = await run(LiteSearch(theta=theta, most=4, incremental=False), session(Listed(world), world))
    assert outcome.answer.prefix.text == "ba"  # worth 0.9, and in front of all that is open
    assert not any(node.children for node in outcome.tree if node.prefix.text == "c")


async def test_without_an_answer_of_its_own_it_gives_the_greedy_one(session):
    outcome = await run(LiteSearch(iterations=1), session(Toy(length=5), Noisy()))
    assert outcome.tree.answers() == [outcome.answer] and outcome.answer.prefix.text == "aaaaa"
    nothing = await run(LiteSearch(iterations=1, greedy=False), session(Toy(length=5), Noisy()))
    assert nothing.answer is None


class Sceptic:
    """Likes what is open better than any answer, so that no answer comes in front."""

    async def score(self, prefixes):
        chance = [random.Random(prefix.digest).random() for prefix in prefixes]
        ended = [bool(prefix.steps) and prefix.steps[-1].finish != "step" for prefix in prefixes]
        return [Verdict(p / 10 if end else 0.2 + p / 2) for p, end in zip(chance, ended, strict=True)]


async def test_when_the_budget_ends_the_best_answer_so_far_is_given(session):
    ended = 0
    for seed in range(20):
        s = session(Toy(length=3), Sceptic(), budget=Budget({"generated": 20}), seed=seed)
        outcome = await run(LiteSearch(theta=1.0, answers=99), s, First())
        answers = [node for node in outcome.tree.answers() if node.scored]
        ended += outcome.stopped == "generated" and len(answers) > 1
        assert outcome.answer.score == max(node.score for node in answers)
    assert ended > 3


async def test_paths_that_were_cut_are_dead_ends(session):
    cut = await run(LiteSearch(), session(step=Sampling(until=Tokens(9), max_tokens=3)))
    assert cut.answer is None and cut.tree.root.draws == 10  # ten tries, the greedy one first


@dataclass(frozen=True)
class Wasteful(LiteSearch):
    """Broken: every node has all tries."""

    def add(self, s, tried, node, greedy, length):
        super().add(s, tried, node, greedy, length)
        s.note(node, tries=self.most)


async def test_a_broken_copy_is_caught(session, explicit):
    with pytest.raises(AssertionError):
        world = explicit(SimpleNamespace(random=lambda: 0.5), depth=3)
        world.scores = dict.fromkeys(world.cost, 0.95)
        outcome = await run(Wasteful(theta=1.0), session(Listed(world), world))
        assert outcome.tree.root.notes["tries"] == tries(0.95)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"most": 0}, "most"),
        ({"answers": 0}, "answers"),
        ({"iterations": 0}, "iterations"),
        ({"depth": 0}, "depth"),
        ({"chance": 1.0}, "chance"),
        ({"progress": -1}, "progress"),
        ({"progress": 1, "greedy": False}, "progress"),
        ({"theta": 1.1}, "theta"),
        ({"floor": -0.1}, "floor"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        LiteSearch(**fields)
    assert caught.value.field == field
