"""Servers that are busy, broken or slow; callers that go away; keys that must not be seen."""

import asyncio
import json
import logging
import pickle
import random

import httpx
import pytest

from experiments.serving import Answer, Service, failed
from policies.http import Endpoint
from policies.http.secret import Secret
from policies.http.throttle import Throttle
from policies.toy import Toy
from search.budget import Budget
from search.errors import ConfigError, PolicyError
from search.session import Session
from search.steps import Pattern, Tokens
from search.types import Prefix, Request, Sampling

TOY = Toy("abc", length=8, end=0.1)
PREFIX = Prefix(TOY.write("q0"))
REQUEST = Request(PREFIX, Sampling(), (3,))


async def test_lost_attempts_are_made_again_and_counted(serve, faults):
    endpoint, talk = serve(TOY)
    async with endpoint:
        talk.service.faults = [faults.status(429), faults.status(503), faults.status(500), faults.garbled]
        (reply,) = await endpoint.sample([REQUEST])
        assert endpoint.connection.client.retried == 4
        assert endpoint.connection.client.throttle.cuts == 2
    (wanted,) = await TOY.sample([REQUEST])
    assert reply.segments == wanted.segments
    assert reply.cost.policy_calls == 5
    assert reply.cost.generated == 2 * wanted.cost.generated, "the garbled answer was drawn, and is paid"


async def test_a_torn_stream_is_drawn_again_and_what_had_come_is_paid(serve, faults):
    request = Request(PREFIX, Sampling(until=Pattern("zz"), max_tokens=6), (5,))
    endpoint, talk = serve(Toy("abc", length=8))
    async with endpoint:
        talk.service.faults = [faults.torn(4)]
        (reply,) = await endpoint.sample([request])
    assert len(reply.segments[0].tokens) == 6
    assert (reply.cost.generated, reply.cost.policy_calls) == (10, 2)
    assert reply.cost.prefilled == 4


async def test_the_budget_counts_what_was_lost(serve, faults):
    """A retry may cross a limit, as any call in flight; the next call is not made."""
    endpoint, talk = serve(Toy("abc", length=8))
    async with endpoint:
        session = Session(
            TOY.write("q0"),
            endpoint,
            None,
            Budget({"generated": 9}),
            step=Sampling(until=Pattern("zz"), max_tokens=6),
            whole=Sampling(),
        )
        talk.service.faults = [faults.torn(4)]
        await session.expand(session.root, 1)
        assert session.budget.spent.generated == 10
        before = len(talk.asked)
        with pytest.raises(Exception, match="generated: spent 10 of 9"):
            await session.expand(session.root, 1)
        assert len(talk.asked) == before


async def test_it_gives_up(serve, faults):
    endpoint, talk = serve(TOY, attempts=3)
    async with endpoint:
        talk.service.faults = [faults.status(500)] * 3
        with pytest.raises(PolicyError, match="status 500, after 3 attempts"):
            await endpoint.sample([REQUEST])
        talk.service.faults = [faults.status(503, **{"retry-after": "1000000"})]
        with pytest.raises(PolicyError, match="after 1 attempts"):
            await endpoint.sample([REQUEST])


async def test_what_is_refused_is_not_asked_again(serve, faults):
    endpoint, talk = serve(TOY)
    async with endpoint:
        before = len(talk.asked)
        talk.service.faults = [faults.status(400)]
        with pytest.raises(PolicyError, match="400 status 400"):
            await endpoint.sample([REQUEST])
        assert len(talk.asked) == before + 1


async def test_no_server():
    with pytest.raises(ConfigError, match="no server answers there") as error:
        async with Endpoint("http://127.0.0.1:9/v1", attempts=2, pause=0.0):
            pass
    assert error.value.field == "base_url"


