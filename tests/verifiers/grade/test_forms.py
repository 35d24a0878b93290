"""Answers read without symbolic algebra, and how they compare."""

from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifiers.grade.forms import Number, clock, letters, number, quick
from verifiers.grade.tidy import tidy
from verifiers.grade.units import unit_of, without_unit


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("12", F(12)),
        ("073", F(73)),
        ("-0", F(0)),
        ("1,234,567", F(1234567)),
        (r"12{,}345", F(12345)),
        (r"12\,345", F(12345)),
        (r"12,\!345", F(12345)),
        ("12 345", F(12345)),
        ("-3/4", F(-3, 4)),
        (r"\frac{3}{4}", F(3, 4)),
        (r"-\dfrac34", F(-3, 4)),
        ("2.50", F(5, 2)),
        (".5", F(1, 2)),
        ("3.", F(3)),
        ("2 3/4", F(11, 4)),
        (r"2\frac{3}{4}", F(11, 4)),
        (r"-2 \tfrac34", F(-11, 4)),
        ("4.2e-3", F(42, 10000)),
        (r"4.2 \times 10^{-3}", F(42, 10000)),
        (r"6 \cdot 10^5", F(600000)),
        ("x = 5", F(5)),
        (r"\theta = 5", F(5)),
        ("$18", F(18)),
        (r"-\$3.50", F(-7, 2)),
        (r"\textbf{(019)}", F(19)),
        ("\u22127", F(-7)),
        ("\\15", F(15)),
        ("185\\", F(185)),
        ("$42$.", F(42)),
        (r"\(42\)", F(42)),
    ],
)
def test_numbers(written, value):
    read = number(tidy(written))
    assert read is not None and read.value == value and not read.unit and not read.percent


@pytest.mark.parametrize(
    ("written", "value", "unit"),
    [
        ("7 hours", 7, "hour"),
        (r"15\text{ cm}^2", 15, "cm ^2"),
        ("3 square feet", 3, "square feet"),
        ("60 km/h", 60, "km/h"),
        (r"9 \text{ m}", 9, "m"),
        (r"40^\circ", 40, "degree"),
        (r"40^{\circ}", 40, "degree"),
        ("18 dollars", 18, "dollar"),
    ],
)
def test_units(written, value, unit):
    assert number(tidy(written)) == Number(F(value), unit=unit)


@pytest.mark.parametrize("written", ["50%", r"50\%", "50 percent", r"50 \text{ percent}"])
def test_percent(written):
    assert number(tidy(written)) == Number(F(50), percent=True)


@pytest.mark.parametrize(
    "written",
    [
        "5x", "2ab", "3t", "2 pi", r"2\pi", "3i", "10 million", "10!", "2^{10}", "1,2", "1,23", "0,5", r"\frac{1}{0}",
        r"2\frac{4}{3}", "1/2/3", "5 and 6", "e", "x", "", "1e5000", "9" * 500, "12 a.m.", r"\sqrt{2}", "1 2",
        "4 mod 5",
    ],
)  # fmt: skip
def test_what_is_no_plain_number(written):
    assert number(tidy(written)) is None


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_every_fraction_is_read_exactly(top, bottom):
    for written in (f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}"):
        assert number(tidy(written)) == Number(F(top, bottom))
    assert number(tidy(f"{top:,}")) == number(tidy(str(top))) == Number(F(top))


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("10:30", (630, "")),
        ("10:30 a.m.", (630, "a")),
        (r"10\!:\!30 \text{ PM}", (630, "p")),
        ("3 p.m.", (180, "p")),
        ("3:05pm", (185, "p")),
        ("14:30", (150, "p")),
        ("12:00 p.m.", (0, "p")),
        ("25:00", None),
        ("10:75", None),
        ("14 a.m.", None),
        ("7", None),
        ("1:2", None),
    ],
)
def test_clock(written, time):
    assert clock(tidy(written)) == time


