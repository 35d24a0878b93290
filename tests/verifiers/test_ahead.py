"""Scores begun ahead: the same searches, no score asked twice, nothing left running; engines that work side by side."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from experiments.tasks.reference import Arithmetic
from policies.embedded import Embedded
from policies.engine.worker import Worker
from policies.toy import Toy
from search.algorithms.beam import Beam
from search.algorithms.flat import Flat
from search.errors import VerifierError
from search.session import Session, gather
from search.steps import Delimiter
from search.types import Prefix, Request, Sampling, Verdict
from verifiers.ahead import TRIED, Ahead
from verifiers.prm import PRM

STEP = Sampling(0.8, max_tokens=40, until=Delimiter())


@dataclass
class Counting:
    """A verifier that counts what it is asked."""

    inner: object
    seen: Counter = field(default_factory=Counter)

    async def score(self, prefixes):
        self.seen.update(prefix.digest for prefix in prefixes)
        return await self.inner.score(prefixes)


async def test_every_search_is_the_same_with_scores_begun_ahead(any_search, worlds):
    world = worlds["pairs"]
    plain = await world.run(any_search, world.prompts[0])
    ahead = Ahead(world.policy, Counting(world.verifier))
    found = await replace(world, policy=ahead.policy, verifier=ahead.verifier).run(any_search, world.prompts[0])
    await ahead.aclose()
    assert found.record() == plain.record()
    assert not ahead._tasks


async def test_a_verifier_that_fails_ahead_fails_where_it_is_asked(segment):
    class Broken:
        async def score(self, prefixes):
            raise VerifierError("no")

    ahead = Ahead(Toy(), Broken())
    prefix = Prefix(segment("q"))
    request = Request(prefix, Sampling(max_tokens=3), (1, 2))
    (reply,) = await ahead.policy.sample([request])
    await asyncio.sleep(0)
    with pytest.raises(VerifierError):
        await ahead.verifier.score([prefix + reply.segments[0]])
    await ahead.aclose()


async def test_what_is_never_asked_for_is_left_alone(segment):
    class Fair:
        async def score(self, prefixes):
            return [Verdict(0.5) for _ in prefixes]

    ahead = Ahead(Toy(), Fair())
    prefix = Prefix(segment("q"))
    for seed in range(10 * TRIED):
        await ahead.policy.sample([Request(prefix, Sampling(max_tokens=4), (seed,))])
    assert ahead.begun[False] <= TRIED
    await ahead.aclose()
    assert not ahead._tasks


async def trees(policy, prm, problems, ahead, alternate):
    task = Arithmetic(40)

    async def one(item):
        both = Ahead(policy, prm)
        sides = (both.policy, both.verifier) if ahead else (policy, prm)
        whole = STEP.to_the_end(80)
        session = Session(policy.prompt(task.messages(item)), *sides, step=STEP, whole=whole, question=item.question)
        await Beam(2, 3, depth=4)(session)
        await both.aclose()
        return [(n.id, n.segment.tokens, n.times, n.score if n.scored else None) for n in session.tree]

    searches = (one(item) for item in task.items()[:problems])
    return [await search for search in searches] if alternate else await gather(searches)


async def test_trees_are_the_same_and_engines_overlap(monkeypatch):
    spans, step = {}, Worker.step

    def timed(self):
        began = time.perf_counter()
        did = step(self)
        spans.setdefault(id(self), []).append((began, time.perf_counter()))
        return did

    monkeypatch.setattr(Worker, "step", timed)
    settings = {"dtype": "float64", "memory": "32MB", "threads": 1}
    async with Embedded("models/policy", **settings) as policy, PRM("models/prm", **settings) as prm:
        expected = await trees(policy, prm, 6, ahead=False, alternate=True)
        spans.clear()
        prm._forget()
        together = await trees(policy, prm, 6, ahead=False, alternate=False)
        prm._forget()
        ahead = await trees(policy, prm, 6, ahead=True, alternate=False)
    assert together == expected and ahead == expected
    one, other = spans.values()
    crossing = sum(a < d and c < b for a, b in one for c, d in other)
    assert crossing > 0  # neither engine waits for the other


async def test_flat_votes_read_nothing_ahead_for_long(session):
    ahead = Ahead(Toy(), Counting(None))
    s = session(ahead.policy, ahead.verifier)
    ahead.begun[False] = TRIED
    await Flat(6)(s)
    assert not ahead.judge.seen
