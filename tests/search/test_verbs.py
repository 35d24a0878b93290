"""Verbs beside drawing a step: other numbers, other policies, listed tokens, text by others, questions outside."""

import math
from dataclasses import dataclass

import pytest

from policies.toy import Toy
from search.errors import ConfigError, PolicyError
from search.run import run
from search.steps import Tokens
from search.testing import check_search
from search.tree import Tree
from search.types import Cost, Finish, Reply, Segment

CHAIN = Toy("ab", length=4, chain={"": {"a": 0.75, "b": 0.25}, "a": {"a": 0.5, "b": 0.3, ".": 0.2}, "b": {".": 1.0}})


async def test_how_a_step_is_drawn_may_be_said_at_the_call(session):
    s = session(CHAIN)
    (greedy,) = await s.expand(s.root, 8, temperature=0.0)
    assert (greedy.segment.text, greedy.times) == ("a", 8)
    (longer,) = await s.expand(s.root, 1, temperature=0.0, until=Tokens(3))
    assert longer.segment.text == "aaa"
    assert s.root.draws == 9


async def test_draws_by_another_policy_are_charged_like_any(session):
    s = session(Toy(), roles={"draft": CHAIN})
    (child,) = await s.expand(s.root, 4, by="draft", temperature=0.0)
    leaf = await s.complete(s.root, by="draft", temperature=0.0)
    assert (child.segment.text, leaf.segment.text) == ("a", "aaaa")
    assert s.budget.spent.generated == 4 + 5
    with pytest.raises(ConfigError, match=r"roles\.judge"):
        await s.expand(s.root, 1, by="judge")


async def test_likeliest_tokens_are_children_in_order_and_are_not_draws(session):
    s = session(CHAIN)
    (a,) = await s.branch(s.root, 1)
    assert [node.segment.text for node in await s.branch(s.root, 5)] == ["a", "b"]
    after = await s.branch(a, 3)
    assert [(n.segment.text, n.segment.finish) for n in after] == [
        ("a", Finish.STEP),
        ("b", Finish.STEP),
        ("", Finish.EMPTY),
    ]
    assert [math.exp(n.segment.logprobs[0]) for n in after] == pytest.approx([0.5, 0.3, 0.2])
    assert (after[2].complete, a.times, s.root.draws) == (True, 0, 0)
    assert not s.tree.answers()  # a listed end is an answer once it is taken
    assert s.put(a, after[2].segment, draws=1) is after[2]
    assert s.tree.answers() == [after[2]]
    assert s.budget.spent.generated == 3  # a decoding step each
    (drawn,) = await s.expand(s.root, 2, temperature=0.0)
    assert (drawn, a.times) == (a, 2)


async def test_text_by_others_belongs_to_the_prefix_and_a_turn_begins_a_reply(session):
    s = session()
    node = s.extend(s.root, "[5]")
    assert (node.prefix.text, node.segment.by, node.segment.logprobs) == ("[5]", "environment", ())
    leaf = await s.complete(node)
    assert leaf.prefix.text == "[5]" + leaf.segment.text
    turn = s.extend(leaf, "again", by="user")
    assert (turn.terminal, turn.prefix.text, turn.prefix.reply) == (False, "", ())
    second = await s.complete(turn)
    assert second.prefix.text == second.segment.text
    assert second.prefix.judged.steps == (second.segment,)
    assert second.prefix.tokens[: len(leaf.prefix.tokens)] == leaf.prefix.tokens
    with pytest.raises(ValueError, match="ended"):
        s.extend(leaf, "more")
    assert s.extend(leaf, "again", by="user") is turn


async def test_questions_outside_the_tree_are_numbered_and_paid_for(session):
    s = session(roles={"judge": Toy("yn", length=1)})
    ask = [{"role": "user", "content": "well?"}]
    first = await s.ask(ask, 3, by="judge")
    more = await s.ask(ask, 5, by="judge")
    other = session(roles={"judge": Toy("yn", length=1)})
    assert first + more == await other.ask(ask, 8, by="judge")
    assert len(s.tree) == 1
    assert s.root.cost.generated == s.budget.spent.generated == 16


async def test_what_is_missing_is_said_before_anything_is_spent(session):
    @dataclass(frozen=True)
    class Wants:
        needs: tuple[str, ...]

        async def __call__(self, s):
            raise AssertionError("it ran")

    class Bare:
        async def sample(self, requests):
            raise AssertionError("it was asked")

    for needs, field in (("next_tokens", "policy"), ("writes", "policy"), ("roles.draft", "roles.draft")):
        with pytest.raises(ConfigError, match="search=Wants") as error:
            await run(Wants((needs,)), session(Bare()))
        assert error.value.field == field
    bare = session(Bare())
    bare.verifier = None
    with pytest.raises(ConfigError, match="give a verifier"):
        await run(Wants(("verifier",)), bare)
    with pytest.raises(ConfigError, match="takes no text"):
        session(Bare()).extend(session(Bare()).root, "x")


@pytest.mark.parametrize(
    "listed",
    [
        (),
        (Segment((1,), "a", (-1.0,)), Segment((2,), "b", (-0.5,))),
        (Segment((1,), "a", (-1.0,)), Segment((1,), "a", (-1.0,))),
        (Segment((1, 2), "ab", (-1.0, -1.0)),),
        (Segment((1,), "a", (-0.1,)), Segment((2,), "b", (-0.2,))),
    ],
    ids=["none", "disorder", "twice", "two tokens", "more than 1"],
)
async def test_a_list_that_is_none_is_refused(session, listed):
    class Wrong:
        async def sample(self, requests):
            return [Reply(listed, Cost()) for _ in requests]

    s = session(Wrong())
    with pytest.raises(PolicyError):
        await s.branch(s.root, 3)


@dataclass(frozen=True)
class Everything:
    """Uses every verb: the laws hold for searches that do."""

    needs = ("verifier", "next_tokens", "writes", "roles.draft", "roles.judge")

    async def __call__(self, s):
        for child in await s.branch(s.root, 2):
            if not child.terminal:
                await s.expand(child, 2, by="draft", temperature=0.5)
        await s.ask([{"role": "user", "content": "which?"}], 2, by="judge")
        note = s.extend(s.root, "note ")
        await s.score([note])
        leaf = await s.complete(note)
        if leaf.complete:
            await s.complete(s.extend(leaf, "again", by="user"), by="draft")
        await s.simulate(s.root, 2, temperature=0.3)
        return None


async def test_every_law_holds_for_every_verb(worlds):
    for world in worlds.values():
        await check_search(Everything(), world)


async def test_a_tree_with_text_by_others_is_rebuilt(worlds):
    trial = await worlds["letters"].run(Everything(), worlds["letters"].prompts[0])
    tree = Tree.from_json(trial.outcome.tree.to_json())
    assert [node.segment.by for node in tree] == [node.segment.by for node in trial.outcome.tree]
    assert {"environment", "user"} <= {node.segment.by for node in tree}
