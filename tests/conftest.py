"""What every test may use: coroutine tests, a clock in the test's hand, and small worlds to search."""

import asyncio
import functools
import inspect
import random
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice

import hypothesis
import pytest

from policies.toy import Toy
from search.accept import clipped
from search.algorithms.ab_mcts import ABMCTS
from search.algorithms.adaptive import AdaptiveBestOfK
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.algorithms.best_first_beam import BestFirstBeam
from search.algorithms.diverse_beam import DiverseBeam, DiverseTokenBeam
from search.algorithms.explore_execute import ExploreExecute
from search.algorithms.fetch import Fetch
from search.algorithms.fetch_mcts import FetchMCTS
from search.algorithms.flat import Flat
from search.algorithms.guided import Guided
from search.algorithms.kcts import Kcts
from search.algorithms.lattice import LatticeSearch
from search.algorithms.litesearch import LiteSearch
from search.algorithms.mcts import MCTS
from search.algorithms.particles import ParticleFilter, ParticleGibbs
from search.algorithms.phi import Phi
from search.algorithms.rebase import Rebase
from search.algorithms.reex_sql import ReExSQL
from search.algorithms.refine import Refine
from search.algorithms.reward_guided import RewardGuided
from search.algorithms.stochastic_beam import StochasticBeam
from search.algorithms.token_beam import TokenBeam
from search.algorithms.token_mcts import TokenMcts
from search.algorithms.tot import TreeOfThoughts
from search.algorithms.treepo import TreePO
from search.algorithms.vm_mcts import VMMCTS
from search.backups import best, by_children, onward
from search.cluster import characters
from search.evaluate import Completions, RollForward
from search.merge import Merge
from search.posterior import Beta
from search.resample import systematic
from search.rules import tries_by_depth, ucb, uct, uct_fast
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


@dataclass(frozen=True)
class Language(Toy):
    """A toy language whose every word has letter probabilities of its own: no two words are equally likely."""

    number: int = 0

    def _next(self, word):
        if len(word) >= self.length:
            return {".": 1.0}
        rng = random.Random(f"{self.number} {word}")
        row = {letter: rng.random() ** 2 + 0.01 for letter in self.letters}
        stop = self.end * rng.random() if word else 0.0
        total = sum(row.values()) / (1 - stop)
        return {letter: p / total for letter, p in row.items()} | ({".": stop} if stop else {})


@pytest.fixture
def language():
    """Makes a toy language by its number."""

    def make(number, letters="abc", length=5, end=0.4):
        return Language(letters, length, end, None, number)

    return make


@pytest.fixture
def explicit():
    return Explicit


@dataclass(frozen=True)
class Even:
    """Predicts the same of every prompt."""

    success: float

    def __call__(self, prefix):
        return self.success


@pytest.fixture
def even():
    return Even


