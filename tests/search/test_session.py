"""The verbs: what they add, ask, charge, and in which order."""

import asyncio
from dataclasses import replace

import pytest

from policies.toy import Toy
from search.budget import Budget
from search.errors import BudgetExhausted, ConfigError, PolicyError, VerifierError
from search.events import Added, Pruned, Scored, Simulated
from search.ports import KeepsPrefixes, ability
from search.session import gather, seed_of
from search.steps import Tokens
from search.types import Cost, Finish, Reply, Sampling, Segment, Verdict
from verifiers.toy import Hidden


class Recorder:
    """A policy and verifier that remembers what it was asked, and may answer differently."""

    def __init__(self, reply=lambda request, reply: reply, verdict=lambda prefix, verdict: verdict):
        self.requests, self.prefixes, self.released = [], [], []
        self.reply, self.verdict = reply, verdict

    async def sample(self, requests):
        self.requests += requests
        replies = await Toy().sample(requests)
        return [self.reply(request, reply) for request, reply in zip(requests, replies, strict=True)]

    async def score(self, prefixes):
        await asyncio.sleep(0)
        self.prefixes += prefixes
        verdicts = await Hidden("abcab").score(prefixes)
        return [self.verdict(prefix, verdict) for prefix, verdict in zip(prefixes, verdicts, strict=True)]

    def retain(self, prefix):
        raise AssertionError("nothing asks for this")

    def release(self, prefix):
        self.released.append(prefix)


def shape(node):
    return [(child.prefix.text, child.times) for child in node.children]


async def test_one_and_three_draws_are_four(session):
    apart, together = session(), session()
    await apart.expand(apart.root, 1)
    await apart.expand(apart.root, 3)
    children = await together.expand(together.root, 4)
    assert shape(apart.root) == shape(together.root)
    assert children == together.root.children
    assert apart.root.draws == together.root.draws == 4


async def test_draws_depend_on_seed_prefix_sampling_and_number(session):
    s = session()
    prefix, sampling = s.root.prefix, Sampling(until=Tokens(1))
    (child, *_) = await s.expand(s.root, 1)
    seeds = {
        seed_of(0, prefix, sampling, 0),
        seed_of(1, prefix, sampling, 0),
        seed_of(0, child.prefix, sampling, 0),
        seed_of(0, prefix, Sampling(until=Tokens(2)), 0),
        seed_of(0, prefix, sampling, 1),
    }
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(0, prefix, sampling, 0) in seeds


async def test_steps_and_completions_are_counted_apart(session):
    s = session()
    await s.simulate(s.root, 3)
    await s.complete(s.root)
    await s.expand(s.root, 2)
    assert (s.root.draws, s.root.completions) == (2, 4)
    plain = session()
    assert shape(plain.root) == []
    assert [child.prefix for child in await plain.expand(plain.root, 2)] == [c.prefix for c in s.root.children[1:]]


async def test_expand_returns_distinct_children_first_seen_first(session):
    s = session(policy=Toy("ab"))
    children = await s.expand(s.root, 20)
    assert len(children) == 2
    assert sum(child.times for child in children) == 20
    assert children == s.root.children


async def test_complete_adds_a_leaf_and_simulate_does_not(session):
    s = session()
    leaf = await s.complete(s.root)
    assert leaf.complete and len(leaf.prefix.text) == 5
    before = len(s.tree)
    futures = await s.simulate(s.root, 3)
    assert len(futures) == 3 and len(s.tree) == before
    assert all(future.finish is Finish.END for future in futures)


async def test_nothing_follows_an_end(session):
    s = session()
    leaf = await s.complete(s.root)
    for call in (s.expand(leaf, 1), s.complete(leaf), s.simulate(leaf)):
        with pytest.raises(ValueError, match="nothing can follow"):
            await call
    with pytest.raises(ValueError, match="at least 1"):
        await s.expand(s.root, 0)