@pytest.mark.parametrize(
    ("written", "choices"),
    [("C", "C"), ("(C)", "C"), (r"\text{(C)}", "C"), (r"\text{B, E}", "BE"), ("(B), (E)", "BE"), ("E and B", "BE")],
)
def test_letters(written, choices):
    assert letters(tidy(written)) == frozenset(choices)


@pytest.mark.parametrize("written", ["c", "AB", "K", "A+B", "5"])
def test_what_is_no_letter(written):
    assert letters(tidy(written)) is None


SAME = [
    ("073", "73"), ("1,000", "1000"), ("2.5", "5/2"), ("2.5", "2 1/2"), ("7", "7 hours"), ("7 hours", "420 minutes"),
    ("3 m", "300 cm"), ("25%", "25"), ("25%", "0.25"), ("0.25", "25%"), ("1/3", "0.333333"),
    ("0.0042", r"4.2 \cdot 10^{-3}"),
    ("3:05 p.m.", "3:05"), ("3:05 p.m.", "15:05"),
    (r"\text{B,E}", "E, B"), (r"\text{Friday}", "friday"), ("1.25", "1,25"),
    ("x=4", "4"), ("4", "x = 4"),
    ("18", r"\$18"), (r"\frac{1}{999}", "0.001001001"), ("no solution", r"\text{No solution}"),
]  # fmt: skip
DIFFERENT = [
    ("3 m", "3 km"), ("3 hours", "3 kg"), ("1e-7", "2e-7"), ("0", "0.0000001"), ("1/3", "0.33"), ("1/3", "1/4"),
    ("25%", "2.5"),
    ("0.0001", "0.0002"), ("3:05 p.m.", "3:05 a.m."), ("3:05 p.m.", "4:05"), (r"\text{B,E}", "B"), ("B", "E"),
    ("1000000", "1000001"),
    ("1 1/2", "11/2"), ("-4", "4"), ("1,000", "1.000"),
]  # fmt: skip
UNDECIDED = [
    ("2", "2ab"),
    ("2t", "2s"),
    ("3:10", "6:20"),
    ("x=1", "y=1"),
    ("1,25", "25,1"),
    ("10", "10 million"),
    ("5", "2+3"),
]


@pytest.mark.parametrize(("gold", "other"), SAME)
def test_same(gold, other):
    assert quick(tidy(gold), tidy(other)) is True


@pytest.mark.parametrize(("gold", "other"), DIFFERENT)
def test_different(gold, other):
    assert quick(tidy(gold), tidy(other)) is False and quick(tidy(other), tidy(gold)) is False


@pytest.mark.parametrize(("gold", "other"), UNDECIDED)
def test_left_to_symbolic_algebra(gold, other):
    assert quick(tidy(gold), tidy(other)) is None


def test_precision():
    assert quick("0.33", "0.331", precision=2) is True and quick("0.33", "0.331", precision=4) is False


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_survived_and_equals_itself(one, two):
    one, two = tidy(one), tidy(two)
    assert quick(one, one) is True
    assert quick(one, two) in (True, False, None)


@given(st.text(max_size=60))
def test_tidy_is_settled_after_a_few_rounds(text):
    for _ in range(4):
        text = tidy(text)
    assert tidy(text) == text


@pytest.mark.parametrize(
    ("formula", "plain"),
    [
        (r"2\pi \text{ cm}^2", r"2\pi"),
        (r"6\sqrt{2}\text{ feet}", r"6\sqrt{2}"),
        (r"6\sqrt{2} feet", r"6\sqrt{2}"),
        (r"n \text{ even}", r"n \text{ even}"),
        (r"\text{odd}", r"\text{odd}"),
        ("2ab", "2ab"),
        ("x^2 t", "x^2 t"),
        (r"3 \text{ and } 4", r"3 \text{ and } 4"),
    ],
)
def test_units_behind_formulas(formula, plain):
    assert without_unit(formula) == plain


@pytest.mark.parametrize(
    "rest", ["x", "ab", " ab", "xyz", r"\pi", " million", "!", "+1", " sin", " or more", " if n > 1"]
)
def test_what_is_no_unit(rest):
    assert unit_of(rest) is None
