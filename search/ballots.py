"""Votes of a judge between texts: the question put to it, and what counts as an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from search.errors import ConfigError
from search.session import Session

BALLOT = """{question}

Here are {count} ways to go about it.

{choices}

Which of them is the most promising? Say why in a few words. End with a line of its own that reads:
The best choice is N
where N is one number from 1 to {count}."""

_VOTE = re.compile(r"the best choice is (\d+)\.?", re.IGNORECASE)


class Votes(NamedTuple):
    """What a poll gave."""

    counts: list[int]  # votes per choice, in order
    invalid: int  # answers that name no choice

    def ranked(self) -> list[int]:
        """Indices of the choices, most votes first; of equals the first."""
        return sorted(range(len(self.counts)), key=lambda i: -self.counts[i])


def check_ballot(field: str, ballot: str) -> None:
    """Raises ConfigError for a template that does not show the choices, or has places for anything unknown."""
    try:
        shown = ballot.format(question="q", count=2, choices="[[both]]")
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            field, ballot, f"it is no template of {{question}}, {{count}}, {{choices}} ({error})"
        ) from None
    if "[[both]]" not in shown:
        raise ConfigError(field, ballot, "the template shows no {choices}")


def vote_in(text: str, choices: int) -> int | None:
    """The index of the choice voted for, or None.

    Strict: the last line that is not blank has to read "The best choice is N", N from 1 to `choices`, with or without a
    stop; nothing else is looked at and nothing repaired.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    match = _VOTE.fullmatch(lines[-1]) if lines else None
    number = int(match[1]) if match else 0
    return number - 1 if 1 <= number <= choices else None


async def poll(s: Session, choices: Sequence[str], n: int, *, by: str, ballot: str = BALLOT) -> Votes:
    """`n` answers of the policy in the role `by` to a ballot over `choices`; invalid ones go into the root's notes."""
    listed = "\n\n".join(f"Choice {number}:\n{text.strip()}" for number, text in enumerate(choices, start=1))
    question = ballot.format(question=s.root.prefix.question, count=len(choices), choices=listed)
    answers = await s.ask([{"role": "user", "content": question}], n, by=by)
    votes = [vote_in(answer.text, len(choices)) for answer in answers]
    notes, invalid = s.root.notes, votes.count(None)
    s.note(s.root, votes=notes.get("votes", 0) + len(votes), invalid_votes=notes.get("invalid_votes", 0) + invalid)
    return Votes([votes.count(i) for i in range(len(choices))], invalid)
