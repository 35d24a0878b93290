"""What a search is likely to ask next, begun before it asks: on replicas that have nothing else to do.

While a verifier judges what was just drawn, replicas of the policy are idle. A draw is a function of prefix, sampling
and seed, and the seed one of the session's seed and the prefix, so the request that will be made if the search goes on
from a child is known as soon as the child is. It is begun, and when the search asks for it, it has what was begun: the
same answer, sooner. What is not asked for is for nothing: its tokens are counted as `Cost.speculated`, and in no
budget, since searches must not depend on it.

What follows a request, and how likely it is, is learnt from what searches do (`Habit`), also while nothing is begun. A
request is begun if it saves more than it may cost. With p the chance that it is asked for, t the seconds it takes and
g those until searches ask: right, it saves min(t, g); wrong, it may keep the next request waiting for t - g.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from search.seeds import seed_of
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling

if TYPE_CHECKING:
    from policies.pool.fronts import PooledPolicy

RANKS = 16  # children of a reply that are told apart
ENOUGH = 8  # children of a rank that were seen before one is begun
LEAST = 0.1  # chance below which nothing is begun, idle or not
FADE = 200  # tries after which old ones count half
OPEN = 256  # requests that are expected and were not asked for
LATE = 3  # a request that has not come after so many times the usual is not begun any more


class Shape(NamedTuple):
    """What a request asks for, whatever it continues."""

    sampling: Sampling
    draws: int
    top: int

    @classmethod
    def of(cls, request: Request) -> Shape:
        return cls(request.sampling, len(request.seeds), request.top)


@dataclass(slots=True)
class Mean:
    """An average that forgets."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.count += 1
        self.value += (value - self.value) / min(self.count, 20)


@dataclass(slots=True)
class Habit:
    """What searches do after requests of one shape.

    Attributes:
        next: how often the first request that continues a child had which shape.
        gap: seconds from the reply to that request.
        took: seconds from a request of this shape to its reply.
    """

    next: Counter[Shape] = field(default_factory=Counter)
    gap: Mean = field(default_factory=Mean)
    took: Mean = field(default_factory=Mean)
    _hits: list[float] = field(default_factory=lambda: [0.0] * RANKS)
    _tries: list[float] = field(default_factory=lambda: [0.0] * RANKS)

    @property
    def following(self) -> Shape:
        """What most often follows; only after something has."""
        ((shape, _),) = self.next.most_common(1)
        return shape

    def tried(self, rank: int) -> None:
        """There was a child of this rank."""
        if self._tries[rank] >= FADE:
            self._tries[rank], self._hits[rank] = self._tries[rank] / 2, self._hits[rank] / 2
        self._tries[rank] += 1

    def hit(self, rank: int) -> None:
        """What was expected of a child of this rank was asked for."""
        self._hits[rank] += 1

    def chance(self, rank: int) -> float:
        """That what is expected of a child of this rank is asked for; 0 while too little is known."""
        return self._hits[rank] / self._tries[rank] if self._tries[rank] >= ENOUGH else 0.0


def gain(chance: float, took: float, gap: float) -> float:
    """Seconds saved on the average by beginning a request."""
    return chance * min(took, gap) - (1 - chance) * max(took - gap, 0.0)


class Expected(NamedTuple):
    """A request that may come.

    Attributes:
        worth: seconds that beginning it saves on the average.
        until: when it is no longer likely, on the event loop's clock.
    """

    request: Request
    worth: float
    until: float


class Foresight:
    """What is known of searches over one pool, and what they may ask next, of all of them."""

    def __init__(self, front: PooledPolicy):
        self.front = front
        self.habits: dict[Shape, Habit] = {}
        self._waiting: list[tuple[Ahead, Expected]] = []

    def habit(self, shape: Shape) -> Habit:
        """Of requests of one shape."""
        return self.habits.setdefault(shape, Habit())

    def worth(self, parent: Shape, rank: int) -> float:
        """What it is worth to begin what is expected of a child of this rank; 0 where it is too unlikely."""
        habit = self.habits[parent]
        chance = habit.chance(rank)
        return 0.0 if chance < LEAST else gain(chance, self.habit(habit.following).took.value, habit.gap.value)

    def offer(self, session: Ahead, expected: Sequence[Expected]) -> None:
        """Begins what is worth it, the best first, as far as replicas are idle; the rest waits for a while."""
        self._waiting += [(session, each) for each in expected if each.worth > 0]
        self._waiting.sort(key=lambda pair: -pair[1].worth)
        del self._waiting[OPEN:]
        self.pump()

    def drop(self, session: Ahead) -> None:
        """Nothing of a session waits any more."""
        self._waiting = [pair for pair in self._waiting if pair[0] is not session]

    def pump(self) -> None:
        """Begins what waits, as far as replicas are idle."""
        now = asyncio.get_running_loop().time()
        while self._waiting:
            session, expected = self._waiting[0]
            if expected.until > now and session.wants(expected.request):
                if (begun := self.front.begin(expected.request)) is None:
                    return
                session.begun(expected.request, begun)
                begun.add_done_callback(lambda _: self.pump())
            self._waiting.pop(0)


