"""Paths cut inside a segment, or closed: free, recorded, and counted as they should be."""

import pytest

from policies.toy import Toy
from search.cuts import after, close, cut
from search.errors import ConfigError
from search.steps import Tokens
from search.tree import Tree
from search.types import Finish, Sampling


async def grown(session, **fields):
    seen = []
    s = session(Toy("abc", length=7), step=Sampling(until=Tokens(3)), sinks=[seen.append], **fields)
    (first,) = await s.expand(s.root, 1)
    (second,) = await s.expand(first, 1)
    leaf = await s.complete(second)
    return s, [first, second, leaf], seen


async def test_a_cut_is_a_proper_prefix_and_costs_nothing(session):
    s, (first, second, leaf), seen = await grown(session)
    spent = s.budget.spent
    short = cut(s, second, 2)
    assert short.parent is first and not short.terminal
    assert short.segment.tokens == second.segment.tokens[:2]
    assert short.segment.text == second.segment.text[:2]
    assert short.segment.logprobs == second.segment.logprobs[:2]
    assert s.budget.spent == spent and first.draws == 1
    assert cut(s, second, 2) is short and short.times == 0
    assert Tree.from_events(seen).to_json() == s.tree.to_json()
    assert (await s.expand(short, 1))[0].depth == 3


@pytest.mark.parametrize("tokens", [0, 3, 4])
async def test_a_cut_takes_something_and_leaves_something(session, tokens):
    s, (first, *_), _ = await grown(session)
    with pytest.raises(ValueError, match="cannot be cut"):
        cut(s, first, tokens)
    with pytest.raises(ValueError, match="cannot be cut"):
        cut(s, s.root, 1)


async def test_after_so_many_tokens(session):
    s, (first, second, leaf), _ = await grown(session)
    assert [after(s, leaf, n) for n in (0, 3, 6)] == [s.root, first, second]
    for n in range(7):
        node = after(s, leaf, n)
        assert node.prefix.tokens == leaf.prefix.tokens[: n + 1] and not node.terminal  # and the prompt's token
    assert len(s.tree) == 4 + 4


async def test_a_closed_path_is_an_answer_or_a_dead_end_and_every_time_counts(session):
    s, (first, second, _), seen = await grown(session)
    spent = s.budget.spent
    answer = close(s, first, Finish.EMPTY)
    assert close(s, first, Finish.EMPTY) is answer
    dead = close(s, second, Finish.LENGTH)
    assert (answer.complete, answer.times, answer.prefix.text) == (True, 2, first.prefix.text)
    assert dead.terminal and not dead.complete
    assert s.budget.spent == spent and first.draws == 3
    assert Tree.from_events(seen).to_json() == s.tree.to_json()
    for node, finish in ((answer, Finish.EMPTY), (s.root, Finish.END)):
        with pytest.raises(ValueError, match="closed"):
            close(s, node, finish)


async def test_a_policy_that_does_not_read_tokens_is_refused(session):
    class Mute:
        sample = Toy("ab").sample

    s = session(Mute(), step=Sampling(until=Tokens(3)))
    with pytest.raises(ConfigError, match="decode"):
        cut(s, (await s.expand(s.root, 1))[0], 1)
