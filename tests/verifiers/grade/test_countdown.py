"""Exactly the given numbers, exactly the target; any valid expression."""

from fractions import Fraction
from types import SimpleNamespace

import pytest

from verifiers.grade import arithmetic
from verifiers.grade.countdown import check, check_text, checker, classes, grade, read_question

NUMBERS = (4, 9, 10, 13)


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("(13-9)*(10-4)", NUMBERS),
        ("(10-4)(13-9)", NUMBERS),
        (r"\left(13-9\right)\times\left(10-4\right) = 24", NUMBERS),
        ("(4-10)*(9-13)", NUMBERS),
        ("8/(3-8/3)", (3, 3, 8, 8)),
        (r"\frac{8}{3-\frac{8}{3}}", (3, 3, 8, 8)),
        ("5*(5-1/5)", (1, 5, 5, 5)),
        ("6*6-6-6", (6, 6, 6, 6)),
        ("-(1-5)*6", (1, 5, 6)),
        (r"\text{(13-9)*(10-4)}", NUMBERS),
    ],
)
def test_right(answer, numbers):
    result = check(answer, numbers, 24)
    assert result.right and result.value == 24 and result.reason == "" and bool(result)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("13+9+10-4", "makes 28, not 24"),
        ("(13-9)*6", "uses 6"),
        ("(13-9)*(10-4)*1", "uses 1"),
        ("4*9-10", "does not use 13"),
        ("(13-9)*(10-4)-4+4", "uses 4"),
        ("24", "uses 24"),
        ("4/(9-9)+10+13", "no valid expression: division by zero"),
        ("(13-9)*(10-4", "no valid expression"),
        ("13^9", "no valid expression"),
        ("139-10*4", "uses 139"),
        ("1=(13-9)*(10-4)", "no valid expression: an equation"),
        ("1=2=3", "no valid expression: more than one ="),
        ("no solution", "no valid expression"),
        ("9" * 1000, "no valid expression: longer"),
        ("9**9**9**9", "no valid expression"),
    ],
)
def test_wrong(answer, reason):
    result = check(answer, NUMBERS, 24)
    assert not result.right and result.reason.startswith(reason)


def test_a_number_may_be_used_as_often_as_it_is_given():
    assert check("4*4+4+4", (4, 4, 4, 4), 24) and not check("4*4+4+4", (4, 4, 4, 5), 24)
    assert not check("4*6", (4, 4, 6), 24)


def test_whole_completions():
    steps = "13-9=4 (left: 4 4 10)\n\n10-4=6 (left: 4 6)\n\n4*6=24 (left: 24)\n\n"
    assert check_text(steps + r"\boxed{(13-9)*(10-4)}", NUMBERS, 24)
    assert check_text(steps + "Answer: (13 - 9) * (10 - 4) = 24", NUMBERS, 24)
    assert check_text(steps, NUMBERS, 24).reason == "no answer in the text"
    assert not check_text(r"\boxed{(13-9)*(10-4)} or \boxed{1}", NUMBERS, 24)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (r"\boxed{(13-9)*(10-4)}", "right"),
        (r"\boxed{4*9-13+10}", "wrong"),
        (r"\boxed{none}", "unparsable"),
        ("", "unparsable"),
    ],
)
def test_grades(text, verdict):
    assert grade(text, NUMBERS, 24).verdict == verdict


def test_votes_compare_the_work_and_never_look_at_the_target():
    texts = [
        r"\boxed{(13-9)*(10-4)}",
        r"\boxed{(10-4)*(13-9)=24}",
        r"\boxed{3*8}",
        "",
        r"\boxed{4*6}",
        r"\boxed{8*3}",
        r"\boxed{x}",
    ]
    assert classes(texts) == [0, 0, 1, None, 2, 1, None]


@pytest.mark.parametrize(
    ("question", "puzzle"),
    [
        ("Make 24 from 4 9 10 13.", (NUMBERS, 24)),
        ("make 24 from 4, 9, 10, 13", (NUMBERS, 24)),
        ("Make 7 from 3.", ((3,), 7)),
        ("Make 24.", None),
        ("Compute 1+2.", None),
    ],
)
def test_questions(question, puzzle):
    assert read_question(question) == puzzle


def test_checkers_are_made_from_fields_or_from_the_question():
    by_fields = checker(SimpleNamespace(question="Solve it!", fields={"numbers": [4, 9, 10, 13], "target": 24}))
    by_question = checker(SimpleNamespace(question="Make 24 from 4 9 10 13.", fields={}))
    for check_item in (by_fields, by_question):
        assert check_item is not None
        assert check_item(r"\boxed{(13-9)*(10-4)}") is True and check_item(r"\boxed{24}") is False
    assert checker(SimpleNamespace(question="Compute 1+2.", fields={})) is None


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("Compute 24+(34*6-18).", 210),
        ("What is 7/2?", Fraction(7, 2)),
        ("Compute 1/0.", None),
        ("Make 24 from 1 2.", None),
    ],
)
def test_arithmetic_questions(question, value):
    expression = arithmetic.read_question(question)
    assert (expression.value if expression else None) == value


@pytest.mark.parametrize(
    ("text", "gold", "verdict"),
    [
        (r"\boxed{210}", 210, "right"),
        (r"\boxed{210}", "210", "right"),
        (r"\boxed{0210.0}", 210, "right"),
        (r"\boxed{211}", 210, "wrong"),
        (r"\boxed{-7/2}", Fraction(-7, 2), "right"),
        (r"\boxed{-3.5}", Fraction(-7, 2), "right"),
        (r"\boxed{\frac{-7}{2}}", "-7/2", "right"),
        (r"\boxed{0.333333}", Fraction(1, 3), "wrong"),
        (r"\boxed{5*42}", 210, "unparsable"),
        (r"\boxed{21000%}", 210, "unparsable"),
        ("34*6=204, 24+(204-18)", 210, "unparsable"),
        ("", 210, "unparsable"),
    ],
)
def test_arithmetic_answers(text, gold, verdict):
    assert arithmetic.grade(text, gold).verdict == verdict


def test_a_gold_answer_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="gold"):
        arithmetic.grade(r"\boxed{1}", "x")


def test_arithmetic_votes_go_by_value():
    assert arithmetic.classes([r"\boxed{1/2}", r"\boxed{3}", r"\boxed{0.5}", "", r"\boxed{x}"]) == [0, 1, 0, None, None]
