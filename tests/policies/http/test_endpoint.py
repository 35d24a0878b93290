"""A policy behind a server: laws, trees, finishes, costs."""

import asyncio
import math
from dataclasses import replace

import pytest

from policies.testing import LAWS, SEEDLESS
from policies.toy import Toy
from search.contract import checked_reply
from search.errors import ConfigError, PolicyError
from search.ports import Enumerates, Likelihood, Reads, Writes, ability
from search.run import run
from search.session import Session
from search.steps import Delimiter, Entropy, Pattern, Tokens
from search.types import Finish, Prefix, Request, Sampling, Segment

TOY = Toy("abc", length=8, end=0.15)
PREFIXES = [Prefix(TOY.write("q0")), Prefix(TOY.write("q1")) + TOY.write("ab")]
BOUNDARIES = {
    "tokens": Tokens(2),
    "delimiter": Delimiter(("b", "cc")),
    "pattern": Pattern("[ab]c"),
    "entropy": Entropy(nats=1.0, least=2),
}


# no step begins with its delimiter, "b": such a draw is made twice, and counted twice
ONCE = Toy(
    "abc",
    length=8,
    chain={
        "": {"a": 0.5, "c": 0.5},
        "a": {"a": 0.3, "b": 0.3, "c": 0.3, ".": 0.1},
        "b": {"a": 0.4, "c": 0.4, ".": 0.2},
        "c": {"a": 0.3, "b": 0.3, "c": 0.3, ".": 0.1},
    },
)
STEPS = {**BOUNDARIES, "delimiter": Delimiter("b")}


