"""Complete answers get the checker's verdict, everything else the inner verifier's, in order."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from search.errors import VerifierError
from search.ports import Binds, Describes, Verifier
from search.types import Cost, Finish, Prefix, Segment, Verdict
from verifiers.checked import Checked

PUZZLE = SimpleNamespace(
    id="p", question="Make 24 from 4 9 10 13.", answer=None, fields={"numbers": (4, 9, 10, 13), "target": 24}
)
WORDS = SimpleNamespace(id="w", question="How many?", answer="7", fields={})
RIGHT, WRONG = r"\boxed{(13-9)*(10-4)}", r"\boxed{13+9+10-4}"


@dataclass
class Half:
    """Gives every prefix one half and remembers what it was asked."""

    asked: list[str] = field(default_factory=list)
    lose: int = 0
    fingerprint: str = "half"

    async def score(self, prefixes):
        self.asked += [prefix.text for prefix in prefixes]
        return [Verdict(0.5, cost=Cost(passes=1, read=3)) for _ in prefixes][self.lose :]


def prefix(text: str, finish: Finish = Finish.END) -> Prefix:
    return Prefix(Segment((), "?")) + Segment((), text, finish=finish)


def score(verifier: Verifier, *prefixes: Prefix) -> list[Verdict]:
    return list(asyncio.run(verifier.score(prefixes)))


def test_complete_answers_are_checked_and_all_others_left_to_the_inner_verifier():
    inner = Half()
    bound = Checked(inner).bind(PUZZLE)
    empty = prefix(RIGHT, Finish.STEP) + Segment((), "", finish=Finish.EMPTY)
    asked = [
        prefix(RIGHT),
        prefix("13-9=4", Finish.STEP),
        prefix(WRONG),
        prefix(RIGHT, Finish.LENGTH),
        prefix("none"),
        empty,
        prefix(RIGHT, Finish.STEP),
        Prefix(Segment((), "?")),
    ]
    assert [verdict.value for verdict in score(bound, *asked)] == [1, 0.5, 0, 0.5, 0, 1, 0.5, 0.5]
    assert inner.asked == ["13-9=4", RIGHT, RIGHT, ""]  # what is no complete answer, in order


def test_every_verdict_counts_one_pass_and_checks_read_no_token():
    verdicts = score(Checked(Half()).bind(PUZZLE), prefix(RIGHT), prefix("13-9=4", Finish.STEP))
    assert [verdict.cost for verdict in verdicts] == [Cost(passes=1), Cost(passes=1, read=3)]


def test_items_without_a_checker_are_left_to_the_inner_verifier():
    inner = Half()
    assert [verdict.value for verdict in score(Checked(inner).bind(WORDS), prefix("7"), prefix("8"))] == [0.5, 0.5]
    assert inner.asked == ["7", "8"]


def test_the_reference_answer_is_never_looked_at():
    item = SimpleNamespace(question=PUZZLE.question, fields=PUZZLE.fields)  # it has none
    assert score(Checked(Half()).bind(item), prefix(RIGHT))[0].value == 1


def test_the_inner_verifier_is_not_asked_for_nothing():
    inner = Half()
    assert score(Checked(inner).bind(PUZZLE)) == [] and score(Checked(inner).bind(PUZZLE), prefix(RIGHT))[0].value == 1
    assert inner.asked == []


def test_an_inner_verifier_that_needs_the_item_gets_it():
    class Needs:
        fingerprint = "needs"

        def bind(self, item):
            return Half([item.id])

    inner = Checked(Needs()).bind(PUZZLE).verifier
    assert inner.asked == ["p"]


def test_lost_verdicts_are_an_error():
    with pytest.raises(VerifierError, match="0 verdicts"):
        score(Checked(Half(lose=1)).bind(PUZZLE), prefix("13-9=4", Finish.STEP))


def test_own_checkers_come_in_order_and_the_first_that_knows_the_item_counts():
    def never(item):
        return None

    def short(item):
        return lambda text: len(text) < 3

    bound = Checked(Half(), checkers=(never, short)).bind(WORDS)
    assert [verdict.value for verdict in score(bound, prefix("7"), prefix("seven"))] == [1, 0]


def test_it_is_described_and_entered_with_what_it_wraps():
    class Entered(Half):
        inside = False

        async def __aenter__(self):
            self.inside = True

        async def __aexit__(self, *_):
            self.inside = False

    inner = Entered()

    async def scene() -> None:
        async with Checked(inner) as checked:
            assert inner.inside
            assert isinstance(checked, Binds) and isinstance(checked, Describes)
            assert checked.fingerprint == checked.bind(PUZZLE).fingerprint == "checked:half"
        assert not inner.inside

    asyncio.run(scene())
