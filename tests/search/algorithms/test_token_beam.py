"""Token beams: exhaustive when wide, equal to a plain implementation, and as patient as they are told."""

import math

import pytest

from search.algorithms.token_beam import TokenBeam
from search.budget import Budget
from search.errors import ConfigError
from search.run import run
from verifiers.toy import Hidden

END = "."


def grown(toy, word):
    """Words one letter longer, or ended, with the log-probability of the letter."""
    return [(word + letter, math.log(p)) for letter, p in toy.distribution(word).items()]


def plain_patience(toy, k, p, alpha, length):
    """First come, first served, with patience; the answer and the words finished."""
    beam, finished = [(0.0, "")], []
    for _ in range(length):
        heap = sorted(((s + x, y) for s, word in beam for y, x in grown(toy, word)), reverse=True)
        beam = []
        while len(beam) < k and heap and len(finished) < p * k:
            s, y = heap.pop(0)
            (finished if y.endswith(END) else beam).append((s, y))
        if len(finished) >= p * k:
            break
    return max(finished, key=lambda f: f[0] / len(f[1]) ** alpha, default=(0, None))[1], {y for _, y in finished}


def plain_vanilla(toy, k, length):
    """The textbook's, to the last length, without stopping early."""
    beam = [(0.0, "")]
    for _ in range(length):
        heap = [(s, y) for s, y in beam if y.endswith(END)]
        heap += [(s + x, y) for s, word in beam if not word.endswith(END) for y, x in grown(toy, word)]
        beam = sorted(heap, reverse=True)[:k]
    return max((b for b in beam if b[1].endswith(END)), default=(0, None))[1]


def word(outcome):
    return None if outcome.answer is None else outcome.answer.prefix.text + END


@pytest.mark.parametrize("stop", ["patience", "vanilla"])
async def test_of_unlimited_width_it_finds_the_likeliest_word(session, language, stop):
    for seed in range(30):
        toy = language(seed, length=4)
        likeliest = max(words := toy.probabilities(), key=words.get)
        outcome = await run(TokenBeam(beams=200, stop=stop), session(toy, None))
        assert outcome.answer.prefix.text == likeliest
        assert outcome.answer.notes["logprob"] == pytest.approx(math.log(words[likeliest]))


@pytest.mark.parametrize("patience", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
async def test_patience_equals_a_plain_implementation(session, language, patience, alpha):
    for seed in range(40):
        toy, k = language(seed, length=6), 1 + seed % 4
        search = TokenBeam(beams=k, patience=patience, alpha=alpha, length=6)
        outcome = await run(search, session(toy, None))
        answer, finished = plain_patience(toy, k, patience, alpha, 6)
        if finished:
            assert word(outcome) == answer
        taken = [node for node in outcome.tree.answers() if "logprob" in node.notes]
        assert {node.prefix.text + END for node in taken} == finished


async def test_vanilla_equals_a_plain_implementation_that_never_stops_early(session, language):
    for seed in range(60):
        toy, k = language(seed, length=5), 1 + seed % 4
        outcome = await run(TokenBeam(beams=k, stop="vanilla"), session(toy, None))
        assert word(outcome) == plain_vanilla(toy, k, 6)


async def test_a_broken_copy_is_found_out(session, language):
    class Hasty(TokenBeam):
        """Lists too few tokens: an end may take the place of an open hypothesis."""

        async def patient(self, s):
            branch = s.branch
            s.branch = lambda node, k: branch(node, k - 1)
            return await super().patient(s)

    wrong = 0
    for seed in range(60):
        toy = language(seed, length=6)
        outcome = await run(Hasty(beams=2, patience=4, length=6), session(toy, None))
        taken = {node.prefix.text + END for node in outcome.tree.answers() if "logprob" in node.notes}
        wrong += taken != plain_patience(toy, 2, 4, 0.0, 6)[1]
    assert wrong


async def test_more_patience_looks_further_and_finds_no_less(session, language):
    rising = set()
    for seed in range(30):
        toy = language(seed, letters="abcd", length=8)
        runs = [await run(TokenBeam(beams=3, patience=p), session(toy, None)) for p in (0.4, 1, 2, 3)]
        calls = [outcome.spent.policy_calls for outcome in runs]
        scores = [outcome.answer.notes["logprob"] for outcome in runs]
        assert calls == sorted(calls)
        assert scores == sorted(scores)
        rising.add(calls[0] < calls[-1])
    assert True in rising


async def test_one_call_per_hypothesis_and_token(session, language):
    outcome = await run(TokenBeam(beams=3, patience=100, length=4), session(language(0, length=9), None))
    widths = [sum(node.depth == depth and bool(node.children) for node in outcome.tree) for depth in range(4)]
    assert widths == [1, 3, 3, 3]
    assert outcome.spent.generated == outcome.spent.policy_calls == 10
    assert outcome.spent.passes == 0


async def test_what_has_no_successor_in_the_beam_is_pruned(session, language):
    outcome = await run(TokenBeam(beams=3, patience=100, length=5), session(language(3, length=9), None))
    begun = [node for node in outcome.tree if node.children]
    last = max(node.depth for node in begun)
    assert any(node.pruned for node in begun)
    for node in begun:
        goes_on = any("logprob" in child.notes and not child.complete for child in node.children)
        assert node.pruned is not goes_on or node.depth == last


async def test_the_verifier_may_choose_among_the_finished(session, language):
    toy = language(1, letters="ab", length=3)
    search = TokenBeam(beams=20, patience=5, choose="verifier")
    outcome = await run(search, session(toy, Hidden("ba")))
    assert outcome.answer.prefix.text == "ba"
    assert outcome.spent.passes == sum("logprob" in node.notes for node in outcome.tree.answers())


async def test_when_the_budget_ends_the_best_finished_is_the_answer(session, language):
    toy = language(5, length=30)
    outcome = await run(TokenBeam(beams=4, patience=50), session(toy, None, budget=Budget({"policy_calls": 40})))
    finished = [node for node in outcome.tree.answers() if "logprob" in node.notes]
    assert outcome.stopped == "policy_calls" and len(finished) > 1
    assert outcome.answer is max(finished, key=lambda node: node.notes["logprob"])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"beams": 0}, "beams"),
        ({"length": 0}, "length"),
        ({"patience": 0}, "patience"),
        ({"patience": 2, "stop": "vanilla"}, "patience"),
        ({"alpha": -1}, "alpha"),
        ({"stop": "never"}, "stop"),
        ({"choose": "me"}, "choose"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        TokenBeam(**fields)
    assert caught.value.field == field
