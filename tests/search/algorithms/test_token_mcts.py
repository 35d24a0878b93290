"""Tree search over tokens: visit for visit a plain one, completions paid once, an end with the first that passes."""

import math
import random
from collections import Counter, defaultdict

import pytest

from policies.toy import Toy
from search.algorithms.token_mcts import TokenMcts
from search.budget import Budget
from search.errors import ConfigError
from search.rules import Arm, p_ucb
from search.run import run
from search.types import Sampling, Verdict
from verifiers.toy import Hidden

END = "."


class Words:
    """A score for each finished word that has nothing to do with that of any other; open ones may not be asked."""

    def __init__(self, seed):
        self.seed, self.asked = seed, []

    def of(self, word):
        return round(random.Random(f"{self.seed} {word}").random(), 3)

    async def score(self, prefixes):
        assert all(prefix.steps[-1].finish in ("end", "empty") for prefix in prefixes)
        self.asked += [prefix.text for prefix in prefixes]
        return [Verdict(self.of(prefix.text)) for prefix in prefixes]


def greedy(toy, word):
    while not word.endswith(END):
        row = toy.distribution(word)
        word += max(row, key=row.get)
    return word


def plain(toy, words, simulations, top, base, c, mean=False, cache=True):
    """PG-TD, algorithm 1, on words: visits, completions made and the best word."""
    children, n, total, most = {}, defaultdict(int), defaultdict(float), defaultdict(float)
    programs, made = [], 0

    def promise(word, child, p):
        q = (total[child] / n[child] if n[child] else 0.0) if mean else most[child]
        beta = math.log((n[word] + base + 1) / base) + c
        return q + beta * p * math.sqrt(math.log(n[word])) / (1 + n[child])

    for _ in range(simulations):
        word, path = "", [""]
        while word in children:
            word = max(children[word], key=lambda child: promise(word, child, children[word][child]))
            path.append(word)
        if not word.endswith(END):
            likeliest = sorted(toy.distribution(word).items(), key=lambda item: -item[1])[:top]
            children[word] = {word + letter: p for letter, p in likeliest}
        program = word if word.endswith(END) else next((p for p in programs if p.startswith(word)), None)
        if program is None or not cache:
            program = greedy(toy, word)
            programs.append(program)
            made += 1
        for each in path:
            n[each] += 1
            total[each] += words.of(program[:-1])
            most[each] = max(most[each], words.of(program[:-1]))
    return {each: visits for each, visits in n.items() if visits}, made, most[""]


def visits(tree):
    """Of the nodes that stand for a token."""
    named = ((node.prefix.text + END * node.complete, node) for node in tree)
    return {name: node.visits for name, node in named if node.visits}


@pytest.mark.parametrize("backup", ["max", "mean"])
async def test_visits_equal_a_plain_implementation(session, language, backup):
    for seed in range(40):
        toy, words = language(seed, length=5), Words(seed)
        search = TokenMcts(simulations=60, top=2 + seed % 2, enough=1.0, backup=backup)
        outcome = await run(search, session(toy, words))
        expected, made, most = plain(toy, words, 60, search.top, 10.0, 4.0, backup == "mean")
        assert visits(outcome.tree) == expected
        assert outcome.tree.root.visits == 60
        assert sum(node.completions for node in outcome.tree) == made
        assert outcome.answer.score == most


async def test_broken_copies_are_found_out(session, language):
    class Greedy(TokenMcts):
        def promise(self, node, child):
            return p_ucb(Arm(child.value, 1 / 3, child.visits, node.visits), self.c, self.c_base)

    class Forgetful(TokenMcts):
        def known(self, leaf, programs):
            return leaf if leaf.terminal else None

    toy, words = language(1), Words(1)
    expected, made, _ = plain(toy, words, 60, 3, 10.0, 4.0)
    greedy_run = await run(Greedy(simulations=60), session(toy, words))
    forgetful = await run(Forgetful(simulations=60), session(toy, words))
    assert visits(greedy_run.tree) != expected
    assert sum(node.completions for node in forgetful.tree) > made


