"""Reward-guided decoding against the exact mixture of draft and target."""

import math
from dataclasses import dataclass

import pytest

from policies.toy import END, Toy
from search.accept import clipped, logistic, threshold
from search.algorithms.reward_guided import RewardGuided
from search.errors import ConfigError
from search.run import run
from search.types import Cost, Finish, Verdict

DRAFT = Toy(
    "ab", length=3, chain={"": {"a": 0.8, "b": 0.2}, "a": {"a": 0.5, "b": 0.2, ".": 0.3}, "b": {"a": 0.6, ".": 0.4}}
)
TARGET = Toy(
    "ab", length=3, chain={"": {"a": 0.3, "b": 0.7}, "a": {"b": 0.6, ".": 0.4}, "b": {"a": 0.1, "b": 0.5, ".": 0.4}}
)
SCORES = {"a": 0.35, "b": 0.8, END: 0.6}


@dataclass(frozen=True)
class LastLetter:
    """The score of the last step is that of its letter, or of the end."""

    async def score(self, prefixes):
        return [Verdict(SCORES[self.sign(prefix.steps[-1])], (), Cost(passes=1)) for prefix in prefixes]

    def sign(self, step):
        return END if step.finish in (Finish.END, Finish.EMPTY) else step.text


@dataclass(frozen=True)
class Flipped(RewardGuided):
    """A broken copy: keeps what it should refuse."""

    def accepts(self, s, step):
        return s.rng.random() >= self.weight(step.score, self.delta)


@dataclass(frozen=True)
class Insistent(RewardGuided):
    """A broken copy: asks the draft again before the target, which favours what the verifier likes."""

    def accepts(self, s, step):
        return super().accepts(s, step) or super().accepts(s, step)


def exact(weight, delta):
    """Probability of every word: p(y) = w(r(y)) p_draft(y) + (1 - E_draft w) p_target(y), step by step."""
    words, open_ = {}, {"": 1.0}
    while open_:
        word, p = open_.popitem()
        draft, target = DRAFT.distribution(word), TARGET.distribution(word)
        w = {y: weight(SCORES[y], delta) for y in draft}
        refused = 1 - math.fsum(draft[y] * w[y] for y in draft)
        for y in draft | target:
            q = p * (draft.get(y, 0.0) * w.get(y, 0.0) + refused * target.get(y, 0.0))
            if q and y == END:
                words[word] = q
            elif q:
                open_[word + y] = q
    return words


async def statistic(search, session, words, n):
    """Chi-square of the answers of n runs, over that of the 0.999 quantile; above 1 the distribution is another."""
    counts = dict.fromkeys(words, 0)
    for seed in range(n):
        s = session(TARGET, LastLetter(), roles={"draft": DRAFT}, seed=seed)
        word = (await run(search, s)).answer.prefix.text
        if word not in counts:
            return math.inf
        counts[word] += 1
    freedom = len(words) - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    return math.fsum((counts[word] - n * p) ** 2 / (n * p) for word, p in words.items()) / quantile


@pytest.mark.parametrize(("weight", "delta"), [(threshold, 0.7), (threshold, 0.5), (clipped, 1.0), (logistic, 0.6)])
async def test_words_follow_the_mixture(session, weight, delta):
    words = exact(weight, delta)
    assert math.fsum(words.values()) == pytest.approx(1)
    assert await statistic(RewardGuided(delta=delta, weight=weight), session, words, 700) < 1


@pytest.mark.parametrize("broken", [Flipped, Insistent])
async def test_broken_copies_do_not(session, broken):
    words = exact(clipped, 1.0)
    assert await statistic(broken(delta=1.0, weight=clipped), session, words, 700) > 1


async def drawn(session, delta, seed, n=1):
    """Tokens by author, and the outcome, with languages that share no letter."""
    draft, target = Toy("xy", length=6, end=0.2), Toy("ab", length=6, end=0.2)
    s = session(target, LetterFree(), roles={"draft": draft}, seed=seed)
    return await run(RewardGuided(n=n, delta=delta), s)


