"""Every search grows the same tree with speculation and without it: tokens, ids, scores and statistics.

The default run puts every search through a problem each. TREEWISE_FULL=1 puts every search through every temperature
with every drafter, two problems each, more than 400 in all, in float64 and float32, and prints counts. In float64
all is equal to the last bit. In float32 a tree may differ where rounding decides a tie, and each such place is looked
up: the two candidates' sums of logit and noise, computed in float64, must be closer than TIE.
"""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.tasks.reference import Arithmetic, Countdown
from policies.embedded import Embedded
from policies.engine.kv import KV
from policies.engine.load import language_model
from policies.engine.sampler import arrivals
from policies.engine.trial import _part
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
TIE = 1e-4  # nats in float64; float32's logits of these models are right to about 1e-5
TASKS = (Arithmetic(240), Countdown(count=240))
AT_ONCE = 12  # searches, so that drafts of many rows meet prompts and rows that end


@dataclass
class Recorded:
    """A policy, what it drew written down by prompt, numbers and seed."""

    inner: Embedded
    draws: dict = field(default_factory=dict)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def sample(self, requests):
        replies = await self.inner.sample(requests)
        for request, reply in zip(requests, replies, strict=True):
            for seed, segment in zip(request.seeds, reply.segments, strict=False):
                self.draws[request.prefix.tokens, request.sampling, seed] = segment.tokens
        return replies


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
    """Trees and draws of all cases, some at a time, and the counters of speculation."""
    memory = {"dtype": dtype, "memory": "48MB", "threads": 1}
    async with (
        Embedded("models/policy", speculate=speculate, draft="models/draft", **memory) as policy,
        Embedded("models/draft", **memory) as small,
        PRM("models/prm", **memory) as prm,
    ):
        speculation = policy.engine.speculation
        if speculation is not None:
            speculation.governor.forced, speculation.most = True, 96
        told, trees, todo = Recorded(policy), {}, iter(cases)

        async def work():
            for case in todo:
                trees[case] = await case.grow(told, prm, {"draft": small, "judge": policy})

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        engine = policy.engine
    engine.kv.check()
    assert engine.kv.locked == 0 and engine.kv.available == engine.kv.slots
    return trees, told.draws, speculation.counters if speculation is not None else None


class Referee:
    """The policy in float64, to see how far apart two candidates are."""

    def __init__(self):
        self.model = language_model(Path("models/policy"), "float64", "cpu")

    def gap(self, ids, sampling, seed, position):
        """By how much the best candidate of a draw leads, or how near to the edge of top-p a token lies (nats)."""
        model = self.model
        kv = KV(model.layers, model.heads, model.width, len(ids), model.dtype)
        logits = _part(model, kv, torch.tensor(ids), 0, len(ids))[-1].double()
        logits = logits / (sampling.temperature or 1.0)
        share = torch.softmax(logits, -1).sort(descending=True)
        edge = (share.values.cumsum(-1) - sampling.top_p).abs().min() if sampling.top_p < 1 else torch.inf
        if sampling.temperature:
            logits = logits - arrivals(np.array([seed]), np.array([position]), len(logits))[0].log()
        kept = share.indices[: int((share.values.cumsum(-1) - share.values < sampling.top_p).sum())]
        best = (logits[kept] if sampling.top_p < 1 else logits).topk(2).values
        return min(float(best[0] - best[1]), float(edge))


