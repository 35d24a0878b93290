"""Speculation under searches: the same trees with it and without it, for every drafter, at every temperature.

The default run takes a few problems; TREEWISE_FULL=1 takes 300 (about an hour of processor time).
"""

import asyncio
import math
import os
from collections import Counter

import pytest

from experiments.tasks.reference import Arithmetic, Countdown
from policies.embedded import Embedded
from policies.engine.drafters import NGram
from policies.engine.engine import Engine
from policies.engine.governor import Governor
from policies.engine.load import language_model
from policies.engine.speculate import Speculation
from policies.tiny import checkpoint, scripted
from search.algorithms.beam import Beam
from search.algorithms.flat import Flat
from search.algorithms.mcts import MCTS
from search.errors import ConfigError
from search.session import Session
from search.steps import Delimiter
from search.types import Sampling
from verifiers.prm import PRM

FULL = os.environ.get("TREEWISE_FULL") == "1"
PROBLEMS = 300 if FULL else 2
DRAFTERS = ["draft", "ngram", "recycle", ("ngram", "draft", "recycle")]
WAYS = [  # further settings: a fixed shape, depths by a bandit, chosen by goodput
    {"by": ["ngram", "draft"], "profile": [0.6, 0.2], "guesses": 6},
    {"by": "draft", "length": "bandit"},
    {"by": ("draft", "recycle"), "length": "goodput"},
]
HEATS = [(0.0, 1.0), (0.8, 1.0), (1.0, 0.9)]
SEARCHES = [Beam(2, 3, depth=4), MCTS(simulations=4, width=2), Flat(3)]


async def trees(policy, prm, heat, top_p):
    """The trees of all searches over the problems, a few problems at a time."""
    step = Sampling(heat, top_p=top_p, max_tokens=40, until=Delimiter())
    half = PROBLEMS // 2
    items = [(task, i) for task, n in ((Arithmetic(), PROBLEMS - half), (Countdown(), half)) for i in task.items()[:n]]
    policy.engine.kv.check()

    async def one(task, item, search):
        prompt = policy.prompt(task.messages(item))
        session = Session(prompt, policy, prm, step=step, whole=step.to_the_end(80), question=item.question)
        await search(session)
        nodes = [(n.id, n.segment.tokens, n.segment.text, n.segment.finish, n.times) for n in session.tree]
        numbers = [(n.segment.logprobs, n.score if n.scored else None) for n in session.tree]
        return nodes, numbers

    found = []
    for task, item in items:
        found += await asyncio.gather(*(one(task, item, search) for search in SEARCHES))
    return found


async def grown(dtype, speculate, heat, top_p):
    async with (
        Embedded("models/policy", dtype, memory="64MB", threads=1, speculate=speculate, draft="models/draft") as policy,
        PRM("models/prm", dtype=dtype, memory="64MB", threads=1) as prm,
    ):
        speculation = policy.engine.speculation
        if speculation is not None:
            speculation.governor.forced |= not isinstance(speculate, dict)
            speculation.most = 40
        result = await trees(policy, prm, heat, top_p)
        engine = policy.engine
    engine.kv.check()
    assert engine.kv.locked == 0 and engine.kv.available == engine.kv.slots
    return result, speculation.counters if speculation is not None else None


@pytest.fixture(scope="module")
def plain():
    known = {}

    def get(dtype, heat, top_p):
        if (dtype, heat, top_p) not in known:
            known[dtype, heat, top_p] = asyncio.run(grown(dtype, None, heat, top_p))[0]
        return known[dtype, heat, top_p]

    return get


@pytest.mark.parametrize(("heat", "top_p"), HEATS)
@pytest.mark.parametrize("speculate", DRAFTERS, ids=str)
def test_trees_are_the_same_to_the_last_bit_in_float64(plain, speculate, heat, top_p):
    found, counters = asyncio.run(grown("float64", speculate, heat, top_p))
    expected = plain("float64", heat, top_p)
    assert [nodes for nodes, _ in found] == [nodes for nodes, _ in expected]
    for (_, numbers), (_, others) in zip(found, expected, strict=True):
        for (logprobs, score), (same, known) in zip(numbers, others, strict=True):
            assert logprobs == same
            assert score == known
    assert sum(counters.accepted.values()) > 0.2 * counters.drafted_passes


