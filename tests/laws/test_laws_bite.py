"""The laws of a search bite: each search here breaks one, and is caught."""

import random
from dataclasses import dataclass

import pytest

from search.errors import BudgetExhausted
from search.session import gather
from search.testing import check_search
from search.types import Cost, Request

DICE = random.Random(0)


@dataclass(frozen=True)
class Dice:
    """Decides by dice that are not the session's."""

    async def __call__(self, s):
        for _ in range(DICE.randrange(1, 9)):
            await s.complete(s.root)


@dataclass(frozen=True)
class FreeRunners:
    """Runs side by side without waves, gathering in between."""

    async def __call__(self, s):
        async def runner():
            beam = [s.root]
            while beam:
                steps = await gather(s.expand(node, 2) for node in beam[:2])
                beam = [node for children in steps for node in children if not node.terminal]
                await s.score(beam)

        await gather(runner() for _ in range(3))


@dataclass(frozen=True)
class Smuggler:
    """Asks the policy behind the session's back."""

    async def __call__(self, s):
        leaf = await s.complete(s.root)
        await s.policy.sample([Request(s.root.prefix, s.whole, (1,))])
        return leaf


@dataclass(frozen=True)
class Secretive:
    """Changes the tree without saying so."""

    async def __call__(self, s):
        leaf = await s.complete(s.root)
        leaf.notes["secret"] = 1.0


@dataclass(frozen=True)
class Deaf:
    """Does not stop when its budget ends."""

    async def __call__(self, s):
        for _ in range(4):
            try:
                await s.complete(s.root)
            except BudgetExhausted:
                s.budget.limits.clear()


@dataclass(frozen=True)
class Quitter:
    """Loses what it has found when its budget ends."""

    async def __call__(self, s):
        try:
            for _ in range(4):
                await s.complete(s.root)
        except BudgetExhausted:
            s.tree.nodes[1:] = []
            raise


@dataclass(frozen=True)
class Embezzler:
    """Spends on the side."""

    async def __call__(self, s):
        leaf = await s.complete(s.root)
        s.budget.charge(Cost(generated=1))
        return leaf


@pytest.mark.parametrize(
    ("search", "law"),
    [
        (Dice(), "ignores_the_schedule"),
        (FreeRunners(), "ignores_the_schedule"),
        (Smuggler(), "pays_once"),
        (Embezzler(), "pays_once"),
        (Secretive(), "can_be_rebuilt"),
        (Deaf(), "stops_in_time"),
        (Quitter(), "stops_in_time"),
    ],
    ids=repr,
)
async def test_a_search_that_breaks_a_law_is_caught(search, law, worlds):
    with pytest.raises(AssertionError, match=law):
        await check_search(search, worlds["letters"])
