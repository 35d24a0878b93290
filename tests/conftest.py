"""What every test may use: coroutine tests, a clock in the test's hand, and small worlds to search."""

import asyncio
import functools
import inspect
from dataclasses import dataclass
from itertools import cycle, islice

import hypothesis
import pytest

from policies.toy import Toy
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.algorithms.flat import Flat
from search.algorithms.reex_sql import ReExSQL
from search.session import Session
from search.steps import Tokens
from search.types import Cost, Finish, Reply, Sampling, Segment, Verdict
from search.worlds import World
from verifiers.toy import Hidden

hypothesis.settings.register_profile("steady", max_examples=50, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs tests that are coroutine functions, alone or under `hypothesis.given`."""
    given = getattr(pyfuncitem.obj, "hypothesis", None)
    holder, name = (given, "inner_test") if given else (pyfuncitem, "obj")
    if inspect.iscoroutinefunction(test := getattr(holder, name)):
        setattr(holder, name, functools.wraps(test)(lambda *args, **fields: asyncio.run(test(*args, **fields))))


@dataclass
class Clock:
    """Stands still until it is set."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def text(content: str, **fields) -> Segment:
    """A segment with one token per character and made-up log-probabilities."""
    tokens = tuple(map(ord, content))
    return Segment(tokens, content, (-0.5,) * len(tokens), **fields)


@pytest.fixture
def segment():
    return text


@pytest.fixture
def session():
    """Makes a session over a toy language, one letter per step."""

    def make(policy=None, verifier=None, **settings):
        settings = {"step": Sampling(until=Tokens(1)), "whole": Sampling()} | settings
        return Session(text("q"), policy or Toy(), verifier or Hidden("abcab"), **settings)

    return make


class Explicit:
    """A finite tree of words as policy and verifier: the i-th seed of a request gives the i-th child, in turn.

    Attributes:
        goals: words that end.
        cost: of the step to each word.
        togo: least cost from each word to a goal.
        scores: what the verifier says of each word; 0.5 unless set.
    """

    def __init__(self, rng, width=3, depth=5):
        self.width, self.cost, self.goals, self.scores = width, {}, set(), {}
        self.children = {}
        self._grow("", depth, rng)
        self.togo = {}
        for word in sorted([*self.cost, ""], key=len, reverse=True):
            below = [self.cost[child] + self.togo[child] for child in self.children.get(word, ())]
            self.togo[word] = 0.0 if word in self.goals else min(below)

    def _grow(self, word, depth, rng):
        if depth == 0 or (len(word) > 1 and rng.random() < 0.2):
            self.goals.add(word)
            return
        self.children[word] = [word + "abcdefgh"[i] for i in range(self.width)]
        for child in self.children[word]:
            self.cost[child] = rng.random()
            self._grow(child, depth - 1, rng)

    async def sample(self, requests):
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        children = list(islice(cycle(self.children[request.prefix.text]), len(request.seeds)))
        ends = [Finish.END if child in self.goals else Finish.STEP for child in children]
        segments = tuple(text(child[-1], finish=finish) for child, finish in zip(children, ends, strict=True))
        return Reply(segments, Cost(generated=len(segments), policy_calls=1))

    async def score(self, prefixes):
        return [Verdict(self.scores.get(prefix.text, 0.5)) for prefix in prefixes]


@pytest.fixture
def explicit():
    return Explicit


# Every search under every law (tests/laws): the name says what is special about the setting.
SEARCHES = {
    "flat": Flat(12),
    "flat-waves": Flat(12, parallel=5),
    "flat-first-finish": Flat(5, first_finish=True),
    "beam": Beam(beams=3, width=3),
    "beam-cut": Beam(beams=3, width=3, depth=3),
    "dvts": Beam(beams=3, width=3, subtrees=3),
    "astar": AStar(width=3),
    "astar-waves": AStar(width=3, parallel=4, cap=9),
    "astar-revisits": AStar(width=2, expansions=3, revisit=0.2),
    "astar-local": AStar(width=3, frontier="local"),
    # in words of letters: a query ends with b, the judge says what it gives
    "reex-sql": ReExSQL(
        leaves=4, width=2, rounds=3, query=("", "b"), final=("", "."), result=("(", ")"), executor="judge"
    ),
}

ROLES = {"draft": Toy(end=0.3), "judge": Toy(end=0.5)}

PROMPTS = tuple(text(f"q{number}") for number in range(3))

WORLDS = {
    "letters": World(Toy(), Hidden("abcab"), PROMPTS, Sampling(until=Tokens(1)), ROLES),
    "pairs": World(Toy("ab", length=7, end=0.2), Hidden("abba"), PROMPTS, Sampling(until=Tokens(2)), ROLES, seed=1),
    # every step is cut by the token limit: no search that goes by steps finds an answer
    "cut": World(
        Toy("ab", length=6), Hidden("bbbbbb"), PROMPTS, Sampling(until=Tokens(3), max_tokens=2), ROLES, seed=2
    ),
    # draws wait for each other, and the last ones are cut
    "poor": World(
        Toy(),
        Hidden("cabac"),
        PROMPTS,
        Sampling(until=Tokens(2), max_tokens=4),
        ROLES,
        Sampling(max_tokens=8),
        limits={"generated": 50},
    ),
}


@pytest.fixture
def searches():
    return SEARCHES


@pytest.fixture
def worlds():
    return WORLDS


def pytest_generate_tests(metafunc):
    for name, cases in (("any_search", SEARCHES), ("any_world", WORLDS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, cases.values(), ids=cases.keys())
