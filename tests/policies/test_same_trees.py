"""Every search grows the same tree with speculation and without it, tokens, ids, scores, statistics, to the last bit.

The default run puts every search through a problem each. TREEWISE_FULL=1 puts every search through every temperature
with every drafter, two problems each, more than 300 in all, in float64 and float32. The kernels make float32 exact too:
what they compute for a token does not depend on what else is in a forward.
"""

import asyncio
import os
from dataclasses import dataclass

import pytest

from experiments.tasks.reference import Arithmetic, Countdown
from policies.embedded import Embedded
from policies.engine.native.build import library
from search.budget import Budget
from search.errors import VerifierError
from search.run import run
from search.session import Session
from search.steps import Delimiter, Tokens
from search.types import Sampling
from verifiers.prm import PRM

FULL = os.environ.get("TREEWISE_FULL") == "1"
DRAFTERS = ["draft", "ngram", "recycle", ("ngram", "draft", "recycle")]
HEATS = [(0.0, 1.0), (0.8, 1.0), (1.0, 0.9)]
TYPES = ["float64", "float32"]
pytestmark = pytest.mark.skipif(library() is None, reason="no C++ compiler: float32 is equal up to rounding only")
TASKS = (Arithmetic(240), Countdown(count=240))
AT_ONCE = 12  # searches, so that drafts of many rows meet prompts and rows that end


@dataclass(frozen=True, eq=False)
class Case:
    """A search over a problem."""

    name: str
    search: object
    number: int
    heat: float
    top_p: float
    tokens: int

    async def grow(self, policy, verifier, roles):
        """The tree, as what must be the same to the letter, and as numbers."""
        half, which = divmod(self.number, 2)
        task = TASKS[which]
        item = task.items()[half]
        step = Sampling(self.heat, top_p=self.top_p, max_tokens=32, until=(Tokens(6), Delimiter())[half % 2])
        session = Session(
            policy.prompt(task.messages(item)),
            policy,
            verifier,
            Budget({"generated": self.tokens, "passes": 40}, strict=True),
            question=item.question,
            step=step,
            whole=step.to_the_end(64),
            roles=roles,
            seed=self.number,
        )
        try:
            outcome = await run(self.search, session)
            stopped, answer = outcome.stopped, outcome.answer
        except VerifierError as error:  # this PRM cannot judge a bare prompt: the tree up to there must be the same
            stopped, answer = str(error), None
        shape = [
            (n.id, n.parent.id if n.parent else -1, n.segment.tokens, n.segment.text, n.segment.finish, n.segment.by)
            + (n.times, n.visits, n.pruned, n.scored)
            for n in session.tree
        ]
        numbers = [
            (n.segment.logprobs, (n.score, *n.step_scores) if n.scored else (), n.total, tuple(sorted(n.notes.items())))
            for n in session.tree
        ]
        return (stopped, answer.id if answer else None, shape), numbers


async def grown(cases, dtype, speculate):
    """Trees of all cases, some at a time, and the counters of speculation."""
    memory = {"dtype": dtype, "memory": "48MB", "threads": 1}
    async with (
        Embedded("models/policy", speculate=speculate, draft="models/draft", **memory) as policy,
        Embedded("models/draft", **memory) as small,
        PRM("models/prm", **memory) as prm,
    ):
        speculation = policy.engine.speculation
        if speculation is not None:
            speculation.governor.forced, speculation.most = True, 96
        trees, todo = {}, iter(cases)

        async def work():
            for case in todo:
                trees[case] = await case.grow(policy, prm, {"draft": small, "judge": policy})

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        engine = policy.engine
    engine.kv.check()
    assert engine.kv.locked == 0 and engine.kv.available == engine.kv.slots
    return trees, speculation.counters if speculation is not None else None


def same(found, expected):
    """Raises where two forests differ; the number of nodes."""
    for case, (shape, numbers) in found.items():
        assert shape == expected[case][0], f"{case}"
        assert repr(numbers) == repr(expected[case][1]), f"{case}"
    assert len(found) == len(expected)
    return sum(len(numbers) for _, numbers in found.values())


def cases(searches, heats, number=0, tokens=60):
    """A problem for each search and temperature, numbered from `number`."""
    return [
        Case(name, search, number + i * len(heats) + j, *heat, tokens)
        for i, (name, search) in enumerate(searches.items())
        if name != "stochastic-beam"  # lists the whole vocabulary at each node; "stochastic-beam-cut" does not
        for j, heat in enumerate(heats)
    ]


@pytest.mark.parametrize("dtype", TYPES)
def test_every_search_grows_the_same_tree(searches, dtype):
    some = cases(searches, HEATS[1:2])
    found, counters = asyncio.run(grown(some, dtype, DRAFTERS[3]))
    expected, _ = asyncio.run(grown(some, dtype, None))
    assert same(found, expected) > 15 * len(some) and len(some) == len(searches) - 1
    assert sum(counters.accepted.values()) > 300 and all(counters.drafted[name] > 50 for name in DRAFTERS[3]), counters


@pytest.fixture(scope="module")
def plain():
    """What grows without guesses, by temperature and type of numbers."""
    known = {}

    def get(some, heat, dtype):
        if (heat, dtype) not in known:
            known[heat, dtype] = (some, asyncio.run(grown(some, dtype, None))[0])
        return known[heat, dtype]

    return get


@pytest.mark.skipif(not FULL, reason="TREEWISE_FULL=1 runs it: minutes of processor time")
@pytest.mark.parametrize("heat", HEATS, ids=str)
@pytest.mark.parametrize("drafter", DRAFTERS, ids=str)
def test_every_search_at_every_temperature_with_every_drafter(searches, plain, heat, drafter, capsys):
    first = 2 * len(searches) * HEATS.index(heat)
    wanted = cases(searches, [heat], first, 240) + cases(searches, [heat], first + len(searches), 240)
    assert 3 * len(wanted) >= 300
    for dtype in TYPES:
        some, known = plain(wanted, heat, dtype)  # trees are kept by case
        found, counters = asyncio.run(grown(some, dtype, drafter))
        nodes = same(found, known)
        right, guessed = sum(counters.accepted.values()), sum(counters.drafted.values())
        with capsys.disabled():
            print(
                f"\n{dtype}: {len(some)} trees of {nodes:,} nodes equal to the last bit, {drafter}, temperature and",
                end="",
            )
            print(f" top-p {heat}, {right:,} of {guessed:,} guesses right", flush=True)
