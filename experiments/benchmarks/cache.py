"""What the prefix cache holds: bytes against the distinct tokens of a search tree, and against a cache per sequence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest

from experiments.benchmarks.figure import Figure, measured
from experiments.item import cut
from experiments.tasks.reference import Arithmetic, Countdown
from policies.embedded import Embedded
from search.session import Session, gather
from search.steps import Tokens
from search.tree import Node
from search.types import Finish, Reply, Request, Sampling, Segment

MODEL = "models/policy"
CHILDREN, BEAM, DEPTH, PROBLEMS, REPEATS = 16, 4, 5, 4, 3
STEP = Sampling(temperature=1.0, max_tokens=8, until=Tokens(8))


@dataclass
class Watched:
    """A policy, with all sequences that it drew."""

    inner: Embedded
    sequences: list[tuple[tuple[int, ...], Segment]] = field(default_factory=list)

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """As `inner`."""
        replies = await self.inner.sample(requests)
        for request, reply in zip(requests, replies, strict=True):
            self.sequences += [(request.prefix.tokens, segment) for segment in reply.segments]
        return replies


@dataclass(frozen=True)
class Held:
    """Bytes of keys and values after a search that forgot nothing.

    Attributes:
        engine: held by the engine, states kept at the ends of prompts included.
        distinct: of all different prefixes of the tree whose last token some forward has read, stored once each.
        draws: of one cache per drawn sequence that has neither ended nor been continued, as without sharing.
        leaves: the same where draws of the same tokens, one leaf of the tree, have one cache together.
    """

    engine: int
    distinct: int
    leaves: int
    draws: int


async def grow(session: Session) -> None:
    """A tree of `CHILDREN` draws per node: of each level the first `BEAM` nodes that are not complete go on."""
    level: list[Node] = [session.root]
    for _ in range(DEPTH):
        grown = await gather(session.expand(node, CHILDREN) for node in level)
        drawn = chain.from_iterable(zip_longest(*grown))  # the first of each node, then the second of each ...
        level = list(islice((node for node in drawn if node and not node.terminal), BEAM))


async def hold(offset: int) -> Held:
    """Grows trees over some problems in one engine, and counts."""
    async with Embedded(MODEL, memory="1GB") as policy:
        watched = Watched(policy)
        tasks = (Arithmetic(), Countdown())
        prompts = [policy.prompt(t.messages(i)) for t in tasks for i in cut(t.items(), PROBLEMS // 2, offset)]
        await asyncio.gather(
            *(grow(Session(prompt, watched, None, step=STEP, whole=STEP.to_the_end(48))) for prompt in prompts)
        )
        engine = policy.engine
        ends = sum(state.numel() * state.itemsize for state in engine.kv.ends.values())
        held = engine.kv.held * engine.token_bytes + ends
        distinct: set[tuple[int, ...]] = set()
        draws: list[tuple[int, ...]] = []
        for before, segment in watched.sequences:
            ended = segment.finish in (Finish.END, Finish.EMPTY)
            # a drawn token is read when something is drawn after it; of what has ended only the prompt is kept
            read = before if ended else before + segment.tokens[:-1]
            distinct.update(read[: i + 1] for i in range(len(read)))
            if not ended:
                draws.append(before + segment.tokens)
        continued = {before for before, _ in watched.sequences}
        draws = [ids for ids in draws if ids not in continued]
        leaves, many = (sum(len(ids) - 1 for ids in some) for some in (set(draws), draws))
        return Held(held, *(tokens * engine.token_bytes for tokens in (len(distinct), leaves, many)))


def figures() -> Iterator[Figure]:
    """`cache.bytes_ratio`, `cache.saving_16_children`, and what of the latter is not due to equal draws."""
    found = [asyncio.run(hold(PROBLEMS * repeat)) for repeat in range(REPEATS)]
    what = f"{PROBLEMS} trees of {CHILDREN} draws per node, {BEAM} nodes per level, {DEPTH} levels, steps of 8 tokens"
    note = f"bytes held over distinct tokens that were read x bytes per token; {what}; nothing evicted"
    yield measured("cache.bytes_ratio", "ratio", note, [h.engine / h.distinct for h in found])
    note = f"bytes of a cache for every open draw over bytes held; {what}"
    yield measured(f"cache.saving_{CHILDREN}_children", "ratio", note, [h.draws / h.engine for h in found])
    note = f"the same, equal draws counted once (this policy draws few different ones); {what}"
    yield measured("cache.saving_different_children", "ratio", note, [h.leaves / h.engine for h in found])
