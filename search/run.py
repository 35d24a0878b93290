"""Runs one search on one session: to its end, or to the end of its budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from search.errors import BudgetExhausted
from search.needs import check
from search.ports import Grader
from search.select import Best, SameText, Selector
from search.session import Session
from search.tree import Node, Tree
from search.types import Cost


class Search(Protocol):
    """A frozen dataclass whose fields are the hyper-parameters of a paper.

    Called on a session it grows the tree and returns the complete node it nominates, or None to leave the choice to
    the selection. `BudgetExhausted` passes through it: every search is anytime. It may say what it cannot do without
    (`needs`, see `search.needs`).
    """

    async def __call__(self, s: Session) -> Node | None: ...


@runtime_checkable
class Nominates(Protocol):
    """A search with its own idea of the best answer in an unfinished tree; asked when its budget ends."""

    def nominate(self, s: Session) -> Node | None: ...


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        answer: the node chosen, or None if there is no answer.
        tree: everything grown.
        spent: by this session's budget.
        stopped: "done", or the kind of limit that ended it.
        wall: seconds since the session began.
        candidates: answers the choice was among, each counted as often as it was drawn.
    """

    answer: Node | None
    tree: Tree
    spent: Cost
    stopped: str
    wall: float
    candidates: int


async def run(
    search: Search, session: Session, select: Selector | None = None, grader: Grader | None = None
) -> Outcome:
    """Runs `search`; when it nominates no node, `select` chooses among the answers of the tree.

    Raises ConfigError before anything is spent if what the search needs is missing. The selection scores what it needs
    and the budget allows. `select` is `Best()` if not given; without a `grader`
    answers are equal when their texts are.
    """
    select, grader = select or Best(), grader or SameText()
    check(search, session.policy, session.verifier, session.roles)
    answer, stopped = None, "done"
    try:
        answer = await search(session)
    except BudgetExhausted as limit:
        stopped = limit.kind
        if isinstance(search, Nominates):
            answer = search.nominate(session)
    answers = session.tree.answers() or (session.tree.answers(truncated=True) if select.truncated else [])
    if answer is None and answers:
        try:
            if select.needs_scores:
                await session.score(answers)
        except BudgetExhausted as limit:
            stopped = limit.kind if stopped == "done" else stopped
        answer = await select(answers, grader)
    session.finish(stopped, answer)
    candidates = sum(node.times for node in answers)
    return Outcome(answer, session.tree, session.budget.spent, stopped, session.seconds, candidates)
