"""The answer is found where the text marks it, and nowhere else unless that is asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.grade.extract import extract


def found(text: str, **how) -> tuple[str, str] | None:
    result = extract(text, **how)
    return (result.text, result.how) if result else None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so $x=\boxed{7}$.", "7"),
        (r"\boxed{3} no, wait: \boxed{4}", "4"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x : x > 2 \right\}}", r"\left\{ x : x > 2 \right\}"),
        (r"the value is \fbox{12}", "12"),
        (r"\framebox{073}", "073"),
        (r"\framebox[2cm][c]{073}", "073"),
        (r"\boxed 5", "5"),
        (r"\boxed{12} and then \boxed{", "12"),  # cut short: the second holds nothing
        (r"\boxed{12} and then \boxed{3", "12"),
        (r"put it in \boxed{}: \boxed{8}. Use \boxed{} always.", "8"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"The answer is 4, so \boxed{5}", "5"),
    ],
)
def test_boxes(text, answer):
    assert found(text) == (answer, "boxed")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"$\boxed{1}$ and $\boxed{2}$", "1,2"),
        (r"$\boxed{1}$, $\boxed{2}$ or $\boxed{3}$", "1,2,3"),
        (r"$x=\boxed{1}$ and $y=\boxed{2}$", "1,2"),
        (r"\[\boxed{1}\quad\text{and}\quad\boxed{2}\]", "1,2"),
        (r"$\boxed{5}$, $\boxed{5}$", "5"),
        (r"\boxed{1} is what one might think, but it is \boxed{2}", "2"),
        ("\\boxed{1}\n\n\\boxed{2}", "2"),
    ],
)
def test_boxes_joined_by_and_or_commas_are_one_list_and_others_are_not(text, answer):
    assert found(text) == (answer, "boxed")


@pytest.mark.parametrize(
    ("text", "answer", "how"),
    [
        ("step\n#### 12", "12", "hashes"),
        ("#### 12\nmore\n####  -1,234 \n", "-1,234", "hashes"),
        ("The answer is 5.", "5", "stated"),
        ("Therefore the final answer is: $\\frac{3}{4}$. I hope it is correct.", r"\frac{3}{4}", "stated"),
        ("**Final Answer:** 3.5", "3.5", "stated"),
        ("**Final Answer:**\n\n$x=2$", "x=2", "stated"),
        ("Answer: (6-4)*12 = 24", "(6-4)*12 = 24", "stated"),
        ("The answer to the question is $18.", "$18", "stated"),
        ("the answer is 3. No: the answer is 4.", "4", "stated"),
        ("The answer is that the two of them have 17 apples in all.", "17", "stated"),
        ("The answer is 10:30 a.m.", "10:30 a.m.", "stated"),
    ],
)
def test_other_marks(text, answer, how):
    assert found(text) == (answer, how)


@pytest.mark.parametrize(
    "text", ["7", r"\frac{1}{2}", "10 weeks", "x = 5", r"$1$ and $2$", "Tuesday", "(1, 2]", r"\text{no solution}"]
)
def test_a_text_that_is_an_answer_is_the_answer(text):
    assert found(text) == (text, "whole")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("He has 3 of them, so she has 1,234 left", "1,234"),
        ("Thus the sum equals $x+1$ as wanted", "x+1"),
        ("First 3, then $x$ and so 4/5 remains of it", "4/5"),
        (r"They are \(x = 5\) and \(x = -2\).", "x = 5, x = -2"),
        ("It fell by -7.5 degrees or so", "-7.5"),
        ("We compute 12-7 at the end of it all", "-7"),
    ],
)
def test_the_last_resort_is_declared(text, answer):
    assert found(text) is None
    if answer != "-7":  # a subtraction is not a negative number
        assert found(text, last_resort=True) == (answer, "last")
    else:
        assert found(text, last_resort=True) == ("7", "last")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>\boxed{3}</think>It is \boxed{4}", "4"),
        (r"\boxed{3}</think>It is \boxed{4}", "4"),
        (r"<thinking>a</thinking><think>b \boxed{1}</think> so 5", None),
        (r"<think>\boxed{3}", None),
        (r"So then: <think>\boxed{3}</think>", "So then:"),
    ],
)
def test_thoughts_hold_no_answers(text, answer):
    result = extract(text)
    assert (result.text if result else None) == answer


@pytest.mark.parametrize("text", ["", "  \n ", "I do not know what to say about this one", r"\boxed{}", r"\boxed{"])
def test_no_answer(text):
    assert extract(text) is None


@given(st.text("ab{}\\$ 1", max_size=40))
def test_what_is_boxed_comes_back_as_it_was(inner):
    balanced = inner.replace("\\", "").replace("{", "").replace("}", "").strip()
    result = extract(f"so \\boxed{{{balanced}}}")
    assert (result.text if result and result.how == "boxed" else "") == balanced


@given(st.text(max_size=200))
def test_any_text_is_survived(text):
    for last_resort in (False, True):
        result = extract(text, last_resort=last_resort)
        assert result is None or result.text.strip()