async def test_a_slow_server_is_given_up_after_its_timeout(on_loopback):
    service = Service(TOY, "toy")
    slow = False

    async def sometimes(asked):
        if slow:
            await asyncio.sleep(60)
        return await service(asked)

    with on_loopback(sometimes) as url:
        endpoint = Endpoint(url, attempts=2, timeout=0.5, pause=0.0)
        async with endpoint:
            slow = True
            with pytest.raises(PolicyError, match="ReadTimeout.*after 2 attempts"):
                await endpoint.sample([REQUEST])
            assert endpoint.connection.client.throttle.cuts == 2


async def test_over_a_real_socket_draws_are_the_same(on_loopback, serve):
    with on_loopback(_service(TOY)) as url:
        endpoint = Endpoint(url)
        async with endpoint:
            requests = [Request(PREFIX, Sampling(until=until), tuple(range(6))) for until in (Tokens(3), Pattern("ab"))]
            found = await endpoint.sample(requests)
    wanted = await TOY.sample(requests)
    assert [reply.segments for reply in found] == [reply.segments for reply in wanted]


def _service(policy):
    def split(ids, text):
        end = max(i + 1 for i, token in enumerate(ids) if chr(token) not in "abc")
        prefix = Prefix(policy.write("".join(map(chr, ids[:end]))))
        return prefix + policy.write("".join(map(chr, ids[end:]))) if ids[end:] else prefix

    return Service(policy, "toy", prefix=split)


async def test_a_caller_who_goes_away_closes_its_request(on_loopback):
    service, gone, begun, wait = _service(TOY), [], [], False

    async def waiting(asked):
        if wait:
            begun.append(asked)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                gone.append(asked)
                raise
        return await service(asked)

    with on_loopback(waiting) as url:
        endpoint = Endpoint(url)
        async with endpoint:
            wait = True
            call = asyncio.create_task(endpoint.sample([Request(PREFIX, Sampling(), (1, 2, 3))]))
            while len(begun) < 3:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            for _ in range(300):
                if len(gone) == 3:
                    break
                await asyncio.sleep(0.01)
            assert len(gone) == 3
            assert endpoint.connection.client.throttle.flying == 0


async def test_a_stream_is_closed_where_the_step_ends(serve):
    endpoint, talk = serve(Toy("abc", length=40), "stop_reason")
    async with endpoint:
        before = talk.closed
        await endpoint.sample([Request(PREFIX, Sampling(until=Pattern("a")), (1,))])
        assert talk.closed == before + 1


async def test_the_limit_grows_by_one_a_round_and_halves_once_a_round():
    throttle = Throttle(4, 10)
    for _ in range(4):
        throttle.grow()
    assert 4.8 < throttle.limit < 5
    throttle.shrink(0)
    throttle.shrink(0)  # of the same round
    assert 2.4 < throttle.limit < 2.5 and throttle.cuts == 1
    throttle.shrink(1)
    throttle.shrink(2)
    assert throttle.limit == 1
    for _ in range(1000):
        throttle.grow()
    assert throttle.limit == 10


async def test_no_more_are_in_flight_than_may_be_whatever_happens():
    rng, most, flying = random.Random(0), 0, 0
    throttle = Throttle(3, 3)
    order = []

    async def call(number):
        nonlocal most, flying
        async with throttle.slot():
            order.append(number)
            flying += 1
            most = max(most, flying)
            try:
                for _ in range(rng.randrange(5)):
                    await asyncio.sleep(0)
                if number % 7 == 0:
                    raise ValueError
            finally:
                flying -= 1

    tasks = [asyncio.create_task(call(number)) for number in range(60)]
    await asyncio.sleep(0)
    for task in tasks[5::5]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3 and throttle.flying == 0 and not throttle._waiting
    assert order == sorted(order)


KEY = "sk-very-secret-8c1f"