async def test_every_node_is_judged_once(session):
    models = Recorder()
    s = session(policy=models, verifier=models)
    children = await s.expand(s.root, 6)
    leaf = await s.complete(s.root)
    nodes = [*children, leaf, *children]
    first = await s.score(nodes)
    assert await s.score(nodes) == first == [node.score for node in nodes]
    assert len(models.prefixes) == len(children) + 1
    assert leaf.step_scores == (leaf.score,)


async def test_every_node_is_judged_once_by_calls_that_overlap(session):
    models = Recorder()
    s = session(policy=models, verifier=models)
    children = await s.expand(s.root, 6)
    some, all_, none = await gather([s.score(children[:2]), s.score(children), s.score([])])
    assert (some, none) == (all_[:2], [])
    assert len(models.prefixes) == len(children)


async def test_a_call_that_waits_for_a_verdict_of_another_hears_when_it_fails(session):
    models = Recorder(verdict=lambda prefix, verdict: Verdict(2.0))
    s = session(verifier=models)
    children = await s.expand(s.root, 3)
    first, second = await asyncio.gather(s.score(children), s.score(children), return_exceptions=True)
    assert isinstance(first, VerifierError) and isinstance(second, VerifierError)
    assert "another call" in str(second)


async def test_effects_follow_the_order_of_calls(session):
    """The first call is answered last; ids and events are as if it had been answered first."""

    class Backwards(Recorder):
        async def sample(self, requests):
            place = len(self.requests)
            replies = await super().sample(requests)
            for _ in range(20 - 5 * place):
                await asyncio.sleep(0)
            return replies

    seen, straight = [], session()
    nodes = await straight.expand(straight.root, 3)
    await gather(straight.expand(node, 3) for node in nodes)
    s = session(policy=Backwards(), sinks=[seen.append])
    nodes = await s.expand(s.root, 3)
    await gather(s.expand(node, 3) for node in nodes)
    assert s.tree.to_json() == straight.tree.to_json()
    assert [event.node for event in seen if isinstance(event, Added)] == list(range(1, len(s.tree)))


async def test_workers_that_run_freely_are_repeatable_too(session):
    """Coroutines that make one call after another in a fixed order, with nothing between, need no waves."""

    async def grow(policy):
        s = session(policy=policy)

        async def worker():
            node = s.root
            while not node.terminal:
                node = (await s.expand(node, 1))[0]

        await gather(worker() for _ in range(6))
        return s.tree.to_json()

    class Uneven(Recorder):
        async def sample(self, requests):
            for _ in range(len(self.requests) * 7 % 5):
                await asyncio.sleep(0)
            return await super().sample(requests)

    assert await grow(Uneven()) == await grow(Toy())


async def test_gather_raises_only_after_all_have_ended():
    ended = []

    async def call(rounds, error=None):
        for _ in range(rounds):
            await asyncio.sleep(0)
        ended.append(rounds)
        if error:
            raise error
        return rounds

    assert await gather(call(n) for n in (3, 1, 2)) == [3, 1, 2]
    ended.clear()
    stop = BudgetExhausted("generated", 1, 1, Budget())
    with pytest.raises(PolicyError):
        await gather([call(1, stop), call(5), call(2, PolicyError("a fault is more than a limit"))])
    assert sorted(ended) == [1, 2, 5]
    with pytest.raises(BudgetExhausted):
        await gather([call(1), call(2, stop)])


async def test_prune_marks_emits_and_releases(session):
    seen, models = [], Recorder()

    class Wrapped:
        inner = models
        sample = models.sample

    s = session(policy=Wrapped(), sinks=[seen.append])
    (node, *_) = await s.expand(s.root, 1)
    s.prune(node)
    assert node.pruned and node in s.tree.nodes
    assert isinstance(seen[-1], Pruned) and seen[-1].node == node.id
    assert models.released == [node.prefix]
    assert ability(Wrapped(), KeepsPrefixes) is models
    assert ability(Toy(), KeepsPrefixes) is None


