"""Tree of thoughts: exhaustive when wide, right judges, honest votes."""

import random
import re

import pytest

from policies.toy import Toy
from search.algorithms.tot import TreeOfThoughts
from search.ballots import vote_in
from search.errors import ConfigError
from search.run import run
from search.types import Cost, Finish, Reply, Segment, Verdict

MANY = Toy("".join(map(chr, range(0x4E00, 0x4E00 + 3000))), length=4)


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


class Judge:
    """Votes for the choice worth most by `worth(text)`; with `silly` above 0, so many of its answers are nonsense."""

    def __init__(self, worth, silly=0):
        self.worth, self.silly, self.ballots = worth, silly, []

    def prompt(self, messages):
        return Segment((1,), messages[-1]["content"])

    async def sample(self, requests):
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        choices = [text.strip() for text in re.findall(r"Choice \d+:\n(.*)\n", request.prefix.prompt.text)]
        self.ballots.append(choices)
        number = 1 + max(range(len(choices)), key=lambda i: self.worth(choices[i]))
        texts = [f"Look.\nThe best choice is {number}"] * len(request.seeds)
        texts[: self.silly] = ["The best choice is hard to tell"] * self.silly
        segments = tuple(Segment((i,), text, (-1.0,), Finish.END) for i, text in enumerate(texts))
        return Reply(segments, Cost(generated=len(texts), policy_calls=1))


async def test_wide_enough_it_is_exhaustive(session, explicit):
    for seed in range(20):
        rng = random.Random(seed)
        world = explicit(rng, depth=4)
        world.scores = {word: rng.random() for word in world.cost}
        outcome = await run(TreeOfThoughts(beams=3**4, width=3, depth=5), session(world, world))
        assert {node.prefix.text for node in outcome.tree} == {"", *world.cost}
        assert outcome.answer.score == max(world.scores[goal] for goal in world.goals)


def value(world, word, worth):
    """The best goal below `word`."""
    below = [goal for goal in world.goals if goal.startswith(word)]
    return max(worth[goal] for goal in below)


class Worst(TreeOfThoughts):
    """Broken: keeps the worst."""

    async def best(self, s, states, count):
        return (await super().best(s, states, len(states)))[::-1][:count]


class FirstSeen(TreeOfThoughts):
    """Broken: keeps what came first."""

    async def best(self, s, states, count):
        await super().best(s, states, count)
        return list(states)[:count]


@pytest.mark.parametrize("judge", ["value", "vote"])
@pytest.mark.parametrize(("search", "finds"), [(TreeOfThoughts, 25), (Worst, 12), (FirstSeen, 14)])
async def test_with_a_judge_that_knows_one_state_is_enough(session, explicit, judge, search, finds):
    """Solved trees: the best goal is found by keeping one state of three; broken copies miss it."""
    found = 0
    for seed in range(25):
        rng = random.Random(seed)
        world = explicit(rng, depth=4)
        worth = {goal: rng.random() for goal in sorted(world.goals)}
        world.scores = {word: value(world, word, worth) for word in world.cost}
        s = session(world, world, roles={"judge": Judge(world.scores.get)})
        outcome = await run(search(beams=1, width=3, depth=5, judge=judge, votes=2), s)
        found += worth.get(outcome.answer and outcome.answer.prefix.text) == max(worth.values())
    assert found == finds if search is TreeOfThoughts else found <= finds


async def test_the_best_states_are_kept_and_no_others_go_on(session):
    for seed in range(10):
        outcome = await run(TreeOfThoughts(beams=3, width=3, depth=4), session(MANY, Noisy(), seed=seed))
        for depth in range(1, 4):
            level = [node for node in outcome.tree if node.depth == depth]
            kept = sorted(level, key=lambda node: -node.score)[:3]
            assert {node for node in level if node.children} == set(kept)
            assert {node for node in level if node.pruned} == set(level) - set(kept)


async def test_every_state_kept_has_its_own_thoughts(session):
    outcome = await run(TreeOfThoughts(beams=3, width=5, depth=3), session(MANY, Noisy()))
    assert [node.draws for node in outcome.tree if node.children and node.depth < 3] == [5] * 7


async def test_votes_are_asked_only_where_there_is_a_choice_and_are_counted(session):
    judge = Judge(lambda text: text, silly=1)
    s = session(MANY, None, roles={"judge": judge})
    outcome = await run(TreeOfThoughts(beams=2, width=2, depth=2, judge="vote", votes=3), s)
    # two thoughts for two places: no vote; four for two; the two completions
    assert [len(choices) for choices in judge.ballots] == [4, 2]
    assert s.root.notes == {"votes": 6, "invalid_votes": 2}
    voted = [node for node in s.tree if "votes" in node.notes and node is not s.root]
    assert sum(node.notes["votes"] for node in voted) == 2 * 2
    assert outcome.answer.prefix.text == max(node.prefix.text for node in s.tree.answers())
    assert outcome.spent.passes == 0


async def test_without_one_valid_vote_the_first_stay(session):
    s = session(MANY, None, roles={"judge": Judge(len, silly=5)})
    outcome = await run(TreeOfThoughts(beams=2, width=3, depth=2, judge="vote"), s)
    assert s.root.notes["votes"] == s.root.notes["invalid_votes"] == 15
    assert [node.pruned for node in s.root.children] == [False, False, True]
    assert outcome.answer is s.tree.answers()[0]


async def test_the_thinker_may_vote_itself(session):
    class Both(Toy):
        """A toy that answers ballots."""

        async def sample(self, requests):
            ballots = ["Choice 1" in request.prefix.prompt.text for request in requests]
            segment = Segment((7,), "The best choice is 2", (-1.0,), Finish.END)
            return [
                Reply((segment,) * len(request.seeds), Cost(generated=1))
                if ballot
                else (await Toy.sample(self, [request]))[0]
                for request, ballot in zip(requests, ballots, strict=True)
            ]

    s = session(Both(MANY.letters, length=2), None)
    search = TreeOfThoughts(beams=1, width=3, depth=1, judge="vote", voter="policy")
    assert search.needs == ()
    await run(search, s)
    assert [node.pruned for node in s.root.children] == [True, False, True]
    assert vote_in("The best choice is 2", 3) == 1


async def test_what_has_ended_competes_and_is_never_continued(session):
    for seed in range(10):
        outcome = await run(TreeOfThoughts(beams=2, width=4, depth=6), session(Toy(end=0.4), Noisy(), seed=seed))
        assert not any(node.children for node in outcome.tree.answers())
        assert outcome.answer.score == max(node.score for node in outcome.tree.answers())


async def test_a_judge_that_is_missing_is_missed_before_the_run(session):
    s = session(MANY, None)
    with pytest.raises(ConfigError, match=r"roles\.judge"):
        await run(TreeOfThoughts(judge="vote"), s)
    with pytest.raises(ConfigError, match="verifier"):
        s.verifier = None
        await run(TreeOfThoughts(), s)
    assert len(s.tree) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"beams": 0}, "beams"),
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"votes": 0}, "votes"),
        ({"judge": "coin"}, "judge"),
        ({"ballot": "Vote!"}, "ballot"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        TreeOfThoughts(**fields)
    assert caught.value.field == field