class Telling:
    """A server that repeats the key in all it says, and accepts it or not."""

    def __init__(self, service, accepts=True):
        self.service, self.accepts, self.status = service, accepts, None

    async def __call__(self, asked):
        shown = asked.headers.get("authorization", "")
        if not self.accepts:
            return failed(401, f"Incorrect API key provided: {shown}")
        if self.status:
            return Answer(self.status, {"error": {"message": f"your key {shown} is tired"}})
        return await self.service(asked)


async def test_a_key_is_sent_and_never_shown(on_loopback, monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    telling = Telling(Service(TOY, "toy", key=KEY))
    said = []
    with on_loopback(telling) as url:
        endpoint = Endpoint(url, key_env="SOME_KEY", attempts=2, pause=0.0)
        async with endpoint:
            await endpoint.sample([REQUEST])
            client = endpoint.connection.client
            said += [
                repr(endpoint),
                endpoint.fingerprint,
                repr(endpoint.connection),
                repr(client),
                repr(client._secret),
            ]
            for status in (400, 500, 401):
                telling.status = status
                with pytest.raises((PolicyError, ConfigError)) as error:
                    await endpoint.sample([REQUEST])
                said += [str(error.value), repr(error.value), repr(error.value.__cause__), repr(error.getrepr())]
                assert "***" in str(error.value)
            with pytest.raises(TypeError):
                pickle.dumps(client._secret)
        telling.accepts = False
        with pytest.raises(ConfigError, match="does not accept the key") as error:
            async with Endpoint(url, key_env="SOME_KEY"):
                pass
        said.append(str(error.getrepr()))
    assert KEY not in "".join(said) + caplog.text


def test_a_key_that_is_not_there(monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_KEY"):
        Secret("NO_KEY")
    monkeypatch.setenv("NO_KEY", "two\nlines")
    with pytest.raises(ConfigError, match="signs") as error:
        Secret("NO_KEY")
    assert "two" not in str(error.value)


async def test_a_mock_of_httpx_is_enough(monkeypatch):
    """A hosted chat that takes another name for the limit, and no log-probabilities."""
    asked = []

    def answer(request):
        body = json.loads(request.content or b"{}")
        asked.append(body)
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": "big"}, {"id": "small"}]})
        if request.url.path != "/v1/chat/completions":
            return httpx.Response(404, text="<html>nothing here</html>")
        if "max_tokens" in body or "logprobs" in body:
            return httpx.Response(400, json={"error": {"message": "use max_completion_tokens"}})
        message = {"role": "assistant", "content": "one two three"}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
        choices = [{"index": i, "message": message, "finish_reason": "stop"} for i in range(body.get("n", 1))]
        return httpx.Response(200, json={"choices": choices, "usage": usage})

    endpoint = Endpoint("https://host/v1", "big", pause=0.0, transport=httpx.MockTransport(answer))
    async with endpoint:
        found = endpoint.abilities
        assert (found.route, found.seeds, found.n, found.stop, found.prefill) == ("chat", 0, True, False, "")
        prompt = Prefix(endpoint.prompt([{"role": "user", "content": "Count."}]))
        (reply,) = await endpoint.sample([Request(prefix := prompt, Sampling(max_tokens=9), (1, 2))])
        assert asked[-1]["max_completion_tokens"] == 9 and asked[-1]["n"] == 2
        assert [s.text for s in reply.segments] == ["one two three"] * 2 and reply.cost.reused == 5
        with pytest.raises(PolicyError, match="no prefill"):
            await endpoint.sample([Request(prefix + endpoint.write("one"), Sampling(), (1,))])


async def test_a_list_of_models_that_fails_is_not_needed(serve, faults):
    """As `transformers serve` fails to list its models where nothing was ever downloaded."""
    endpoint, _ = serve(faults=[faults.status(500)] * 2, attempts=2, model="toy")
    async with endpoint:
        assert endpoint.abilities.route == "tokens"
    unnamed, _ = serve(faults=[faults.status(500)] * 2, attempts=2)
    with pytest.raises(ConfigError, match="no server answers"):
        await unnamed.__aenter__()
