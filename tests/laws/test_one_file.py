"""Adding an algorithm is one file. This is one: it is written, and every law holds."""

from dataclasses import dataclass

import pytest

from search.run import run
from search.session import Session, gather
from search.testing import LAWS
from search.tree import Node


@dataclass(frozen=True)
class Climb:
    """Hill climbing with restarts: always to the best next step; the best end of `starts` climbs.

    Attributes:
        starts: climbs from the prompt.
        width: steps to choose from.
    """

    starts: int = 3
    width: int = 4

    async def __call__(self, s: Session) -> Node | None:
        for _ in range(self.starts):
            node = s.root
            while not node.terminal:
                steps = await s.expand(node, self.width)
                await s.score(steps)
                node = max(steps, key=lambda step: step.score)
            s.backup(node.path(), node.score)
        return None


@dataclass(frozen=True)
class Lookahead:
    """Goes to the step whose completions are the most likely: a wave of two verbs per round."""

    width: int = 3

    async def __call__(self, s: Session) -> Node | None:
        node = s.root
        while not node.terminal:
            steps = await s.expand(node, self.width)
            open_ = [step for step in steps if not step.terminal]
            futures = await gather(s.simulate(step, 2) for step in open_)
            for step, ahead in zip(open_, futures, strict=True):
                s.note(step, foresight=sum(future.mean_logprob for future in ahead))
            node = max(steps, key=lambda step: step.notes.get("foresight", 0.0))
        return node if node.complete else None


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("search", [Climb(), Lookahead()], ids=repr)
async def test_law(law, search, any_world):
    await law(search, any_world)


async def test_it_climbs(session):
    s = session()
    outcome = await run(Climb(width=6), s)
    assert outcome.answer.score == 1.0
    assert s.root.visits == 3
