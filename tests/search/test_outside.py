"""Ask and tell: what `may_be_driven` (search.testing) does not show."""

import asyncio

import pytest

from policies.toy import Toy
from search.algorithms.flat import Flat
from search.errors import PolicyError
from search.outside import Outside
from search.run import run
from search.types import Request


async def test_waits_for_the_first_question_and_ends_with_the_search(session):
    outside = Outside()

    async def slow():
        await asyncio.sleep(0.01)
        return await run(Flat(3), session(policy=outside))

    task, rounds = asyncio.create_task(slow()), 0
    while questions := await outside.ask(task):
        rounds += 1
        assert all(isinstance(question, Request) for question in questions.values())
        for number, question in questions.items():
            outside.tell(number, (await Toy().sample([question]))[0])
    assert rounds == 1
    assert (await task).candidates == 3


async def test_a_wrong_answer_fails_in_the_search(session):
    outside = Outside()
    task = asyncio.create_task(run(Flat(1), session(policy=outside)))
    (number,) = await outside.ask(task)
    (reply,) = await Toy().sample([Request(session().root.prefix, session().whole, (1, 2))])
    outside.tell(number, reply)
    assert await outside.ask(task) == {}
    with pytest.raises(PolicyError, match="2 segments"):
        await task


async def test_only_open_questions_can_be_answered():
    with pytest.raises(KeyError):
        Outside().tell(0, None)
