"""Tree of thoughts, breadth first (Yao et al. 2023, arXiv:2305.10601, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from search.ballots import BALLOT, check_ballot, poll
from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class TreeOfThoughts:
    """Draws k thoughts from each state, judges the states, and keeps the best b, level by level.

    States are judged in one of the two ways of the paper. "value": each by itself, by the verifier. "vote": all of a
    level side by side, by `votes` answers of a judging policy to one prompt that lists them; a state is worth the votes
    it gets. The answer of an invalid form is no vote; how many there were stands in the notes of the root. A vote is
    held only where not all states can be kept.

    Thoughts are sampled (the paper's other way, a list of proposals in one answer, is a matter of prompts). A thought
    drawn twice is one state. States that have ended stay in the competition, states cut by a token limit do not; states
    still open after `depth` steps are completed, a case the paper leaves out by knowing the number of steps. Of the
    complete paths the selection chooses under "value", and one more vote among the states kept under "vote". Ties go to
    the state seen first.

    Attributes:
        beams: b, states kept.
        width: k, thoughts drawn from each.
        depth: T, steps.
        judge: "value" or "vote".
        votes: answers asked for per vote.
        voter: role of the policy that votes; "policy" is the one that thinks.
        ballot: template of the question, of {question}, {count} and {choices}; see `search.ballots`.
    """

    beams: int = 2
    width: int = 8
    depth: int = 4
    judge: Literal["value", "vote"] = "value"
    votes: int = 5
    voter: str = "judge"
    ballot: str = BALLOT

    def __post_init__(self) -> None:
        for name in ("beams", "width", "depth", "votes"):
            if (count := getattr(self, name)) < 1:
                raise ConfigError(name, count, "give a number of at least 1")
        if self.judge not in ("value", "vote"):
            raise ConfigError("judge", self.judge, 'give "value" or "vote"')
        check_ballot("ballot", self.ballot)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the way of judging cannot do without."""
        if self.judge == "value":
            return ("verifier",)
        return () if self.voter == "policy" else (f"roles.{self.voter}",)

    async def __call__(self, s: Session) -> Node | None:
        states = [s.root]
        for _ in range(self.depth):
            open_ = [node for node in states if not node.terminal]
            thoughts = list(chain.from_iterable(await gather(s.expand(node, self.width) for node in open_)))
            proposed = [node for node in states if node.complete]
            proposed += [node for node in thoughts if node.complete or not node.terminal]
            if not thoughts:
                break
            states = await self.best(s, proposed, self.beams)
            for node in thoughts:
                if node not in states:
                    s.prune(node)
        open_ = [node for node in states if not node.terminal]
        leaves = await gather(s.complete(node) for node in open_)
        if self.judge == "value":
            return None
        ended = [node for node in [*states, *leaves] if node.complete]
        return (await self.best(s, ended, 1))[0] if ended else None

    async def best(self, s: Session, states: Sequence[Node], count: int) -> list[Node]:
        """The `count` best of `states`, best first."""
        if self.judge == "value":
            values = await s.score(states)
            ranked = sorted(range(len(states)), key=lambda i: -values[i])
        elif len(states) <= count:
            return list(states)
        else:
            found = await poll(s, [node.prefix.text for node in states], self.votes, by=self.voter, ballot=self.ballot)
            for node, votes in zip(states, found.counts, strict=True):
                s.note(node, votes=votes)
            ranked = found.ranked()
        return [states[i] for i in ranked[:count]]
