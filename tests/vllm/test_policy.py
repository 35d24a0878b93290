"""The policy in vLLM's engine: the laws of the port, the embedded engine's distribution, costs as the engine counts."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest

from policies.testing import check_policy
from search.contract import checked_reply
from search.errors import ConfigError, PolicyError
from search.ports import Describes, Enumerates, Likelihood, Reads, Renders, Writes
from search.steps import Delimiter, Entropy, Pattern, Tokens
from search.types import Finish, Prefix, Request, Sampling, Segment

pytestmark = pytest.mark.vllm

LINE = Delimiter(("\n\n",))


def replies(loop, policy, *requests):
    found = loop(policy.sample(requests))
    return [checked_reply(request, reply) for request, reply in zip(requests, found, strict=True)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0.8, 30, 0.9, 40, LINE),
        Sampling(until=Tokens(3), max_tokens=7),
        Sampling(max_tokens=9, until=Tokens(20)),
    ],
)
def test_the_laws_that_ship_with_the_port(loop, policy, prompts, sampling):
    (reply,) = replies(loop, policy, Request(prompts[0], Sampling(0.8, until=LINE), (1,)))
    loop(check_policy(policy, [*prompts[:2], prompts[0] + reply.segments[0]], sampling))


def test_it_has_the_abilities_of_a_model_in_this_process(policy):
    for port in (Describes, Enumerates, Likelihood, Reads, Renders, Writes):
        assert isinstance(policy, port), port


def test_it_renders_and_reads_as_the_embedded_policy(policy, embedded):
    chat = [{"role": "user", "content": "Compute 1 + 1."}]
    assert policy.prompt(chat) == embedded.prompt(chat)
    assert policy.write("so 2\n\n") == embedded.write("so 2\n\n")
    assert policy.turn("And 2 + 2?") == embedded.turn("And 2 + 2?")
    assert policy.text(policy.write("12 é").tokens) == "12 é"
    assert policy.vocabulary_size() == embedded.vocabulary_size()


@pytest.mark.parametrize("until", [None, LINE, Pattern(r"=\d"), Tokens(5)])
def test_greedy_draws_are_the_embedded_ones(loop, policy, embedded, prompts, until):
    requests = [Request(prompt, Sampling(0.0, until=until, max_tokens=200), (7,)) for prompt in prompts]
    found, wanted = replies(loop, policy, *requests), replies(loop, embedded, *requests)
    for one, other in zip(found, wanted, strict=True):
        assert one.segments == other.segments  # log-probabilities too: a greedy token is certain


def test_log_probabilities_are_those_of_the_distribution_sampled_from(loop, policy, prompts):
    sampling = Sampling(0.8, 0, 0.9, 4, Tokens(4))
    (reply,) = replies(loop, policy, Request(prompts[0], sampling, tuple(range(24))))
    everything = policy.vocabulary_size()
    for segment in {segment.tokens: segment for segment in reply.segments}.values():
        at = prompts[0]
        for token, logprob in zip(segment.tokens, segment.logprobs, strict=True):
            (listed,) = replies(loop, policy, Request(at, Sampling(), (), everything))
            weights = [math.exp(s.logprobs[0] / 0.8) for s in listed.segments]
            total, nucleus = sum(weights), {}
            for each, weight in zip(listed.segments, weights, strict=True):
                if sum(nucleus.values()) / total >= 0.9:
                    break
                nucleus[each.tokens[0]] = weight
            assert token in nucleus
            assert logprob == pytest.approx(math.log(nucleus[token] / sum(nucleus.values())), abs=1e-4)
            at = at + Segment((token,), "")


def test_draws_follow_the_distribution_of_the_embedded_policy(loop, policy, embedded, prompts):
    request = Request(prompts[0], Sampling(0.9, 0, 0.95, 3, Tokens(3)), tuple(range(2000)))
    (found,), (wanted,) = replies(loop, policy, request), replies(loop, embedded, request)
    ours, theirs = (Counter(s.tokens for s in reply.segments) for reply in (found, wanted))
    chi, kinds = 0.0, 0
    for tokens in set(ours) | set(theirs):
        both = ours[tokens] + theirs[tokens]
        if both >= 10:
            chi, kinds = chi + (ours[tokens] - theirs[tokens]) ** 2 / both, kinds + 1
    assert kinds >= 5 and chi < kinds - 1 + 4 * math.sqrt(2 * (kinds - 1))


def test_the_likeliest_tokens_and_likelihoods_are_the_embedded_ones(loop, policy, embedded, prompts):
    (found,) = replies(loop, policy, Request(prompts[1], Sampling(), (), 12))
    (wanted,) = replies(loop, embedded, Request(prompts[1], Sampling(), (), 12))
    assert [(s.tokens, s.text, s.finish) for s in found.segments] == [
        (s.tokens, s.text, s.finish) for s in wanted.segments
    ]
    for one, other in zip(found.segments, wanted.segments, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert found.cost.generated == 1
    (drawn,) = replies(loop, policy, Request(prompts[1], Sampling(1.0, max_tokens=30), (3,)))
    pairs = [prompts[1]], list(drawn.segments)
    assert loop(policy.logprobs(*pairs))[0] == pytest.approx(loop(embedded.logprobs(*pairs))[0], abs=1e-4)
    assert drawn.segments[0].logprobs == pytest.approx(loop(policy.logprobs(*pairs))[0], abs=1e-4)


def test_a_step_that_only_watching_can_find_is_cut_where_it_ends_and_what_came_is_counted(loop, policy, prompts):
    before = policy.host.counters.generated
    for until in (Pattern(r"=\d"), Entropy(nats=0.5, least=2, window=1), Delimiter((") ",)), Delimiter(("left: 4",))):
        (reply,) = replies(loop, policy, Request(prompts[0], Sampling(0.8, until=until), tuple(range(8))))
        for segment in reply.segments:
            kept = segment.tokens[:-1] if segment.finish is Finish.END else segment.tokens
            assert policy.text(kept) == segment.text
        assert reply.cost.generated >= sum(len(segment.tokens) for segment in reply.segments)
        before += reply.cost.generated
    assert policy.host.counters.generated == before
    assert policy.host.unfinished == 0


def test_a_blank_line_before_any_text_does_not_end_a_step(loop, policy, prompts):
    blank = prompts[0] + policy.write("13-9=4 (left: 4 4 10)")  # a blank line follows, and it is blank alone
    request = Request(blank, Sampling(0.0, until=LINE, max_tokens=100), (1,))
    (reply,) = replies(loop, policy, request)
    assert reply.segments[0].text.startswith("\n\n") and reply.segments[0].text.strip()
    assert reply.cost.generated > len(reply.segments[0].tokens)  # drawn a second time, and paid for


def test_cut_and_full_prefixes_are_dead(loop, policy, prompts):
    (reply,) = replies(loop, policy, Request(prompts[0], Sampling(max_tokens=5), (1, 2)))
    assert {(len(s.tokens), s.finish) for s in reply.segments} == {(5, Finish.LENGTH)}
    context = policy.host.context
    full = Prefix(Segment(prompts[0].tokens * (context // len(prompts[0].tokens) + 1), "")).tokens
    (reply,) = replies(loop, policy, Request(Prefix(Segment(full[:context], "")), Sampling(), (1,)))
    assert reply.segments == (Segment((), "", (), Finish.LENGTH),)
    (reply,) = replies(loop, policy, Request(Prefix(Segment(full[: context - 3], "")), Sampling(max_tokens=9), (1,)))
    assert len(reply.segments[0].tokens) <= 3


def test_what_it_cannot_do_is_refused(loop, policy, prompts):
    for tokens in ((), (5, 10**6), (-1,)):
        with pytest.raises(PolicyError):
            loop(policy.sample([Request(Prefix(Segment(tokens, "x")), Sampling(), (1,))]))
    for temperature in (0.001, 2.5):
        with pytest.raises(ConfigError, match="temperature"):
            loop(policy.sample([Request(prompts[0], Sampling(temperature), (1,))]))
    assert policy.host.unfinished == 0


def test_a_cancelled_call_leaves_nothing_under_way(loop, policy, prompts):
    async def work():
        call = asyncio.ensure_future(policy.sample([Request(prompts[0], Sampling(max_tokens=400), tuple(range(40)))]))
        while policy.host.unfinished < 40:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert policy.host.unfinished == 0
        return await policy.sample([Request(prompts[0], Sampling(0.0, until=Tokens(2)), (1,))])

    assert len(loop(work())[0].segments[0].tokens) == 2


def test_the_fingerprint_follows_weights_settings_and_package(policy):
    from dataclasses import replace

    assert replace(policy, rows=3, memory="9MB").fingerprint == policy.fingerprint
    others = [replace(policy, dtype="bfloat16"), replace(policy, speculate="ngram"), replace(policy, max_context=99)]
    assert len({policy.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_policy_without_an_engine_prompts_and_draws_nothing(loop, policy, prompts):
    front = policy.front()
    assert front == policy and front.prompt([{"role": "user", "content": "1"}]).tokens
    with pytest.raises(PolicyError, match="no engine"):
        loop(front.sample([Request(prompts[0], Sampling(), (1,))]))
