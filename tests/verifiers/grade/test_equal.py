"""Mathematical equality: what the repairs add, and what must not become equal by them."""

import pytest

from verifiers.grade.equal import judge, judge_texts
from verifiers.grade.families import same_families
from verifiers.grade.repairs import brackets, elements, split
from verifiers.grade.tidy import tidy


def verdict(gold: str, other: str, **options) -> str:
    return judge(tidy(gold), tidy(other), options)


EQUAL = {
    "the library's own": [
        ("x^2+2x+1", "(x+1)^2"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
        ("(1, 2]", "(1,2]"),
        (r"\{3, 1\}", r"\{1, 3\}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"),
        ("x=3", "3"),
        ("y = 2x + 1", "2x - y + 1 = 0"),
    ],
    "percent, which one version of the grammar cannot read by itself": [
        (r"x = 8\%", r"8\%"),
        (r"\{8\%, 9\%\}", r"\{9\%, 8\%\}"),
    ],
    "imaginary unit": [("(1+i)^2", "2i"), ("i(3-i)", "1+3i"), (r"\frac{1}{i}", "-i"), ("2+3i", "3i+2")],
    "degrees": [(r"\sin x", r"\cos(90^\circ - x)"), (r"\tan 45^\circ + x", "1 + x")],
    "tuple of equations": [("a=1, b=2", "(a,b)=(1,2)"), ("(u, v) = (3, 4)", "u = 3, v = 4")],
    "sets side by side": [("1,2,3,4", r"\{1,2\},\{3,4\}")],
    "families": [
        (r"\frac{\pi}{4}+k\pi, -\frac{\pi}{4}+k\pi", r"\frac{\pi}{4}+\frac{k\pi}{2}"),
        (r"x = \frac{\pi}{3} + 2\pi n, x = -\frac{\pi}{3} + 2 \pi n", r"\pm\frac{\pi}{3}+2\pi k, k \in \mathbb{Z}"),
        (r"\pi n", r"\pi + k\pi"),
    ],
    "interval against inequality": [("[2, 5)", r"2 \le x < 5"), (r"2 \le x < 5", "[2,5)")],
    "element by element": [("(7, 2.5)", "(7 hours, 2 1/2)"), (r"(4, \text{Friday})", r"(4, \text{friday})")],
    "doubled backslashes": [
        (r"\frac{1}{3}x", r"\\frac{1}{3}x"),
        (r"\begin{matrix}1\\x\end{matrix}", r"\\begin{matrix}1\\\\x\\end{matrix}"),
    ],
    "units behind a formula": [(r"2\pi", r"2\pi \text{ cm}"), (r"6\sqrt{2}", r"6\sqrt{2} feet")],
    "spacing and delimiters": [(r"$\left(3, \frac{\pi}{2}\right)$", r"\( (3,\, \dfrac{\pi}{2}) \)")],
    "upright constants": [(r"1-\frac{1}{\mathrm{e}}", r"1-\frac{1}{e}")],
}  # fmt: skip
UNEQUAL = [
    ("2", "2ab"), ("3", "3t"), ("2t", "2s"), ("x^2", "x^2 t"), ("5", "5m"),  # letters are no units
    ("(1+i)^2", "-2i"), ("i", "-i"), ("1+2i", "1-2i"), (r"\sum_{i=1}^{3} i", r"\sum_{i=1}^{4} i"),
    (r"\sin x", r"\sin(90^\circ - x)"), (r"\sin x", r"\cos(90^\circ + x)"),
    ("a=1, b=2", "(a,b)=(2,1)"), ("a=1, b=2", "(a,c)=(1,2)"),
    ("1,2,3", r"\{1,2\},\{3,4\}"), (r"\{1,2\},\{3\}", r"\{1\},\{2,3\}"),
    (r"\frac{\pi}{4}+k\pi", r"\frac{\pi}{4}+2k\pi"), (r"\frac{\pi}{4}+k\pi", r"\frac{\pi}{3}+k\pi"), ("2n+1", "2n-1"),
    ("[2, 5)", r"2 \le x \le 5"), ("(1, 2)", "[1, 2]"), ("(1, 2)", "(2, 1)"), ("(7, 2.5)", "(7 hours, 3 1/2)"),
    (r"2\pi", r"4\pi \text{ cm}"), ("1-\\frac{1}{e}", "1+\\frac{1}{e}"), (r"\text{even}", r"\text{odd}"),
    (r"n \text{ even}", r"n \text{ odd}"), ("x=1", "y=1"), (r"12:00", "1:00"), (r"\pm 3", "3"), ("10", "10 million"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "other"), [pair for pairs in EQUAL.values() for pair in pairs])
def test_equal(gold, other):
    assert verdict(gold, other) == "right"


@pytest.mark.parametrize(("gold", "other"), UNEQUAL)
def test_unequal(gold, other):
    assert verdict(gold, other) == "wrong"


@pytest.mark.parametrize("other", ["", "?", r"\frac{", "((", r"\undefinedcommand{"])
def test_what_cannot_be_read_is_not_wrong_but_unparsable(other):
    assert verdict("x+1", other) == "unparsable"


def test_options():
    assert verdict("f(x)", "f(y)") == "wrong" and verdict("f(x)", "f(y)", strict=False) == "right"
    assert verdict("(0.123456, 1)", "(0.1235, 1)") == "wrong"
    assert verdict("(0.123456, 1)", "(0.1235, 1)", precision=3) == "right"
    assert verdict("[2, 5)", r"2 \le x < 5", relations=False) == "wrong"
    assert verdict("x = 3, y = 4", "3, 4") == "right"


def test_symmetric_is_right_in_either_direction():
    one, two = "2", "x + 1 = 2"
    assert {verdict(one, two), verdict(two, one)} == {"right", "wrong"}
    assert verdict(one, two, symmetric=True) == verdict(two, one, symmetric=True) == "right"


def test_whole_texts_by_the_library():
    assert judge_texts("$9$", r"Answer \( 9 \)", {"kinds": ["latex"]}) == "right"
    assert judge_texts("$9$", "the number is 9", {"kinds": ["latex"]}) == "unparsable"
    assert judge_texts("9", "the number is 9", {"kinds": ["expr"]}) == "right"
    assert judge_texts("9", "the number is 8", {"kinds": ["expr"]}) == "wrong"


def test_families_refuse_what_they_are_not_for():
    read = {"a": None}.get
    assert not same_families("a", "a", read)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1, (2, 3], 4", ["1", "(2, 3]", "4"]),
        (r"\{1, 2\}; 3", [r"\{1, 2\}", "3"]),
        ("", [""]),
        (r"\frac{1,2}{3}", [r"\frac{1,2}{3}"]),
    ],
)
def test_split(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("(1, 2)", ("(", "1, 2", ")")),
        ("(1, 2]", ("(", "1, 2", "]")),
        (r"\{1, 2\}", (r"\{", "1, 2", r"\}")),
        ("(1,2),(3,4)", ("", "(1,2),(3,4)", "")),
        ("x", ("", "x", "")),
        ("(", ("", "(", "")),
    ],
)
def test_brackets(text, result):
    assert brackets(text) == result


def test_elements_need_one_form_and_length():
    assert elements("(1, 2)", "(3, 4)") == [("1", "3"), ("2", "4")]
    assert elements("(1, 2)", "[3, 4]") is None and elements("1, 2", "1, 2, 3") is None and elements("1", "2") is None