@dataclass
class Count:
    """What a comparison found."""

    trees: int = 0
    equal: int = 0
    nodes: int = 0
    draws: int = 0
    by_draw: int = 0  # trees that differ because a draw at a tie does
    by_score: int = 0  # trees that differ though all draws of both are the same: scores within rounding
    ties: int = 0
    widest: float = 0.0  # nats, of the ties
    apart: float = 0.0  # the largest difference of two scores of one path

    def exact(self, found, expected):
        """In float64: all is equal."""
        for case, (shape, numbers) in found.items():
            self.trees, self.nodes = self.trees + 1, self.nodes + len(numbers)
            assert shape == expected[case][0], f"{case}"
            assert repr(numbers) == repr(expected[case][1]), f"{case}"
            self.equal += 1

    def near(self, found, draws, expected, others, referee):
        """In float32: equal up to ties."""
        common = draws.keys() & others.keys()
        self.draws += len(common)
        prompts = set()
        for key in common:
            a, b = draws[key], others[key]
            if a != b:
                ids, sampling, seed = key
                at = next(i for i in range(min(len(a), len(b))) if a[i] != b[i])
                gap = referee.gap(ids + a[:at], sampling, seed, at)
                assert gap < TIE, f"draw {seed} after {ids}: {a} and {b}, {gap:.2g} apart"
                self.ties, self.widest = self.ties + 1, max(self.widest, gap)
                prompts.add(ids)
        for case, (shape, numbers) in found.items():
            known, scores = {}, {}
            for (*_, nodes), store, values in ((shape, known, numbers), (expected[case][0], scores, expected[case][1])):
                paths = {-1: ()}
                for (number, parent, tokens, *_), (_, told, *_) in zip(nodes, values, strict=True):
                    paths[number] = (*paths[parent], tokens)
                    if told:
                        store[paths[number]] = told[0]
            for path in known.keys() & scores.keys():
                self.apart = max(self.apart, abs(known[path] - scores[path]))
            self.trees, self.nodes = self.trees + 1, self.nodes + len(numbers)
            if shape == expected[case][0]:
                self.equal += 1
            elif any(ids[: len(shape[2][0][2])] == shape[2][0][2] for ids in prompts):
                self.by_draw += 1
            else:
                self.by_score += 1
        assert self.apart < TIE


def cases(searches, heats, number=0, tokens=60):
    """A problem for each search and temperature, numbered from `number`."""
    return [
        Case(name, search, number + i * len(heats) + j, *heat, tokens)
        for i, (name, search) in enumerate(searches.items())
        if name != "stochastic-beam"  # lists the whole vocabulary at each node; "stochastic-beam-cut" does not
        for j, heat in enumerate(heats)
    ]


def test_every_search_grows_the_same_tree(searches):
    some = cases(searches, HEATS[1:2])
    found, _, counters = asyncio.run(grown(some, "float64", DRAFTERS[3]))
    expected, _, _ = asyncio.run(grown(some, "float64", None))
    count = Count()
    count.exact(found, expected)
    assert count.equal == len(some) == len(searches) - 1 and count.nodes > 15 * len(some)
    assert all(counters.accepted[name] > 5 for name in DRAFTERS[3]), counters


@pytest.fixture(scope="module")
def plain():
    """What grows without guesses, by temperature and type of numbers."""
    known = {}

    def get(some, heat, dtype):
        if (heat, dtype) not in known:
            known[heat, dtype] = (some, *asyncio.run(grown(some, dtype, None))[:2])
        return known[heat, dtype]

    return get


@pytest.mark.skipif(not FULL, reason="TREEWISE_FULL=1 runs it: half an hour of processor time")
@pytest.mark.parametrize("heat", HEATS, ids=str)
@pytest.mark.parametrize("drafter", DRAFTERS, ids=str)
def test_every_search_at_every_temperature_with_every_drafter(searches, plain, heat, drafter, capsys):
    first = 2 * len(searches) * HEATS.index(heat)
    some = cases(searches, [heat], first, 240) + cases(searches, [heat], first + len(searches), 240)
    exact, near = Count(), Count()
    some, known, _ = plain(some, heat, "float64")
    found, _, counters = asyncio.run(grown(some, "float64", drafter))
    exact.exact(found, known)
    same, rounded, drawn = plain(some, heat, "float32")
    assert same is some  # trees are kept by case
    found, draws, _ = asyncio.run(grown(some, "float32", drafter))
    near.near(found, draws, rounded, drawn, Referee())
    right, guessed = sum(counters.accepted.values()), sum(counters.drafted.values())
    with capsys.disabled():
        print(f"\n{len(some)} problems, {drafter}, temperature, top-p {heat}, {right:,} of {guessed:,} guesses right")
        print(f"  float64: {exact}\n  float32: {near}", flush=True)
    assert exact.equal == exact.trees == len(some) and 3 * len(some) >= 300
    assert near.by_draw + near.by_score <= near.trees // 20
