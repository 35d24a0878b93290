"""Best-first beam search: the answer of plain beam search, exactly, with fewer calls."""

import math

import pytest

from search.algorithms.best_first_beam import BestFirstBeam
from search.algorithms.token_beam import TokenBeam
from search.budget import Budget
from search.errors import ConfigError
from search.run import run
from verifiers.toy import Hidden

END = "."


def plain_beam(toy, k, length):
    """The members of the last beam that have ended, best first; a finished word keeps its place while it can."""
    beam = [(0.0, "")]
    for _ in range(length):
        heap = [(s, y) for s, y in beam if y.endswith(END)]
        for s, y in beam:
            if not y.endswith(END):
                heap += [(s + math.log(p), y + letter) for letter, p in toy.distribution(y).items()]
        beam = sorted(heap, reverse=True)[:k]
    return [y for _, y in beam if y.endswith(END)]


def word(node):
    return None if node is None else node.prefix.text + END


CASES = [(seed, 1 + seed % 5, 4 + seed % 4, 0.6) for seed in range(300)]
LONG = [(seed, 2 + seed % 3, 11, 0.3) for seed in range(60)]  # an end found early is likely to be overtaken


async def test_it_finds_what_plain_beam_search_finds_with_no_more_calls(session, language):
    fewer = found = 0
    for seed, k, length, end in CASES + LONG:
        toy = language(seed, "abc" if length < 9 else "ab", length=max(7, length - 1), end=end)
        quick = await run(BestFirstBeam(beams=k, length=length), session(toy, None))
        plain = await run(TokenBeam(beams=k, length=length, stop="vanilla"), session(toy, None))
        if expected := plain_beam(toy, k, length):
            assert word(quick.answer) == expected[0] == word(plain.answer)
        assert quick.spent.policy_calls <= plain.spent.policy_calls
        fewer += quick.spent.policy_calls < plain.spent.policy_calls
        found += bool(expected)
    assert fewer > 150 and found > 200


async def test_a_copy_that_returns_the_first_end_popped_is_found_out(session, language):
    class Hasty(BestFirstBeam):
        """Forgets that k longer hypotheses may have come before."""

        def stays(self, node, pops):
            return True

    wrong = 0
    for seed, k, length, end in LONG:
        toy = language(seed, "ab", length=length - 1, end=end)
        outcome = await run(Hasty(beams=k, length=length), session(toy, None))
        wrong += word(outcome.answer) != plain_beam(toy, k, length)[0]
    assert wrong


@pytest.mark.parametrize("parallel", [1, 4])
async def test_of_several_answers_it_finds_the_first_of_the_last_beam(session, language, parallel):
    for seed in range(80):
        toy, k = language(seed, length=6), 2 + seed % 4
        search = BestFirstBeam(beams=k, length=7, answers=k, parallel=parallel)
        outcome = await run(search, session(toy, None))
        finished = [node for node in outcome.tree.answers() if "logprob" in node.notes]
        finished.sort(key=lambda node: -node.notes["logprob"])
        assert [word(node) for node in finished] == plain_beam(toy, k, 7)


async def test_looking_ahead_changes_the_calls_and_nothing_else(session, language):
    for seed in range(60):
        toy = language(seed, length=7)
        one = await run(BestFirstBeam(beams=3), session(toy, None))
        many = await run(BestFirstBeam(beams=3, parallel=3), session(toy, None))
        popped = [{node.prefix.text for node in o.tree if "logprob" in node.notes} for o in (one, many)]
        assert popped[0] == popped[1]
        assert word(one.answer) == word(many.answer)
        assert one.spent.policy_calls <= many.spent.policy_calls


async def test_pops_are_few_per_length_and_never_better_than_those_before(session, language):
    for seed in range(40):
        seen = []
        outcome = await run(BestFirstBeam(beams=2), session(language(seed, length=7), None, sinks=[seen.append]))
        popped = [event.node for event in seen if event.kind == "noted"]
        scores = [outcome.tree.nodes[id].notes["logprob"] for id in popped]
        depths = [outcome.tree.nodes[id].depth for id in popped]
        assert scores == sorted(scores, reverse=True)
        assert all(depths.count(depth) <= 2 for depth in depths)


async def test_the_verifier_may_choose_among_the_answers(session, language):
    toy = language(2, letters="ab", length=3)
    outcome = await run(BestFirstBeam(beams=20, answers=20, choose="verifier"), session(toy, Hidden("bb")))
    assert outcome.answer.prefix.text == "bb"


async def test_when_the_budget_ends_nothing_is_said_to_be_finished_that_is_not(session, language):
    s = session(language(1, length=20), Hidden("a"), budget=Budget({"policy_calls": 2}))
    search = BestFirstBeam(beams=2)
    outcome = await run(search, s)
    assert outcome.stopped == "policy_calls"
    assert search.nominate(s) is None


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"beams": 0}, "beams"),
        ({"length": 0}, "length"),
        ({"answers": 5}, "answers"),
        ({"parallel": 0}, "parallel"),
        ({"choose": "me"}, "choose"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        BestFirstBeam(**fields)
    assert caught.value.field == field
