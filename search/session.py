"""One search over one problem: the verbs an algorithm speaks."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any, TypeVar

from search.budget import JUDGING, SAMPLING, Budget
from search.contract import checked_reply, checked_verdict, one_each
from search.errors import BudgetExhausted, ConfigError, PolicyError, VerifierError
from search.events import (
    Added,
    Backed,
    Charged,
    Event,
    Finished,
    Noted,
    Pruned,
    Scored,
    Simulated,
    Sink,
    Started,
)
from search.ports import KeepsPrefixes, Policy, Verifier, ability
from search.tree import Node, Tree
from search.types import Cost, Prefix, Request, Sampling, Segment, Verdict

T = TypeVar("T")


def seed_of(seed: int, prefix: Prefix, sampling: Sampling, draw: int) -> int:
    """The seed, in [0, 2**63), of draw number `draw` after `prefix`: a function of content, not of schedule."""
    content = prefix.digest + draw.to_bytes(8, "little") + repr(sampling).encode()
    return int.from_bytes(blake2b(content, digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little") >> 1


async def gather(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Awaits all; results in order.

    What is in flight is paid for, so errors are raised only after all calls have ended: the first that is a fault,
    else the first `BudgetExhausted`.

    Parallelism goes by waves: choose nodes, gather one call each, go on. Coroutines that run freely side by side and
    gather in between make their next calls in an order that depends on replies, and then the tree does too.
    """
    done = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in done if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if not isinstance(error, BudgetExhausted)), errors[0])
    return [result for result in done if not isinstance(result, BaseException)]