# Every search under every law (tests/laws): the name says what is special about the setting.
SEARCHES = {
    "flat": Flat(12),
    "flat-waves": Flat(12, parallel=5),
    "flat-first-finish": Flat(5, first_finish=True),
    "flat-first-three": Flat(5, first_finish=True, finishers=3),
    "beam": Beam(beams=3, width=3),
    "beam-cut": Beam(beams=3, width=3, depth=3),
    "dvts": Beam(beams=3, width=3, subtrees=3),
    "beam-ahead": Beam(beams=2, width=2, look_ahead=2),
    "dvts-ahead": Beam(beams=2, width=3, subtrees=2, look_ahead=1),
    "astar": AStar(width=3),
    "astar-waves": AStar(width=3, parallel=4, cap=9),
    "astar-revisits": AStar(width=2, expansions=3, revisit=0.2),
    "astar-local": AStar(width=3, frontier="local"),
    # in words of letters: a query ends with b, the judge says what it gives
    "reex-sql": ReExSQL(
        leaves=4, width=2, rounds=3, query=("", "b"), final=("", "."), result=("(", ")"), executor="judge"
    ),
    "mcts": MCTS(8, 3, parallel=3),
    "mcts-rollouts": MCTS(5, 2, rule=uct, evaluate=Completions(2, 0.5), backup=best, parallel=2, widening=0.5),
    "mcts-act": MCTS(4, 3, mode="act", noise=0.25, temperature=1.0, proven=True, gate=1.0),
    "sc-mcts": MCTS(4, 3, mode="path", rule=uct_fast, adaptive=True, returns=onward, parallel=2),
    "rest-mcts": MCTS(4, 3, rule=ucb, evaluate=RollForward(), backup=by_children, expand_after=0, parallel=2),
    "vm-mcts": VMMCTS(iterations=4, samples=3, decision=2, parallel=2),
    "token-beam": TokenBeam(beams=3, length=6),
    "token-beam-vanilla": TokenBeam(beams=3, stop="vanilla", choose="verifier"),
    "best-first-beam": BestFirstBeam(beams=3),
    "best-first-beam-waves": BestFirstBeam(beams=3, answers=3, parallel=3, choose="verifier"),
    "diverse-beam": DiverseBeam(beams=4, groups=2, width=2),
    "diverse-token-beam": DiverseTokenBeam(beams=4, groups=2),
    "stochastic-beam": StochasticBeam(beams=3, choose="verifier"),
    "stochastic-beam-cut": StochasticBeam(beams=3, top=2, choose="sample"),
    "lattice": LatticeSearch(calls=20, top=3, match=1),
    "lattice-waves": LatticeSearch(calls=20, top=3, match=2, recombine="rcb", parallel=3, choose="verifier"),
    "token-mcts": TokenMcts(simulations=12),
    "token-mcts-waves": TokenMcts(simulations=12, parallel=4, backup="mean"),
    "kcts": Kcts(simulations=8, top=3),
    "kcts-waves": Kcts(simulations=8, top=3, parallel=3),
    "particles": ParticleFilter(particles=5),
    "particles-incremental": ParticleFilter(
        particles=5,
        weights="incremental",
        resample=systematic,
        threshold=0.7,
        order="propagate-resample",
        pool="active",
        start=4.0,
        answer="sample",
        depth=4,
    ),
    "particle-gibbs": ParticleGibbs(particles=4, iterations=3),
    "rebase": Rebase(samples=6),
    "rebase-cut": Rebase(samples=5, depth=2),
    "treepo": TreePO(width=6, segment=2, depth=4, first=(2, 3)),
    "treepo-fallback": TreePO(
        width=7,
        segment=3,
        max_tokens=5,
        divergence=1,
        first=None,
        answered=lambda text: text.endswith("c"),
        allocation="logprob",
        fallback="random_all",
        position="min_logprob_token",
    ),
    "phi": Phi(beams=3, width=2, rounds=4, least=2),
    "phi-paper": Phi(
        beams=2, width=3, rounds=3, least=1, combine="boltzmann", temperature=0.6, adv_above0=False, distinct=True
    ),
    "phi-select": Phi(beams=2, width=2, rounds=3, least=0, sigma=None, ahead_tokens=4, final="select"),
    "predictive": Phi(beams=1, width=4, rounds=4, least=4, sigma=None, clusters=None, value="foresight"),
    "guided": Guided(beams=3, width=2, anneal=0.8),
    "tot": TreeOfThoughts(beams=2, width=3),
    "tot-vote": TreeOfThoughts(beams=2, width=3, judge="vote", votes=3),
    "explore-execute": ExploreExecute(plans=6, executions=2, plan_steps=2),
    "explore-execute-verifier": ExploreExecute(plans=5, choose="verifier", until=Tokens(2), plan_temperature=1.5),
    "explore-execute-vote": ExploreExecute(plans=4, choose="vote", lead="?", handover="!", temperature=None),
    "astar-anytime": AStar(width=3, answers=None, best="score"),
    "ab-mcts": ABMCTS(generations=12),
    "ab-mcts-waves": ABMCTS(generations=12, parallel=4, actions=("policy", "draft"), choose="stack", posterior=Beta()),
    "ab-mcts-answers": ABMCTS(generations=10, nodes="answers", parallel=2, actions=("draft", "policy")),
    "fetch": Fetch(width=4, iterations=8),
    "fetch-beam": Fetch("beam", width=4, beams=2, merge=Merge(threshold=0.5, embed=characters)),
    "fetch-mcts": FetchMCTS(root_width=4, width=3, least=8, most=20, terminals=3),
    "litesearch": LiteSearch(most=4, theta=1.0, progress=0.3),
    "litesearch-batch": LiteSearch(most=4, incremental=False, node_budget=tries_by_depth),
    "litesearch-plain": LiteSearch(most=3, greedy=False, iterations=12),
    "adaptive": AdaptiveBestOfK(Even(0.2), price=0.04),
    "adaptive-prompt": AdaptiveBestOfK(None, price=0.1, least=3, most=9, parallel=2),
    "refine": Refine(drafts=3, rounds=3, width=2),
    "refine-prefix": Refine(drafts=3, rounds=3, width=2, restart="prefix"),
    "reward-guided": RewardGuided(delta=0.5),
    "reward-guided-chances": RewardGuided(n=3, delta=0.9, weight=clipped, depth=4),
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


@contextmanager
def _on_loopback(service):
    """The base URL of `service` on a free port, in a thread with an event loop of its own."""
    from experiments.listen import listen

    ready, found = threading.Event(), {}

    async def serve():
        found["loop"], found["stop"] = asyncio.get_running_loop(), asyncio.Event()
        server = await listen(service, "127.0.0.1", 0)
        found["port"] = server.sockets[0].getsockname()[1]
        ready.set()
        await found["stop"].wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{found['port']}/v1"
    finally:
        found["loop"].call_soon_threadsafe(found["stop"].set)
        thread.join(10)


@pytest.fixture
def on_loopback():
    return _on_loopback


def pytest_generate_tests(metafunc):
    for name, cases in (("any_search", SEARCHES), ("any_world", WORLDS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, cases.values(), ids=cases.keys())
