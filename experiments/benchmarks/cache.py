"""What the prefix cache holds: bytes against the distinct tokens of a search tree, and against a cache per sequence.

A sequence is an open row: a draw that has not ended and that nothing has continued yet. An engine with a cache per
sequence holds each of them whole, prompt and steps, as long as the search may go on from it. How much sharing saves
then hangs on how many of the draws differ, so it is measured where all do (random weights, temperature 1), and over
the reference policy, which draws the same step again and again, with equal draws counted once and counted singly.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from statistics import median

from experiments.benchmarks.figure import Figure, measured
from experiments.item import cut
from experiments.tasks.reference import Arithmetic, Countdown
from policies.embedded import Embedded
from policies.engine import load
from policies.tiny import checkpoint
from search.session import Session, gather
from search.steps import Tokens
from search.tree import Node
from search.types import Finish, Reply, Request, Sampling, Segment

MODEL = "models/policy"
CHILDREN, BEAM, PROBLEMS, REPEATS = 16, 4, 4, 3


@dataclass(frozen=True)
class Shape:
    """A tree: so many levels, and tokens in a step."""

    levels: int
    tokens: int

    @property
    def sampling(self) -> Sampling:
        """Steps of that length, at temperature 1."""
        return Sampling(temperature=1.0, max_tokens=self.tokens, until=Tokens(self.tokens))

    def __str__(self) -> str:
        what = f"{PROBLEMS} trees of {CHILDREN} draws per node, {BEAM} nodes per level, {self.levels} levels"
        return f"{what}, steps of {self.tokens} tokens"


SHORT, LONG = Shape(5, 8), Shape(8, 16)  # the answers of the reference policy hardly have more tokens than SHORT


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


async def grow(session: Session, levels: int) -> None:
    """A tree of `CHILDREN` draws per node: of each level the first `BEAM` nodes that are not complete go on."""
    level: list[Node] = [session.root]
    for _ in range(levels):
        grown = await gather(session.expand(node, CHILDREN) for node in level)
        drawn = chain.from_iterable(zip_longest(*grown))  # the first of each node, then the second of each ...
        level = list(islice((node for node in drawn if node and not node.terminal), BEAM))


async def hold(model: str, shape: Shape, offset: int) -> Held:
    """Grows trees over some problems in one engine, and counts."""
    async with Embedded(model, memory="1GB") as policy:
        watched = Watched(policy)
        tasks = (Arithmetic(), Countdown())
        prompts = [policy.prompt(t.messages(i)) for t in tasks for i in cut(t.items(), PROBLEMS // 2, offset)]
        step = shape.sampling
        sessions = [Session(prompt, watched, None, step=step, whole=step.to_the_end(48)) for prompt in prompts]
        await asyncio.gather(*(grow(session, shape.levels) for session in sessions))
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


def alike(folder: Path) -> Path:
    """Random weights in the shape of the reference policy, with its tokenizer."""
    shape = load.settings(Path(MODEL))
    return checkpoint(
        folder,
        hidden=shape["hidden_size"],
        layers=shape["num_hidden_layers"],
        heads=shape["num_attention_heads"],
        shared=shape["num_key_value_heads"],
        inner=shape["intermediate_size"],
        tied=shape["tie_word_embeddings"],
        scale=0.05,
        words=load.tokenizer(Path(MODEL)),
    )


def figures() -> Iterator[Figure]:
    """`cache.bytes_ratio`, `cache.saving_16_children`, and the latter over the reference policy, in two counts."""
    found = [asyncio.run(hold(MODEL, SHORT, PROBLEMS * repeat)) for repeat in range(REPEATS)]
    note = f"bytes held over distinct tokens that were read x bytes per token; {SHORT}; nothing evicted"
    yield measured("cache.bytes_ratio", "ratio", note, [h.engine / h.distinct for h in found])
    with tempfile.TemporaryDirectory() as folder:
        random = str(alike(Path(folder)))
        various = [asyncio.run(hold(random, LONG, PROBLEMS * repeat)) for repeat in range(REPEATS)]
    once, single = (median([getattr(h, kind) / h.engine for h in found]) for kind in ("leaves", "draws"))
    of = "bytes of a cache for every open draw over bytes held"
    note = f"{of}; random weights, so that draws differ; {LONG}"
    note += f"; reference policy, {SHORT.levels} levels of {SHORT.tokens}: {single:.1f}, equal draws once {once:.1f}"
    yield measured(f"cache.saving_{CHILDREN}_children", "ratio", note, [h.leaves / h.engine for h in various])
    note = f"{of}; reference policy; {SHORT}"
    yield measured("cache.saving_reference", "ratio", note, [h.draws / h.engine for h in found])
    note = f"the same, equal draws counted once (this policy draws few different ones); {SHORT}"
    yield measured("cache.saving_reference_different", "ratio", note, [h.leaves / h.engine for h in found])