@dataclass(frozen=True)
class LetterFree:
    """Says 0.5 of everything."""

    async def score(self, prefixes):
        return [Verdict(0.5) for _ in prefixes]


async def test_threshold_0_is_the_draft_alone(session):
    for seed in range(20):
        outcome = await drawn(session, 0.0, seed)
        assert set(outcome.answer.prefix.text) <= set("xy")
        steps = outcome.answer.path()[1:]
        assert outcome.spent.generated == sum(len(node.segment.tokens) for node in steps)  # nothing was thrown away
        assert outcome.spent.policy_calls == outcome.spent.passes == len(steps) == len(outcome.tree) - 1


async def test_a_threshold_above_1_is_the_target_alone_and_pays_for_the_draft(session):
    for seed in range(20):
        outcome = await drawn(session, 1.1, seed)
        steps = outcome.answer.path()[1:]
        assert set(outcome.answer.prefix.text) <= set("ab")
        assert outcome.spent.policy_calls == 2 * len(steps) and outcome.spent.passes == len(steps)
        refused = [node for node in outcome.tree if node.pruned]
        assert all(node.notes["kept"] == 0.0 for node in refused) and not set(steps) & set(refused)
        tokens = sum(len(node.segment.tokens) * node.times for node in outcome.tree.nodes[1:])
        assert outcome.spent.generated == tokens  # the end may be written by both


async def test_a_refused_draft_is_no_answer_even_if_it_ends(session):
    ends = 0
    for seed in range(40):
        outcome = await drawn(session, 1.1, seed, n=3)
        refused = [node for node in outcome.tree.answers() if node.pruned]
        ends += len(refused)
        assert outcome.answer not in refused and set(outcome.answer.prefix.text) <= set("ab")
    assert ends


async def test_of_several_chains_the_best_end_is_the_answer(session):
    for seed in range(10):
        s = session(TARGET, LastLetter(), roles={"draft": DRAFT}, seed=seed)
        outcome = await run(RewardGuided(n=6, delta=0.5), s)
        ends = [node for node in outcome.tree.answers() if not node.pruned]
        assert outcome.answer.score == max(end.score for end in ends)


async def test_a_step_both_write_stays(session):
    one = Toy("a", length=4)
    outcome = await run(RewardGuided(delta=1.1), session(one, LetterFree(), roles={"draft": one}))
    assert outcome.answer.prefix.text == "aaaa" and not any(node.pruned for node in outcome.tree)
    assert {node.times for node in outcome.tree.nodes[1:]} == {2}


async def test_chains_still_open_are_completed_by_the_target(session):
    draft, target = Toy("xy", length=6), Toy("ab", length=6)
    s = session(target, LetterFree(), roles={"draft": draft})
    answer = (await run(RewardGuided(delta=0.0, depth=2), s)).answer
    assert set(answer.prefix.text[:2]) <= set("xy") and set(answer.prefix.text[2:]) <= set("ab")


async def test_it_needs_a_draft_and_a_verifier(session):
    with pytest.raises(ConfigError, match=r"roles\.draft"):
        await run(RewardGuided(), session())


@pytest.mark.parametrize("fields", [{"n": 0}, {"depth": 0}, {"delta": -0.1}, {"delta": float("nan")}])
def test_settings_that_make_no_sense_are_refused(fields):
    with pytest.raises(ConfigError) as caught:
        RewardGuided(**fields)
    assert caught.value.field in fields


def test_weights_by_hand():
    assert [threshold(r, 0.7) for r in (0.69, 0.7, 1.0)] == [0.0, 1.0, 1.0]
    assert [clipped(r, 0.5) for r in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0] and clipped(0.0, 0.0) == 1.0
    assert logistic(0.7, 0.7) == 0.5 and logistic(1.0, 0.7) == pytest.approx(0.952574)