@pytest.mark.parametrize("speculate", WAYS, ids=str)
def test_trees_are_the_same_however_guesses_are_chosen(plain, speculate):
    found, counters = asyncio.run(grown("float64", speculate, 0.8, 1.0))
    assert [repr(tree) for tree in found] == [repr(tree) for tree in plain("float64", 0.8, 1.0)]
    assert sum(counters.drafted.values()) > 10


@pytest.mark.parametrize("speculate", DRAFTERS[::3], ids=str)
def test_trees_in_float32_differ_at_ties_alone(plain, speculate):
    found, _ = asyncio.run(grown("float32", speculate, 0.8, 1.0))
    different = sum(a[0] != b[0] for a, b in zip(found, plain("float32", 0.8, 1.0), strict=True))
    # a tree of some 100 draws, 1e-6 apart at a tie: about one in ten thousand
    assert different <= len(found) // 100, f"{different} of {len(found)} trees"


def test_draws_with_guesses_follow_the_distribution(tmp_path):
    """Two tokens after a prompt, against the exact distribution of a scripted model."""
    follows = {9: {10: 2.0, 11: 1.5, 12: 0.0}, 10: {10: 1.0, 12: 2.0}, 11: {12: 1.0, 11: 0.5}, 12: {10: 3.0, 11: 2.9}}
    for row in follows.values():
        for token in range(264):
            row.setdefault(token, -30.0)
    model = language_model(scripted(tmp_path, follows), "float32", "cpu")
    speculation = Speculation([NGram()], Governor(forced=True))
    engine, count = Engine(model, 16 << 20, speculation=speculation), 4000
    engine.start()
    try:
        drawn = asyncio.run(engine.sample((9,), tuple(range(count)), limit=3)).draws
    finally:
        engine.close()

    def share(row):
        weights = {token: math.exp(logit) for token, logit in row.items() if logit > -30}
        return {token: weight / sum(weights.values()) for token, weight in weights.items()}

    expected = {
        (a, b, c): p * q * r
        for a, p in share(follows[9]).items()
        for b, q in share(follows[a]).items()
        for c, r in share(follows[b]).items()
    }
    seen = Counter(draw.tokens for draw in drawn)
    assert set(seen) <= set(expected)
    statistic = sum((seen[key] - count * p) ** 2 / (count * p) for key, p in expected.items())
    free = len(expected) - 1
    assert statistic < free + 4 * math.sqrt(2 * free)
    assert speculation.counters.accepted["ngram"] > count / 4


def test_settings_that_cannot_be_are_refused(tmp_path):
    wrong = [("eagle", None, "speculate"), (["ngram", "ngram"], None, "speculate"), ("draft", None, "draft")]
    for field, value in (
        ("length", "long"),
        ("profile", [0.2, 0.5]),
        ("profile", [0.9, 0.2]),
        ("guesses", 0),
        ("x", 1),
    ):
        wrong.append(({"by": "ngram", field: value}, None, f"speculate.{field}"))
    for speculate, draft, field in wrong:
        with pytest.raises(ConfigError, match=field):
            Embedded("models/policy", speculate=speculate, draft=draft)
    other = str(checkpoint(tmp_path / "other"))

    async def enter(draft):
        async with Embedded("models/policy", memory="4MB", speculate="draft", draft=draft):
            pass

    for draft, words in ((other, "tokenizer"), (str(tmp_path), "folder"), (str(tmp_path / "none"), "folder")):
        with pytest.raises(ConfigError, match=words):
            asyncio.run(enter(draft))


def test_the_fingerprint_does_not_depend_on_who_guesses():
    plain = Embedded("models/policy").fingerprint
    assert Embedded("models/policy", speculate=["ngram", "draft"], draft="models/draft").fingerprint == plain