def _key(request: Request) -> tuple[Any, ...]:
    return request.prefix.digest, request.sampling, request.seeds, request.top


class Ahead:
    """A policy for sessions of one seed: `inner`, of which some answers were begun early. Use it in `async with`.

    Attributes:
        wasted: what was begun and not asked for; whole when the context was left.
        used: requests answered by what was begun.
    """

    def __init__(self, inner: PooledPolicy, foresight: Foresight, seed: int):
        self.inner, self._foresight, self._seed = inner, foresight, seed
        self.wasted, self.used = Cost(), 0
        self._begun: dict[tuple[Any, ...], asyncio.Future[Any]] = {}
        self._expected: OrderedDict[tuple[Any, ...], tuple[Shape, int]] = OrderedDict()
        self._children: OrderedDict[bytes, tuple[Shape, float]] = OrderedDict()
        self._asked: set[bytes] = set()  # prefixes; what is asked of them again has other seeds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Waits for what was begun: it is paid, so it is counted."""
        self._foresight.drop(self)
        left, self._begun = list(self._begun.values()), {}
        for answer in await asyncio.gather(*left, return_exceptions=True):
            if isinstance(answer, Reply):  # what could not be answered has cost nothing that is known
                self.wasted += Cost(speculated=answer.cost.generated)
                self.inner.counters.wasted_tokens += answer.cost.generated

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return list(await asyncio.gather(*map(self._answer, requests)))

    async def _answer(self, request: Request) -> Reply:
        self._learn(request)
        reply = await self._begun_reply(request)
        if reply is None:
            began = _now()
            (reply,) = await self.inner.sample([request])
            self._foresight.habit(Shape.of(request)).took.add(_now() - began)
            self._foresight.pump()  # a replica has become idle
        self._expect(request, reply)
        return reply

    async def _begun_reply(self, request: Request) -> Reply | None:
        """The answer that was begun; None if there is none, or it failed."""
        if (begun := self._begun.pop(_key(request), None)) is None:
            return None
        try:
            reply: Reply = await begun
        except Exception:  # it is asked again, and raises what it has to then
            return None
        self.used += 1
        self.inner.counters.used += 1
        return reply

    def wants(self, request: Request) -> bool:
        """Whether a request that was expected has neither come nor begun."""
        key = _key(request)
        return key in self._expected and key not in self._begun

    def begun(self, request: Request, answer: asyncio.Future[Any]) -> None:
        """A request is at work ahead of need."""
        self._begun[_key(request)] = answer
        self.inner.counters.begun += 1
        began, habit = _now(), self._foresight.habit(Shape.of(request))
        answer.add_done_callback(lambda _: habit.took.add(_now() - began))

    def _learn(self, request: Request) -> None:
        """What `request` says of the request before it on its path."""
        self._asked.add(request.prefix.digest)
        if (of := self._children.pop(request.prefix.digest, None)) is not None:
            parent, when = of
            habit = self._foresight.habit(parent)
            habit.next[Shape.of(request)] += 1
            habit.gap.add(_now() - when)
        if (expected := self._expected.pop(_key(request), None)) is not None:
            self._foresight.habit(expected[0]).hit(expected[1])

    def _expect(self, request: Request, reply: Reply) -> None:
        """What may be asked after `reply`: one request for each child that can be continued, likeliest first."""
        counts = Counter(segment.tokens or segment.text for segment in reply.segments)
        drawn = {s.tokens or s.text: s for s in reversed(reply.segments) if s.finish is Finish.STEP}
        ranked = sorted(drawn.values(), key=lambda s: (-counts[s.tokens or s.text], -s.mean_logprob))
        shape, now, expected = Shape.of(request), _now(), []
        habit = self._foresight.habit(shape)
        for rank, segment in enumerate(ranked[:RANKS]):
            child = request.prefix + segment
            if child.digest in self._asked or child.digest in self._children:
                continue
            self._children[child.digest] = shape, now
            if habit.next:
                habit.tried(rank)
                following = self._following(child, habit.following)
                self._expected[_key(following)] = shape, rank
                until = now + LATE * habit.gap.value
                expected.append(Expected(following, self._foresight.worth(shape, rank), until))
        for known in (self._children, self._expected):
            while len(known) > OPEN:
                known.popitem(last=False)
        self._foresight.offer(self, expected)

    def _following(self, child: Prefix, shape: Shape) -> Request:
        """The first request of this shape for a child."""
        seeds = tuple(seed_of(self._seed, child, shape.sampling, i) for i in range(shape.draws))
        return Request(child, shape.sampling, seeds, shape.top)


def _now() -> float:
    return asyncio.get_running_loop().time()