@pytest.mark.parametrize("until", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("lacks", [(), ("stop_reason",), ("tokenize",), ("stop_reason", "n", "top")], ids=str)
async def test_laws(lacks, until, serve):
    endpoint, _ = serve(ONCE, *lacks)
    async with endpoint:
        prefixes = PREFIXES if endpoint.abilities.ids else _chats(endpoint)
        for law in LAWS:
            await law(endpoint, prefixes, Sampling(until=until, max_tokens=6))


@pytest.mark.parametrize("until", [STEPS["tokens"], STEPS["delimiter"], STEPS["pattern"]], ids=repr)
async def test_laws_without_seeds(until, serve):
    endpoint, _ = serve(ONCE, "seed")
    async with endpoint:
        assert not endpoint.abilities.seeds
        for law in SEEDLESS:
            await law(endpoint, PREFIXES, Sampling(until=until, max_tokens=6))


def _chats(endpoint):
    asked = Prefix(endpoint.prompt([{"role": "user", "content": "q0"}]))
    return [asked, asked + endpoint.write("ab")]


@pytest.mark.parametrize("until", BOUNDARIES.values(), ids=BOUNDARIES.keys())
@pytest.mark.parametrize("lacks", [(), ("stop_reason",), ("stop_reason", "stream")], ids=str)
async def test_draws_are_those_of_the_policy_itself(until, lacks, serve):
    endpoint, _ = serve(TOY, *lacks)
    requests = [
        Request(prefix, sampling, tuple(range(40)))
        for prefix in PREFIXES
        for sampling in (
            Sampling(until=until, max_tokens=4),
            Sampling(max_tokens=5),
            Sampling(temperature=0.3, top_k=2, top_p=0.9, until=until),
        )
    ]
    async with endpoint:
        found = await endpoint.sample(requests)
    wanted = await TOY.sample(requests)
    assert [reply.segments for reply in found] == [reply.segments for reply in wanted]
    finishes = {segment.finish for reply in wanted for segment in reply.segments}
    assert finishes >= {Finish.END, Finish.STEP, Finish.LENGTH}


async def test_every_search_grows_the_tree_it_grows_over_the_policy_itself(serve, searches, worlds):
    world = worlds["pairs"]
    for name, search in searches.items():
        if "writes" in getattr(search, "needs", ()):
            continue  # the toy leaves out of its words what others wrote, and a server sees tokens alone
        endpoint, _ = serve(world.policy)
        async with endpoint:
            found = await _tree(search, world, endpoint)
        assert found == await _tree(search, world, world.policy), name


async def _tree(search, world, policy):
    """The nodes without their costs: a server computes a prompt once per draw."""
    session = Session(
        world.prompts[0], policy, world.verifier, step=world.step, whole=world.whole, roles=world.roles, seed=1
    )
    outcome = await run(search, session, world.select, world.grader)
    spent = outcome.spent
    nodes = [(n.parent.id if n.parent else None, n.segment, n.times, n.visits, n.notes, n.score) for n in outcome.tree]
    answer = outcome.answer.id if outcome.answer else None
    return repr((nodes, answer, outcome.stopped, spent.generated, spent.passes))


async def test_abilities_are_what_the_server_has(serve):
    endpoint, _ = serve(TOY)
    async with endpoint:
        found = endpoint.abilities
        assert (found.route, found.logprobs, found.seeds, found.n, found.stop, found.stream) == (
            "tokens",
            "sampled",
            63,
            True,
            True,
            True,
        )
        assert ability(endpoint, Enumerates) and ability(endpoint, Writes) and ability(endpoint, Reads)
        assert ability(endpoint, Likelihood) is None and "Likelihood" in endpoint.lacks
        assert "seeds of 63 bits" in endpoint.fingerprint
    assert endpoint.lacks == {}


@pytest.mark.parametrize(
    ("lacks", "route", "missing"),
    [
        (("seed",), "tokens", {"Likelihood"}),
        (("top",), "tokens", {"Likelihood", "Enumerates"}),
        (("ids",), "chat", {"Likelihood", "Enumerates", "Reads"}),
        (("tokenize",), "chat", {"Likelihood", "Enumerates", "Reads"}),
        (("completions", "logprobs"), "chat", {"Likelihood", "Enumerates", "Reads", "logprobs"}),
        (("completions", "prefill"), "chat", {"Likelihood", "Enumerates", "Reads", "continues"}),
    ],
)
async def test_what_a_server_lacks_is_found_out(lacks, route, missing, serve):
    endpoint, _ = serve(TOY, *lacks)
    async with endpoint:
        assert endpoint.abilities.route == route
        assert set(endpoint.lacks) - ({"Enumerates"} if "seed" in lacks else set()) == missing


async def test_text_completions_for_base_models(serve):
    endpoint, talk = serve(TOY, "ids", template=False)
    async with endpoint:
        assert endpoint.abilities.route == "text"
        prefix = Prefix(endpoint.prompt([{"role": "user", "content": "q0"}])) + Segment((), "ab")
        (reply,) = await endpoint.sample([Request(prefix, Sampling(), (1,))])
        assert talk.asked[-1]["prompt"] == "q0ab"
    (wanted,) = await TOY.sample([Request(PREFIXES[0] + TOY.write("ab"), Sampling(), (1,))])
    assert reply.segments[0].text == wanted.segments[0].text
    assert not reply.segments[0].tokens and reply.segments[0].finish is wanted.segments[0].finish


async def test_a_chat_goes_on_with_its_answer_and_with_the_user(serve):
    endpoint, talk = serve(TOY, "tokenize")
    async with endpoint:
        prefix = Prefix(endpoint.prompt([{"role": "user", "content": "q0"}])) + endpoint.write("ab")
        await endpoint.sample([Request(prefix, Sampling(), (1,))])
        body = talk.asked[-1]
        assert body["messages"] == [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "ab"}]
        assert body["continue_final_message"] is True
        turned = prefix + Segment((), "again", by="user")
        await endpoint.sample([Request(turned, Sampling(), (1,))])
        assert talk.asked[-1]["messages"][2:] == [{"role": "user", "content": "again"}]
        assert "continue_final_message" not in talk.asked[-1]


async def test_without_seeds_one_request_asks_for_all_draws(serve):
    endpoint, talk = serve(TOY, "seed")
    async with endpoint:
        before = len(talk.asked)
        (reply,) = await endpoint.sample([Request(PREFIXES[0], Sampling(), tuple(range(5)))])
        assert len(talk.asked) == before + 1 and talk.asked[-1]["n"] == 5 and "seed" not in talk.asked[-1]
        assert len(reply.segments) == 5 and reply.cost.policy_calls == 1
        assert reply.cost.prefilled == 2


@pytest.mark.parametrize("until", [STEPS["tokens"], STEPS["delimiter"]], ids=repr)
@pytest.mark.parametrize("lacks", [(), ("lists",), ("tokenize",)], ids=str)
async def test_laws_of_shared_requests(lacks, until, serve):
    endpoint, _ = serve(ONCE, *lacks, seeded=False)
    async with endpoint:
        assert not endpoint.abilities.seeds and endpoint.abilities.lists == (not lacks)
        prefixes = PREFIXES if endpoint.abilities.ids else _chats(endpoint)
        for law in SEEDLESS:
            await law(endpoint, prefixes, Sampling(until=until, max_tokens=6))