async def test_backup_and_note(session):
    s = session()
    (node, *_) = await s.expand(s.root, 1)
    s.backup(node.path(), 0.5)
    s.backup([s.root], 1.0)
    assert (node.visits, node.value, s.root.visits, s.root.value) == (1, 0.5, 2, 0.75)
    s.note(node, f=1.0)
    s.note(node, g=2)
    assert node.notes == {"f": 1.0, "g": 2}
    for write in (lambda: s.note(node, f=float("nan")), lambda: s.backup([node], float("inf"))):
        with pytest.raises(ValueError, match="finite"):
            write()


async def test_events_are_numbered_and_timed(session, clock):
    seen = []
    clock.now = 50
    s = session(sinks=[seen.append], clock=clock)
    clock.now = 52.5
    await s.score(await s.expand(s.root, 3))
    await s.simulate(s.root)
    assert [event.seq for event in seen] == list(range(len(seen)))
    assert [event.seconds for event in seen] == [0.0] + [2.5] * (len(seen) - 1)
    kinds = [event.kind for event in seen]
    assert kinds[0] == "started" and set(kinds) == {"started", "charged", "added", "scored", "simulated"}
    assert [type(event) for event in seen if event.kind in ("scored", "simulated")][-1] is Simulated
    assert sum(isinstance(event, Scored) for event in seen) == len(s.root.children)


async def test_the_budget_is_checked_before_and_charged_after(session):
    budget = Budget({"generated": 4, "passes": 2})
    s = session(budget=budget)
    children = await s.expand(s.root, 5)
    assert budget.spent == Cost(generated=5, prefilled=1, policy_calls=1) == s.tree.cost
    with pytest.raises(BudgetExhausted, match="generated: spent 5 of 4"):
        await s.expand(children[0], 1)
    assert children[0].draws == 0  # a draw that was not made has no number
    await s.score(children)  # judging does not generate
    assert budget.spent.passes == len(children) == 3
    await s.score(children)  # nothing to pay
    with pytest.raises(BudgetExhausted, match="passes: spent 3 of 2"):
        await s.score([s.root])


async def test_a_strict_budget_caps_the_tokens_of_a_draw(session):
    models = Recorder()
    s = session(policy=models, budget=Budget({"generated": 7}, strict=True), whole=Sampling(max_tokens=6))
    leaf = await s.complete(s.root)
    assert leaf.complete and s.budget.spent.generated == 6
    cut = await s.complete(s.root)
    assert (cut.segment.finish, len(cut.segment.tokens)) == (Finish.LENGTH, 1)
    assert models.requests[-1].sampling.max_tokens == 1
    assert s.budget.spent.generated == 7

    free = session(policy=Toy(), whole=Sampling(max_tokens=6))
    await free.complete(free.root)
    second = await free.complete(free.root)
    assert second.segment.text.startswith(cut.segment.text)  # the same draw, cut


