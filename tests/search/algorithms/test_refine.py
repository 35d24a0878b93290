"""Iterative refinement: never worse than best-of-N of its drafts, and its restarts are where they should be."""

from dataclasses import dataclass
from itertools import accumulate

import pytest

from policies.toy import Toy
from search.algorithms.flat import Flat
from search.algorithms.refine import Refine, lowest, steepest
from search.errors import BudgetExhausted, ConfigError
from search.run import run
from search.types import Verdict
from verifiers.toy import Hidden

WORD = Hidden("abcab")


@dataclass(frozen=True)
class Constant:
    """Says the same of everything."""

    async def score(self, prefixes):
        return [Verdict(0.5) for _ in prefixes]


@dataclass(frozen=True)
class Progress:
    """The share of letters before the first wrong one."""

    word: str

    async def score(self, prefixes):
        return [self.verdict(prefix.reply) for prefix in prefixes]

    def verdict(self, steps):
        texts = accumulate(step.text for step in steps)
        values = tuple(map(self.value, texts))
        return Verdict(values[-1], values)

    def value(self, text):
        right = next((i for i, (a, b) in enumerate(zip(text, self.word, strict=False)) if a != b), len(text))
        return right / max(len(text), 1)


@dataclass(frozen=True)
class Mute:
    """A verifier without step scores."""

    inner: Hidden

    async def score(self, prefixes):
        return [Verdict(verdict.value) for verdict in await self.inner.score(prefixes)]


@dataclass(frozen=True)
class Credulous(Refine):
    """A broken copy: takes the newest answer, better or not."""

    async def review(self, s, new, old):
        best, worst = await super().review(s, new, [])
        s.note(best, best=best.score)
        return best, worst


@dataclass(frozen=True)
class Forgetful(Refine):
    """A broken copy: always restarts from the prompt."""

    async def cut(self, s, best):
        return s.root


async def bests(search, s):
    """Scores of the best answer after each review, in order."""
    noted = []
    s._sinks = [lambda event: noted.append(event.numbers["best"]) if event.kind == "noted" else None]
    outcome = await run(search, s)
    return noted, outcome


@pytest.mark.parametrize("restart", ["turn", "prefix"])
async def test_the_best_score_never_falls(session, restart):
    falls = {Refine: 0, Credulous: 0}
    for kind in falls:
        for seed in range(30):
            noted, outcome = await bests(kind(3, 4, 2, restart=restart), session(verifier=WORD, seed=seed))
            falls[kind] += noted != sorted(noted)
            if kind is Refine:
                assert outcome.answer.score == max(node.score for node in outcome.tree.answers())
    assert falls[Refine] == 0 < falls[Credulous]


async def test_without_rounds_it_is_best_of_n(session):
    for seed in range(20):
        refined = await run(Refine(6, rounds=0), session(verifier=WORD, seed=seed))
        flat = await run(Flat(6), session(verifier=WORD, seed=seed))
        assert refined.answer.prefix == flat.answer.prefix
        assert [node.prefix for node in refined.tree] == [node.prefix for node in flat.tree]
        assert (refined.spent, refined.candidates) == (flat.spent, flat.candidates)


@pytest.mark.parametrize("restart", ["turn", "prefix"])
async def test_a_verifier_that_says_the_same_of_all_gives_the_first_draft(session, restart):
    outcome = await run(Refine(4, 3, 2, restart=restart), session(verifier=Constant()))
    first = await run(Flat(1) if restart == "turn" else Refine(1, 0, restart=restart), session(verifier=Constant()))
    assert outcome.answer.prefix == first.answer.prefix


@pytest.mark.parametrize("restart", ["turn", "prefix"])
async def test_it_draws_as_many_answers_as_it_says(session, restart):
    outcome = await run(Refine(3, 4, 2, enough=2.0, restart=restart), session(verifier=WORD))
    assert outcome.candidates == 3 + 4 * 2


async def test_it_stops_when_the_answer_is_good_enough(session):
    for enough in (0.2, 0.6, 1.0):
        for seed in range(10):
            noted, outcome = await bests(Refine(2, 9, 1, enough=enough), session(verifier=WORD, seed=seed))
            assert all(score < enough for score in noted[:-1])
            assert noted[-1] >= enough or outcome.candidates == 2 + 9


async def test_feedback_is_the_users_next_turn(session):
    search = Refine(4, 1, 2, feedback="{score}:{worst_score}", contrast=" not {worst}", enough=2.0)
    s = session(verifier=WORD, seed=3)
    outcome = await run(search, s)
    drafts = s.root.children
    best, worst = max(drafts, key=lambda node: node.score), min(drafts, key=lambda node: node.score)
    (turn,) = [node for node in outcome.tree if node.segment.by == "user"]
    assert turn.parent is best and worst.score < best.score
    assert turn.segment.text == f"{best.score:.2f}:{worst.score:.2f} not {worst.prefix.text}"
    assert sum(node.times for node in turn.children) == 2
    assert all(node.prefix.text == node.segment.text for node in turn.children)  # judged by the reply alone