async def test_a_wave_of_one_problem_shares_a_request(serve):
    endpoint, talk = serve(TOY, seeded=False)
    again, other = PREFIXES[0] + TOY.write("ba"), PREFIXES[1]
    requests = [Request(prefix, Sampling(until=Tokens(2)), (1, 2, 3)) for prefix in (PREFIXES[0], again, other)]
    requests += [Request(again, Sampling(until=Tokens(2)), (1,)), Request(again, Sampling(until=Tokens(4)), (1, 2, 3))]
    async with endpoint:
        before = len(talk.asked)
        found = await asyncio.gather(*(endpoint.sample([request]) for request in requests))
        asked = talk.asked[before:]
    sent = [(body["prompt"], body["n"], body["max_tokens"]) for body in asked]
    ids = [list(request.prefix.tokens) for request in requests]
    wave = [prompt for prompt, n in ((ids[0], 3), (ids[1], 3), (ids[1], 1)) for _ in range(n)]
    wanted = [(wave, 1, 2), (ids[2], 3, 2), (ids[1], 3, 4)]
    assert sorted(map(str, sent)) == sorted(map(str, wanted)) and all("seed" not in body for body in asked)
    costs = [reply.cost for (reply,) in found]
    assert sum(cost.policy_calls for cost in costs) == 3
    assert [cost.prefilled for cost in costs] == [n * len(t) for t, n in zip(ids, (3, 3, 1, 1, 1), strict=True)]
    for request, (reply,) in zip(requests, found, strict=True):
        assert reply.cost.generated == sum(len(segment.tokens) for segment in reply.segments)
        assert len(reply.segments) == len(request.seeds)


async def test_a_caller_who_leaves_a_shared_request_leaves_it_to_the_others(serve):
    endpoint, _ = serve(TOY, seeded=False)
    async with endpoint:
        requests = [
            Request(prefix, Sampling(until=Tokens(2)), (1,)) for prefix in (PREFIXES[0], PREFIXES[0] + TOY.write("b"))
        ]
        leaves, stays = (asyncio.ensure_future(endpoint.sample([request])) for request in requests)
        await asyncio.sleep(0)
        leaves.cancel()
        ((reply,),) = await asyncio.gather(stays)
        assert reply.segments[0].tokens  # one or two: without a seed nobody knows which


async def test_unweighed_draws_are_the_same_without_log_probabilities(serve):
    (weighed, _), (bare, talk) = serve(TOY), serve(TOY, weighed=False)
    request = Request(PREFIXES[0], Sampling(until=Tokens(2)), tuple(range(40)))
    async with weighed, bare:
        before = len(talk.asked)
        ((wanted,), (found,)) = await weighed.sample([request]), await bare.sample([request])
        assert not any("logprobs" in body for body in talk.asked[before:])
        assert "logprobs" in bare.lacks and "logprobs" not in weighed.lacks
        assert checked_reply(request, found, bare) is found
        with pytest.raises(PolicyError, match="0 log-probabilities for"):
            checked_reply(request, found, weighed)
    assert found.cost.generated == wanted.cost.generated
    assert {segment.finish for segment in found.segments} == {Finish.STEP, Finish.END}
    assert list(found.segments) == [replace(segment, logprobs=()) for segment in wanted.segments]


@pytest.mark.parametrize("lacks", [(), ("lists",), ("tokenize",)], ids=str)
async def test_a_draw_without_a_seed_goes_on_where_the_server_stopped_too_early(lacks, serve):
    """Drawn anew, steps that begin with their delimiter would be too rare."""
    policy = Toy("ab", length=6, chain={"": {"b": 0.5, "a": 0.5}, "a": {"b": 1.0}, "b": {"b": 0.5, "a": 0.5}})
    endpoint, talk = serve(policy, *lacks, seeded=False)
    boundary = Sampling(until=Delimiter(("b",)), max_tokens=5)
    async with endpoint:
        prefix = PREFIXES[0] if endpoint.abilities.ids else Prefix(endpoint.prompt([{"role": "user", "content": "q0"}]))
        (reply,) = await endpoint.sample([Request(prefix, boundary, tuple(range(300)))])
    texts = [segment.text for segment in reply.segments]
    assert all(segment.finish is Finish.STEP for segment in reply.segments) and {text[-1] for text in texts} == {"b"}
    share = sum(text.startswith("b") for text in texts) / len(texts)
    assert abs(share - 0.5) < 0.09  # three standard deviations; drawn anew it would be 0.25


