"""What every test may use: coroutine tests, a clock in the test's hand, and small worlds to search."""

import asyncio
import inspect
from dataclasses import dataclass

import pytest

from policies.toy import Toy
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.algorithms.flat import Flat
from search.session import Session
from search.steps import Tokens
from search.types import Sampling, Segment
from search.worlds import World
from verifiers.toy import Hidden


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs tests that are coroutine functions."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


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
    "astar-local": AStar(width=3, frontier="local"),
}

PROMPTS = tuple(text(f"q{number}") for number in range(3))

WORLDS = {
    "letters": World(Toy(), Hidden("abcab"), PROMPTS, Sampling(until=Tokens(1))),
    "pairs": World(Toy("ab", length=7, end=0.2), Hidden("abba"), PROMPTS, Sampling(until=Tokens(2)), seed=1),
    "cut": World(Toy("ab", length=6), Hidden("bbbbbb"), PROMPTS, Sampling(until=Tokens(3), max_tokens=2), seed=2),
}
# In the last world every step is cut by the token limit: no search that goes by steps finds an answer there.


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