async def test_the_worst_is_left_out_where_all_are_alike(session):
    s = session(verifier=Constant())
    await run(Refine(3, 1, 1, feedback="again", contrast=" not {worst}"), s)
    assert [node.segment.text for node in s.tree if node.segment.by == "user"] == ["again"]


@pytest.mark.parametrize("kind", [Refine, Forgetful])
async def test_prefixes_are_kept_up_to_the_weakest_step(session, kind):
    """Against the definition, for every round: new answers begin with the steps before the weakest one."""
    wrong = 0
    for seed in range(20):
        verifier = Hidden("abcab", strict=seed % 2 == 0)
        s = session(verifier=verifier, seed=seed)
        search = kind(2, 3, 2, restart="prefix", weakest=lowest)
        best, worst = await search.review(s, await search.answers(s, s.root, 2), [])
        for _ in range(3):
            steps = (await verifier.score([best.prefix]))[0].steps
            start = await search.cut(s, best)
            wrong += start.prefix.text != best.prefix.text[: steps.index(min(steps))]
            new = await search.answers(s, start, 2)
            assert all(start in node.path() for node in new)
            best, worst = await search.review(s, new, [best, worst])
    assert (wrong == 0) is (kind is Refine)


async def test_without_step_scores_prefixes_are_judged(session):
    """Hidden's step score is its score of the prefix, so both find the same, at the price of more passes."""
    for seed in range(10):
        told = await run(Refine(2, 3, 2, restart="prefix"), session(verifier=WORD, seed=seed))
        asked = await run(Refine(2, 3, 2, restart="prefix"), session(verifier=Mute(WORD), seed=seed))
        assert [node.prefix for node in told.tree] == [node.prefix for node in asked.tree]
        assert asked.spent.passes >= told.spent.passes


async def test_keeping_a_good_prefix_finds_more_than_drawing_anew(session):
    """At 14 answers each."""
    scores = {}
    for name, search in {
        "prefix": Refine(2, 6, 2, restart="prefix"),
        "lowest": Refine(2, 6, 2, restart="prefix", weakest=lowest),  # wrong where scores say "so far"
        "turn": Refine(2, 6, 2),  # to this policy a turn says nothing: it draws anew
        "flat": Flat(14),
    }.items():
        outcomes = [await run(search, session(verifier=Progress("abcab"), seed=seed)) for seed in range(60)]
        scores[name] = sum(outcome.answer.score for outcome in outcomes) / 60
    assert scores["prefix"] > scores["flat"] + 0.1
    assert scores["lowest"] < scores["prefix"] - 0.1
    assert abs(scores["turn"] - scores["flat"]) < 0.12


def test_weakest_steps_by_hand():
    assert [steepest(x) for x in ((0.4, 0.3), (0.9, 0.3, 0.2), (1.0, 1.0, 1.0), (0.9, 0.8, 0.9, 0.1))] == [0, 1, 0, 3]
    assert [lowest(x) for x in ((0.4, 0.3), (0.9, 0.3, 0.2), (1.0, 1.0), (0.5, 0.2, 0.2))] == [1, 2, 0, 1]


async def test_when_the_budget_ends_the_best_so_far_is_the_answer(session):
    s = session(verifier=WORD)
    search = Refine(3, 2, 2)
    await run(Refine(3, 0), s)
    best = max(s.tree.answers(), key=lambda node: node.score)
    s.budget.limits["passes"] = s.budget.spent.passes
    with pytest.raises(BudgetExhausted):
        await search(s)
    assert search.nominate(s) is best
    assert search.nominate(session()) is None


async def test_answers_that_were_cut_are_no_answers(session):
    s = session(Toy(length=9), WORD)
    outcome = await run(Refine(2, 2, 1, restart="prefix", depth=2), s)
    assert all(node.complete for node in outcome.tree.answers())
    none = session(Toy(length=9), WORD, whole=s.whole.to_the_end(3))
    assert (await run(Refine(2, 2, 1), none)).answer is None


async def test_turns_need_a_policy_that_takes_text(session):
    @dataclass(frozen=True)
    class Deaf:
        async def sample(self, requests):
            return await Toy().sample(requests)

    with pytest.raises(ConfigError, match="policy"):
        await run(Refine(), session(Deaf(), WORD))
    assert (await run(Refine(restart="prefix"), session(Deaf(), WORD))).answer


@pytest.mark.parametrize(
    "fields",
    [{"drafts": 0}, {"rounds": -1}, {"width": 0}, {"depth": 0}, {"restart": "middle"}, {"feedback": ""}],
)
def test_settings_that_make_no_sense_are_refused(fields):
    with pytest.raises(ConfigError) as caught:
        Refine(**fields)
    assert caught.value.field in fields
