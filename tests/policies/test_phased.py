"""Thinking in a section of its own: budgets, splitters, forced ends; laws and searches over it."""

import math
from dataclasses import dataclass

import pytest

from policies.phased import Phased
from policies.testing import check_policy
from policies.toy import Toy
from search.budget import Budget
from search.contract import checked_reply
from search.errors import ConfigError, PolicyError
from search.run import run
from search.session import Session
from search.steps import Delimiter, Entropy, Tokens
from search.testing import LAWS
from search.types import Finish, Prefix, Request, Sampling, Segment
from verifiers.toy import Hidden


@dataclass(frozen=True)
class Thinker(Toy):
    """Thinks in a's and b's, closes with ">", answers in c's and d's; whoever writes, all of it counts."""

    letters: str = "abcd>"
    length: int = 40
    close: float = 0.1

    def _next(self, word):
        if ">" not in word:
            return {"a": (1 - self.close) / 2, "b": (1 - self.close) / 2} | ({">": self.close} if self.close else {})
        return {"c": 0.4, "d": 0.4, ".": 0.2} if word[-1] != ">" else {"c": 0.5, "d": 0.5}

    def _reply(self, request):
        steps = tuple(Segment(s.tokens, s.text, s.logprobs, s.finish) for s in request.prefix.reply)
        return super()._reply(
            Request(Prefix(request.prefix.prompt, steps), request.sampling, request.seeds, request.top)
        )


def phased(close=0.1, **settings):
    return Phased(Thinker(close=close), **{"open": "<", "close": ">", "closing": ">", "think_tokens": 6, **settings})


STEP = Sampling(until=Tokens(2), max_tokens=5)
PROMPT = phased().prompt([{"role": "user", "content": "q"}])
START = Prefix(PROMPT)


async def draw(policy, prefix, sampling, seeds=(1,)):
    request = Request(prefix, sampling, tuple(seeds))
    (reply,) = await policy.sample([request])
    return checked_reply(request, reply)


def test_prompts_are_opened_once():
    assert PROMPT.text == "q<\n" and PROMPT.tokens == tuple(map(ord, "q<\n"))
    assert phased()._opened(PROMPT) == PROMPT
    assert phased().turn("more").text == "more<\n"