async def test_it_finds_the_word_and_stops_there(session, language):
    for seed in range(20):
        toy = language(seed, "ab", length=4)
        word = sorted(toy.probabilities(), key=lambda word: -toy.probabilities()[word])[1 + seed % 6]
        outcome = await run(TokenMcts(simulations=500, top=3), session(toy, Hidden(word, strict=True)))
        assert outcome.answer.prefix.text == word
        assert outcome.answer.score == 1.0
        assert outcome.tree.root.visits < 500
        if (simulations := outcome.tree.root.visits) > 1:
            again = await run(TokenMcts(simulations - 1), session(toy, Hidden(word, strict=True)))
            assert again.answer is None or again.answer.prefix.text != word


async def test_likely_words_come_sooner_than_by_sampling_at_random(session):
    chain = {"": {"a": 0.8, "b": 0.2}} | {before: {"a": 0.5, "b": 0.3, END: 0.2} for before in "ab"}
    toy = Toy("ab", length=6, chain=chain)
    outcome = await run(TokenMcts(simulations=2000), session(toy, Hidden("ababab", strict=True)))
    assert outcome.answer.prefix.text == "ababab"
    assert outcome.tree.root.visits < 1 / toy.probabilities()["ababab"]


async def test_each_program_is_judged_once_however_it_was_come_by(session, language):
    words = Words(3)
    outcome = await run(TokenMcts(simulations=100), session(language(3), words))
    assert len(words.asked) == len(set(words.asked))
    assert outcome.spent.policy_calls < 200


async def test_a_completion_that_was_cut_earns_nothing_and_is_not_judged(session, language):
    s = session(language(2, length=9, end=0.0), Words(2), whole=Sampling(max_tokens=3))
    outcome = await run(TokenMcts(simulations=20, depth=4), s)
    assert outcome.spent.passes == 0 and outcome.answer is None
    assert outcome.tree.root.visits == 20 and outcome.tree.root.total == 0
    assert max(node.depth for node in outcome.tree if node.visits) == 4


async def test_waves_leave_the_counts_of_single_visits(session, language):
    for seed in range(10):
        outcome = await run(TokenMcts(simulations=40, parallel=7), session(language(seed), Words(seed)))
        assert outcome.tree.root.visits == 40
        for node in outcome.tree:
            below = sum(child.visits for child in node.children)
            assert node.visits >= below


async def test_when_the_budget_ends_no_virtual_visit_is_left_and_the_best_program_is_the_answer(session, language):
    seen = []
    s = session(language(4, length=8), Words(4), sinks=[seen.append], budget=Budget({"generated": 60}))
    outcome = await run(TokenMcts(parallel=5), s)
    assert outcome.stopped == "generated"
    backed = Counter(id for event in seen if event.kind == "backed" for id in event.path)
    assert {node.id: node.visits for node in outcome.tree if node.visits} == backed
    assert outcome.answer.score == max(node.score for node in outcome.tree.answers() if node.scored)


def test_p_ucb_by_hand():
    assert p_ucb(Arm(0.5, 0.3, 0, 1), 4, 10) == 0.5  # ln 1 = 0
    assert p_ucb(Arm(0.5, 0.3, 2, 9), 4, 10) == pytest.approx(
        0.5 + (math.log(2) + 4) * 0.3 * math.sqrt(math.log(9)) / 3
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"simulations": 0}, "simulations"),
        ({"top": 0}, "top"),
        ({"depth": 0}, "depth"),
        ({"parallel": 0}, "parallel"),
        ({"c_base": 0}, "c_base"),
        ({"c": -1}, "c"),
        ({"backup": "min"}, "backup"),
        ({"enough": 2}, "enough"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        TokenMcts(**fields)
    assert caught.value.field == field