async def test_a_strict_budget_is_not_overshot_by_what_is_in_flight(session):
    """Eight completions of up to nine tokens at once, that take six each, and forty tokens for all of them."""
    calls = []

    class Slow:
        async def sample(self, requests):
            calls.append(requests[0].sampling.max_tokens)
            await asyncio.sleep(0)
            return await Toy().sample(requests)

    strict = session(policy=Slow(), budget=Budget({"generated": 40}, strict=True), whole=Sampling(max_tokens=9))
    with pytest.raises(BudgetExhausted):
        await gather(strict.complete(strict.root) for _ in range(8))
    assert strict.budget.spent.generated == 40
    assert calls == [9] * 6 + [4]  # the last one alone, with what was left

    loose = session(budget=Budget({"generated": 40}), whole=Sampling(max_tokens=9))
    await gather(loose.complete(loose.root) for _ in range(8))
    assert loose.budget.spent.generated == 48
    assert [node.prefix for node in loose.tree][:6] == [node.prefix for node in strict.tree][:6]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda reply: Reply(reply.segments[:-1], reply.cost),
        lambda reply: replace(reply, cost=Cost(generated=-1)),
        lambda reply: with_segment(reply, tokens=()),
        lambda reply: with_segment(reply, tokens=(97,) * 600, logprobs=(0.0,) * 600),
        lambda reply: with_segment(reply, logprobs=(0.5,)),
        lambda reply: with_segment(reply, logprobs=(float("nan"),)),
        lambda reply: with_segment(reply, logprobs=()),
        lambda reply: with_segment(reply, text="", tokens=(), logprobs=()),
        lambda reply: with_segment(reply, finish=Finish.EMPTY),
    ],
)
async def test_a_reply_that_breaks_the_contract_goes_no_further(session, wrong):
    s = session(policy=Recorder(reply=lambda request, reply: wrong(reply)))
    with pytest.raises(PolicyError):
        await s.expand(s.root, 2)
    assert len(s.tree) == 1 and s.budget.spent == Cost()


def with_segment(reply, **changes):
    if changes.get("tokens") == () and "text" not in changes:
        changes = {"tokens": (97, 98)}  # one log-probability for two tokens
    return replace(reply, segments=tuple(replace(segment, **changes) for segment in reply.segments))


async def test_a_completion_that_ends_as_a_step_breaks_the_contract(session):
    models = Recorder(reply=lambda request, reply: with_segment(reply, finish=Finish.STEP))
    s = session(policy=models)
    with pytest.raises(PolicyError, match="no boundary"):
        await s.complete(s.root)


@pytest.mark.parametrize(
    "wrong",
    [Verdict(1.01), Verdict(-0.01), Verdict(float("nan")), Verdict(0.5, (0.5, 7.0)), Verdict(0.5, (), Cost(passes=-1))],
)
async def test_a_verdict_that_breaks_the_contract_goes_no_further(session, wrong):
    s = session(verifier=Recorder(verdict=lambda prefix, verdict: wrong))
    children = await s.expand(s.root, 2)
    with pytest.raises(VerifierError):
        await s.score(children)
    assert not any(child.scored for child in children) and s.budget.spent.passes == 0


@pytest.mark.parametrize("many", [0, 2])
async def test_one_answer_per_question(session, many):
    class Miscounting:
        async def sample(self, requests):
            return (await Toy().sample(requests)) * many

        async def score(self, prefixes):
            return [Verdict(0.5)] * many

    with pytest.raises(PolicyError, match=f"{many} answers"):
        s = session(policy=Miscounting())
        await s.expand(s.root, 1)
    with pytest.raises(VerifierError, match=f"{many} answers"):
        s = session(verifier=Miscounting())
        await s.score([s.root])


async def test_policies_without_ids_are_welcome(session):
    class Endpoint:
        async def sample(self, requests):
            step = Segment((), "words", (), Finish.END)
            return [Reply((step,) * len(request.seeds), Cost(generated=1)) for request in requests]

    s = session(policy=Endpoint())
    (leaf,) = await s.expand(s.root, 2)
    assert leaf.complete and leaf.times == 2


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"step": Sampling()}, "step.until"),
        ({"whole": Sampling(until=Tokens(1))}, "whole.until"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_settings_that_make_no_sense_are_refused(session, settings, field):
    with pytest.raises(ConfigError) as caught:
        session(**settings)
    assert caught.value.field == field


async def test_scores_need_a_verifier(session):
    s = session()
    s.verifier = None
    with pytest.raises(ConfigError, match="verifier"):
        await s.score([s.root])


def test_the_dice_depend_on_seed_and_prompt_alone(session):
    one, same, other = session(seed=1), session(seed=1), session(seed=2)
    assert one.rng.random() == same.rng.random() != other.rng.random()