@pytest.mark.parametrize("close", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("until", [Tokens(2), Delimiter(("b", "d")), Entropy(nats=0.5, least=2)], ids=repr)
async def test_laws(close, until):
    policy = phased(close)
    write = policy.policy.write
    prefixes = [START, START + write("ab"), START + write("ababab"), START + write("ab>"), START + write("ab>cd")]
    await check_policy(policy, prefixes, Sampling(until=until, max_tokens=5))
    await check_policy(policy, prefixes, Sampling(until=until, max_tokens=9))


async def test_no_step_lies_in_two_phases_and_the_section_keeps_its_budget():
    policy = phased(0.2, think_until=Tokens(4), answer_until=Tokens(1))
    forced = 0
    for seed in range(60):
        prefix = START
        while not prefix.steps or prefix.steps[-1].finish is Finish.STEP:
            segment = (await draw(policy, prefix, STEP, [seed * 50 + len(prefix.steps)])).segments[0]
            prefix += segment
            forced += segment.by == "environment"
            assert ">" not in segment.text[:-1], "the mark ends its step"
        thought, _, answer = prefix.text.partition(">")
        assert set(thought) <= set("ab") and len(thought) <= 6 and set(answer) <= set("cd")
        assert all(len(step.tokens) <= 4 for step in prefix.steps)
        assert {len(step.text) for step in prefix.steps if set(step.text) & set("cd")} <= {1}
    assert 10 < forced < 50


async def test_a_full_section_is_closed_by_the_environment_for_all_draws_alike():
    policy = phased(0.0)
    full = START + policy.write("ababab")
    reply = await draw(policy, full, STEP, range(4))
    assert set(reply.segments) == {Segment((ord(">"),), ">", (), Finish.STEP, "environment")}
    assert reply.cost.generated == 0
    session = Session(PROMPT, policy, None, step=STEP, whole=Sampling())
    node = session.root
    for _ in range(3):
        node = (await session.expand(node, 1))[0]
    (closed,) = await session.expand(node, 5)
    assert closed.times == 5 and closed.segment.by == "environment" and not closed.terminal
    assert session.budget.spent.generated == 6
    (answer,) = await session.expand(closed, 1)
    assert set(answer.segment.text) <= set("cd")


async def test_a_completion_thinks_closes_and_answers():
    policy = phased(0.05)
    reply = await draw(policy, START, Sampling(max_tokens=30), range(80))
    assert reply.cost.generated == sum(len(s.tokens) for s in reply.segments)
    forced = 0
    for segment in reply.segments:
        thought, mark, answer = segment.text.partition(">")
        assert mark and len(thought) <= 6 and set(thought) <= set("ab") and set(answer) <= set("cd")
        at = segment.tokens.index(ord(">"))
        forced += segment.logprobs[at] == 0
        assert (segment.logprobs[at] == 0) is (len(thought) == 6)
        assert math.isclose(segment.logprobs[0], math.log(0.475 if thought else 0.05))
        assert segment.finish is Finish.END and segment.tokens[-1] == ord(".")
    assert 40 < forced < 80


@pytest.mark.parametrize(("limit", "finish", "text"), [(6, "length", 6), (7, "length", 7), (8, "length", 8)])
async def test_a_completion_keeps_its_limit(limit, finish, text):
    (segment,) = (await draw(phased(0.0), START, Sampling(max_tokens=limit))).segments
    assert segment.finish is Finish(finish) and len(segment.text) == text


async def test_an_answer_has_a_budget_of_its_own():
    policy = phased(0.0, answer_tokens=3)
    closed = START + policy.write("ab>")
    segments = (await draw(policy, closed, Sampling(max_tokens=20), range(60))).segments
    assert max(len(s.tokens) for s in segments) == 3 and {s.finish for s in segments} == {Finish.END, Finish.LENGTH}
    over = closed + policy.write("ccc")
    assert (await draw(policy, over, STEP)).segments[0] == Segment((), "", (), Finish.LENGTH)
    first = (await draw(policy, START, Sampling(max_tokens=20), range(60))).segments
    assert max(len(s.text.partition(">")[2]) for s in first) == 3


async def test_answers_are_distributed_as_without_phases():
    """With a section that never fills, a completion is what the policy itself would have drawn."""
    policy = phased(0.3, think_tokens=None)
    drawn = [s.text for s in (await draw(policy, START, Sampling(max_tokens=60), range(2000))).segments]
    alone = Thinker(close=0.3, length=60)
    wanted = [s.text for s in (await draw(alone, START, Sampling(max_tokens=60), range(5000, 7000))).segments]
    for event in (lambda t: t.startswith(">"), lambda t: t.endswith("c"), lambda t: len(t) > 8, lambda t: ">cc" in t):
        p, q = (sum(map(event, texts)) / 2000 for texts in (drawn, wanted))
        assert abs(p - q) < 4 * math.sqrt(0.5 / 2000), (p, q)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ["beam", "astar-waves", "mcts-rollouts", "flat-waves", "particles"])
async def test_searches_notice_nothing(law, name, searches, worlds):
    from dataclasses import replace

    policy = phased(0.1, think_until=Tokens(3))
    prompts = tuple(policy.prompt([{"role": "user", "content": f"q{i}"}]) for i in range(2))
    world = replace(worlds["pairs"], policy=policy, verifier=Hidden("aab>cd"), prompts=prompts, step=STEP)
    await law(searches[name], world)


async def test_a_strict_budget_is_kept(searches):
    for name in ("beam", "flat-waves"):
        budget = Budget({"generated": 25}, strict=True)
        session = Session(PROMPT, phased(0.0), Hidden("ab>cd"), budget, step=STEP, whole=Sampling(max_tokens=12))
        await run(searches[name], session)
        assert budget.spent.generated <= 25


class Mute:
    async def sample(self, requests):
        raise AssertionError("it was asked")


async def test_what_cannot_be_is_refused():
    for field, value in (("open", ""), ("close", ""), ("closing", "x"), ("think_tokens", 0), ("answer_tokens", 0)):
        with pytest.raises(ConfigError) as error:
            Phased(Thinker(), **{field: value})
        assert error.value.field in (field, "closing")
    with pytest.raises(ConfigError, match="Writes"):
        async with Phased(Mute()):
            pass
    with pytest.raises(PolicyError, match="list"):
        await phased().sample([Request(START, Sampling(), (), top=2)])
    with pytest.raises(PolicyError, match="how long"):
        await phased().sample([Request(START + Segment((), "ab"), STEP, (1,))])
    assert {"Writes", "Reads", "Renders"} <= set(Phased(Mute()).lacks)
