"""Votes: strict reading, honest counting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.ballots import BALLOT, Votes, check_ballot, poll, vote_in
from search.errors import ConfigError
from search.types import Cost, Finish, Reply, Segment


class Voters:
    """Answers with the texts given, in turn; keeps what it was asked."""

    def __init__(self, *texts):
        self.texts, self.asked = texts, []

    def prompt(self, messages):
        self.asked.append(messages)
        return Segment((1,), messages[-1]["content"])

    async def sample(self, requests):
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        texts = [self.texts[i % len(self.texts)] for i in range(len(request.seeds))]
        return Reply(tuple(Segment((7,), text, (-1.0,), Finish.END) for text in texts), Cost(generated=len(texts)))


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("The best choice is 2", 1),
        ("Because of the sum.\n\nThe best choice is 3.", 2),
        ("  the BEST choice is 1  \n\n", 0),
        ("The best choice is 4", None),  # of three
        ("The best choice is 0", None),
        ("The best choice is 2 or 3", None),
        ("The best choice is 2\nNo, wait.", None),
        ("I think the best choice is 2", None),
        ("2", None),
        ("The best choice is two", None),
        ("The best choice is -1", None),
        ("", None),
    ],
)
def test_a_vote_is_read_strictly(text, vote):
    assert vote_in(text, 3) == vote


@given(st.integers(1, 50), st.integers(1, 60), st.sampled_from(["", "The best choice is 1\n", "1 2 3", "\n\n so: "]))
def test_any_number_in_range_is_a_vote_whatever_was_said_before(choices, number, said):
    found = vote_in(f"{said}\nThe best choice is {number}", choices)
    assert found == (number - 1 if number <= choices else None)


def test_most_votes_first_and_of_equals_the_first():
    assert Votes([1, 3, 0, 3], 2).ranked() == [1, 3, 0, 2]


async def test_a_poll_counts_votes_and_what_was_none(session):
    judge = Voters("The best choice is 2", "no idea", "The best choice is 1", "The best choice is 2")
    s = session(roles={"judge": judge}, question="Which word?")
    assert await poll(s, ["abc", " cab "], 4, by="judge") == Votes([1, 2], 1)
    assert s.root.notes == {"votes": 4, "invalid_votes": 1}
    assert s.budget.spent.generated == 4 and len(s.tree) == 1
    content = judge.asked[0][0]["content"]
    assert "Which word?" in content and "Choice 1:\nabc" in content and "Choice 2:\ncab" in content
    assert "from 1 to 2" in content
    await poll(s, ["abc", "cab", "b"], 2, by="judge")
    assert s.root.notes == {"votes": 6, "invalid_votes": 2}


def test_a_ballot_has_to_show_the_choices():
    check_ballot("ballot", BALLOT)
    for wrong in ("Vote!", "{choices} {other}", "{choices", "{}"):
        with pytest.raises(ConfigError, match="ballot"):
            check_ballot("ballot", wrong)