async def test_a_blank_step_is_not_ended_by_its_delimiter(serve):
    """A server stops at the delimiter wherever it stands; we ask again, and pay both."""
    policy = Toy("ab", length=6, chain={"": {"b": 1.0}, "a": {"b": 1.0}, "b": {"b": 0.5, "a": 0.5}})
    boundary = Delimiter(("b",))
    endpoint, talk = serve(policy)
    async with endpoint:
        before = len(talk.asked)
        requests = [Request(PREFIXES[0], Sampling(until=boundary, max_tokens=5), (seed,)) for seed in range(6)]
        found = await endpoint.sample(requests)
        wanted = await policy.sample(requests)
    assert [r.segments for r in found] == [r.segments for r in wanted]
    assert len(talk.asked) == before + 12 and all(r.cost.policy_calls == 2 for r in found)
    lost = [r.cost.generated - len(r.segments[0].tokens) for r in found]
    assert lost == [1] * 6


async def test_the_context_ends_a_draw(serve):
    endpoint, _ = serve(Toy("ab", length=50), max_context=10)
    async with endpoint:
        prefix = PREFIXES[0] + TOY.write("abab")
        (cut,) = (await endpoint.sample([Request(prefix, Sampling(), (1,))]))[0].segments
        full = prefix + cut
        assert len(full.tokens) == 10 and cut.finish is Finish.LENGTH
        (none,) = (await endpoint.sample([Request(full, Sampling(), (1,))]))[0].segments
        assert none == Segment((), "", (), Finish.LENGTH)


async def test_listing(serve):
    endpoint, _ = serve(TOY)
    async with endpoint:
        request = Request(PREFIXES[1], Sampling(max_tokens=1), (), top=4)
        ((found,), (wanted,)) = await endpoint.sample([request]), await TOY.sample([request])
    assert found.segments == wanted.segments and found.cost.generated == 1


async def test_drift_is_measured(serve):
    class Merging(Toy):
        """Reads two letters in a text as one token, as tokenizers do."""

        def write(self, text):
            return Segment(tuple(map(ord, text.replace("ab", "\u00e4"))), text)

        def text(self, tokens):
            return super().text(tokens).replace("\u00e4", "ab")

    sampling = Sampling(until=Tokens(1))
    for policy, drifted in ((TOY, False), (Merging("abc", 8, 0.0), True)):
        endpoint, _ = serve(policy, "tokenize", prefix=lambda ids, text: Prefix(Segment(ids, text)))
        async with endpoint:
            prompt = Prefix(endpoint.prompt([{"role": "user", "content": "q0"}]))
            for seed in range(12):
                prefix = prompt
                for depth in range(4):
                    (reply,) = await endpoint.sample([Request(prefix, sampling, (seed * 10 + depth,))])
                    if reply.segments[0].finish is not Finish.STEP:
                        break
                    prefix += reply.segments[0]
            assert endpoint.drift.checked > 5
            assert (endpoint.drift.drifted > 0) is drifted


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"base_url": "localhost"}, "base_url"),
        ({"base_url": "ftp://x/v1"}, "base_url"),
        ({"base_url": "http://me:secret@x/v1"}, "base_url"),
        ({"base_url": "http://x/v1?key=secret"}, "base_url"),
        ({"extra": {"api_key": "secret"}}, "extra.api_key"),
        ({"attempts": 0}, "attempts"),
        ({"timeout": 0.0}, "timeout"),
        ({"pause": math.nan}, "pause"),
        ({"route": "smoke"}, "route"),
        ({"max_context": 0}, "max_context"),
    ],
)
def test_settings_are_checked(settings, field, serve):
    with pytest.raises(ConfigError) as error:
        serve(**settings)
    assert error.value.field == field and "secret" not in str(error.value)


async def test_it_has_to_be_entered_once(serve):
    endpoint, _ = serve()
    with pytest.raises(PolicyError, match="async with"):
        await endpoint.sample([Request(PREFIXES[0], Sampling(), (1,))])
    async with endpoint:
        with pytest.raises(ConfigError, match="once"):
            await endpoint.__aenter__()


@pytest.mark.parametrize(
    ("lacks", "settings", "said"),
    [
        ((), {"model": "other"}, "choose from toy"),
        (("models",), {}, "give the name"),
        (("ids",), {"route": "tokens"}, "token ids"),
        (("tokenize",), {"route": "tokens"}, "tokenizer=DIR"),
        (("ids",), {"route": "text"}, "template=false"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_the_reason(lacks, settings, said, serve):
    endpoint, _ = serve(TOY, *lacks, **settings)
    with pytest.raises(ConfigError, match=said):
        async with endpoint:
            pass