class Session:
    """A tree, what grows it, what judges it, and what may be spent.

    Calls may overlap (see `gather`); their effects are committed in the order of the calls, so that ids, charges and
    events do not depend on which reply comes first.

    Attributes:
        tree, root: what has grown so far.
        rng: for choices that are not draws from the policy; seeded by `seed` and the prompt.
        budget: checked before each call, charged after it.
        step: how a step is drawn; has a boundary.
        whole: how a completion is drawn; has none.
        seed: in [0, 2**63). Two sessions with the same seed and prompt see the same draws.
    """

    def __init__(
        self,
        prompt: Segment,
        policy: Policy,
        verifier: Verifier | None,
        budget: Budget | None = None,
        *,
        question: str = "",
        step: Sampling,
        whole: Sampling,
        seed: int = 0,
        sinks: Sequence[Sink] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        if step.until is None:
            raise ConfigError("step.until", None, "give the boundary where a step ends, see search.steps")
        if whole.until is not None:
            raise ConfigError("whole.until", whole.until, "a completion has no boundary; give null")
        if not 0 <= seed < 2**63:
            raise ConfigError("seed", seed, "give a whole number from 0 to 2**63 - 1")
        self.tree = Tree(prompt, question)
        self.policy, self.verifier, self.budget = policy, verifier, budget or Budget()
        self.step, self.whole, self.seed = step, whole, seed
        self.rng = random.Random(f"{seed} {self.root.prefix.digest.hex()}")
        self._sinks, self._clock, self._began, self._seq = sinks, clock, clock(), 0
        self._judging: set[Node] = set()
        self._last: asyncio.Event | None = None  # set when the latest call so far has taken effect
        self._turn = asyncio.Lock()  # draws go out one after the other, in the order of the calls
        self._in_flight = 0  # tokens that draws which have gone out may still cost
        self._landed = asyncio.Event()
        self._keeper: KeepsPrefixes | None = ability(policy, KeepsPrefixes)
        self._emit(Started, prompt=prompt, question=question, seed=seed)

    @property
    def root(self) -> Node:
        return self.tree.root

    @property
    def seconds(self) -> float:
        """Since the session began."""
        return self._clock() - self._began

    async def expand(self, node: Node, k: int) -> list[Node]:
        """Draws `k` next steps after `node` (k >= 1) and adds them; the distinct children drawn, first seen first."""
        return self._grow(node, await self._draw(node, k, whole=False), whole=False)

    async def complete(self, node: Node) -> Node:
        """Draws one completion of `node` to the end of sequence and adds it as one child."""
        (leaf,) = self._grow(node, await self._draw(node, 1, whole=True), whole=True)
        return leaf

    async def simulate(self, node: Node, n: int = 1) -> tuple[Segment, ...]:
        """Draws `n` completions of `node` to the end of sequence (n >= 1); the tree does not grow."""
        segments = await self._draw(node, n, whole=True)
        self._emit(Simulated, node=node.id, segments=segments)
        return segments

    async def score(self, nodes: Sequence[Node]) -> list[float]:
        """Scores of `nodes`, in order; the verifier is asked once about each node, open or terminal.

        Raises VerifierError for a verdict that breaks the port's contract, ConfigError without a verifier.
        """
        todo = [node for node in dict.fromkeys(nodes) if not node.scored and node not in self._judging]
        if any(not node.scored for node in nodes):
            for node, verdict in zip(todo, await self._judge(todo), strict=True):
                self._charge(node, verdict.cost)
                node.score, node.step_scores = verdict.value, verdict.steps
                self._emit(Scored, node=node.id, value=verdict.value, steps=verdict.steps)
        if lost := [node.id for node in nodes if not node.scored]:
            raise VerifierError(f"nodes {lost} were being judged by another call, which failed")
        return [node.score for node in nodes]

    def backup(self, path: Iterable[Node], value: float) -> None:
        """Adds a visit and `value` (finite) to each node of `path`."""
        path, value = list(path), _finite("value", value)
        for node in path:
            node.visits += 1
            node.total += value
        self._emit(Backed, path=tuple(node.id for node in path), value=value)

    def prune(self, node: Node) -> None:
        """Marks `node` as given up and lets the policy forget it; what it holds stays in the tree."""
        node.pruned = True
        self._emit(Pruned, node=node.id)
        if self._keeper:
            self._keeper.release(node.prefix)

    def note(self, node: Node, **numbers: float) -> None:
        """Writes finite numbers worth showing to `node.notes`."""
        node.notes.update({name: _finite(name, x) for name, x in numbers.items()})
        self._emit(Noted, node=node.id, numbers=numbers)

    def finish(self, stopped: str, answer: Node | None) -> None:
        """Emits the last event; for `search.run`, not for algorithms."""
        self._emit(Finished, stopped=stopped, answer=answer.id if answer else None, spent=self.budget.spent)

    async def _draw(self, node: Node, k: int, whole: bool) -> tuple[Segment, ...]:
        if k < 1:
            raise ValueError(f"{k} draws asked for; at least 1 is needed")
        if node.terminal:
            raise ValueError(f"nothing can follow {node}: its path has ended")
        sampling = self.whole if whole else self.step
        async with self._turn:
            tokens = await self._granted(k, sampling.max_tokens)
            first = node.reserve(k, whole)  # before the reply: numbers follow the order of calls
        seeds = tuple(seed_of(self.seed, node.prefix, sampling, first + i) for i in range(k))
        request = Request(node.prefix, replace(sampling, max_tokens=tokens), seeds)
        self._in_flight += k * tokens
        try:
            (reply,) = one_each(1, await self._in_order(self.policy.sample([request])), PolicyError)
            self._charge(node, checked_reply(request, reply).cost)
        finally:
            self._in_flight -= k * tokens
            self._landed.set()
        return reply.segments

    async def _granted(self, k: int, tokens: int) -> int:
        """Tokens that each of `k` draws may take, `tokens` if the budget allows it; raises BudgetExhausted.

        Under a strict budget a draw that could cross the limit together with those in flight waits for them.
        """
        while self._in_flight and self.budget.allowance() < self._in_flight + k * tokens:
            self._landed.clear()
            await self._landed.wait()
        self.budget.check(SAMPLING, k)
        return int(min(self.budget.allowance(), k * tokens)) // k

    def _grow(self, node: Node, segments: Sequence[Segment], whole: bool) -> list[Node]:
        before = len(self.tree)
        draws = Counter(self.tree.add(node, segment) for segment in segments)
        for child, count in draws.items():
            new = child.segment if child.id >= before else None
            self._emit(Added, node=child.id, parent=node.id, draws=count, whole=whole, segment=new)
        return list(draws)

    async def _judge(self, todo: Sequence[Node]) -> list[Verdict]:
        """Verdicts of `todo`; even for none it waits for the calls before it, which may be judging what we need."""
        if self.verifier is None:
            raise ConfigError("verifier", None, "this search or selection needs scores: give a verifier")
        if not todo:
            await self._in_order(asyncio.sleep(0))
            return []
        self.budget.check(JUDGING)
        self._judging.update(todo)
        try:
            verdicts = await self._in_order(self.verifier.score([node.prefix for node in todo]))
        finally:
            self._judging.difference_update(todo)
        one_each(len(todo), verdicts, VerifierError)
        return [checked_verdict(node.prefix, verdict) for node, verdict in zip(todo, verdicts, strict=True)]

    async def _in_order(self, call: Awaitable[T]) -> T:
        """Returns after every call made before it has: charges, nodes and events follow the order of calls."""
        before, mine = self._last, asyncio.Event()
        self._last = mine
        try:
            result = await call
            await asyncio.sleep(0)  # even an instant model lets the other coroutines of a wave make their calls
            return result
        finally:
            try:
                if before:
                    await before.wait()
            finally:
                mine.set()

    def _charge(self, node: Node, cost: Cost) -> None:
        """The one place where cost is counted: in the budget, in the node and in the events."""
        self.budget.charge(cost)
        node.cost += cost
        self._emit(Charged, node=node.id, cost=cost)

    def _emit(self, event: Callable[..., Event], **fields: Any) -> None:
        record = event(seq=self._seq, seconds=self.seconds, **fields)
        self._seq += 1
        for sink in self._sinks:
            sink(record)


def _finite(name: str, x: float) -> float:
    if not math.isfinite(x):
        raise ValueError(f"{name} is {x}; only finite numbers are recorded")
    return x
