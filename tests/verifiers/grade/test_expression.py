"""The parser agrees with Python's on what both read; the canonical form knows what agrees and what does not."""

import random
from fractions import Fraction as F

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from verifiers.grade.expression import LONGEST, ExpressionError, canonical, parse

Tree = int | tuple[str, "Tree", "Tree"]

trees = st.recursive(st.integers(0, 99), lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner), max_leaves=9)


def full(tree: Tree) -> str:
    """Every operation in brackets."""
    return str(tree) if isinstance(tree, int) else f"({full(tree[1])}{tree[0]}{full(tree[2])})"


def latex(tree: Tree) -> str:
    if isinstance(tree, int):
        return str(tree)
    op, left, right = tree[0], latex(tree[1]), latex(tree[2])
    if op == "/":
        return rf"\frac{{{left}}}{{{right}}}"
    sign = r"\times" if op == "*" else op
    return rf"\left({left} {sign} {right}\right)"


def value(tree: Tree) -> F | None:
    if isinstance(tree, int):
        return F(tree)
    a, b = value(tree[1]), value(tree[2])
    if a is None or b is None or (tree[0] == "/" and b == 0):
        return None
    return {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[tree[0]]()


def leaves(tree: Tree) -> list[int]:
    return [tree] if isinstance(tree, int) else leaves(tree[1]) + leaves(tree[2])


@given(trees)
def test_values_numbers_and_operations(tree):
    expected = value(tree)
    for text in (full(tree), latex(tree)):
        if expected is None:
            with pytest.raises(ExpressionError, match="zero"):
                parse(text)
        else:
            expression = parse(text)
            assert expression.value == expected and list(expression.numbers()) == leaves(tree)
            assert expression.operations() == len(leaves(tree)) - 1


@given(st.text("0123456789+-*/() ", max_size=12))
def test_it_reads_what_python_reads_and_with_the_same_value(text):
    try:
        ours = parse(text).value
    except ExpressionError:
        return
    plain = text.strip()
    if "(" not in plain:  # a product without its sign is ours alone
        numbers = "".join(f"F({token})" if token.isdigit() else token for token in _tokens(plain))
        assert ours == eval(numbers, {"F": lambda n: F(n)})


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    for char in text:
        if char.isdigit() and tokens and tokens[-1].isdigit():
            tokens[-1] += char
        else:
            tokens.append(char)
    return [str(int(token)) if token.isdigit() else token for token in tokens]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("8/(3-8/3)", F(24)),
        ("2+3*4", F(14)),
        ("10-4-3", F(3)),
        ("24/4/2", F(3)),
        ("-3+27", F(24)),
        ("2--3", F(5)),
        ("3*-2", F(-6)),
        ("-(1+2)*3", F(-9)),
        ("(1+2)(3+4)", F(21)),
        ("2(3+4)", F(14)),
        (r"5 \times (5 - 1 \div 5)", F(24)),
        (r"5 \cdot (5 - \frac15)", F(24)),
        ("5 \u00d7 (5 \u2212 1 \u00f7 5)", F(24)),
        (r"$\dfrac{8}{3-\dfrac{8}{3}}$", F(24)),
        ("[1+2]*3", F(9)),
        ("{1+2}*3", F(9)),
    ],
)
def test_spellings(text, result):
    assert parse(text).value == result


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "()",
        "1+",
        "*3",
        "(1+2",
        "1+2)",
        "1 2",
        "2^3",
        "2**3",
        "a+1",
        "1.5",
        "1,5",
        "__import__('os')",
        "1/0",
        "1/(2-2)",
        r"\frac{1}",
        r"\frac",
        r"\sqrt{4}",
        "1==1",
        "9" * 16,
        "(" * 80 + "1" + ")" * 80,
        "-" * 80 + "1",
        "1+" * LONGEST + "1",
        "2 3(4)",
        "\u0663",
    ],
)
def test_what_is_refused(text):
    with pytest.raises(ExpressionError):
        parse(text)


def shuffled(tree: Tree, rng: random.Random) -> str:
    """The same expression in another order, with other brackets, written with other signs."""
    if isinstance(tree, int):
        return str(tree)
    op, left, right = tree
    one, two = shuffled(left, rng), shuffled(right, rng)
    swap = rng.random() < 0.5
    if op == "+":
        return f"({two}+{one})" if swap else f"({one}-(-{two}))"
    if op == "*":
        return f"({two}*{one})" if swap else f"((-{one})*(-{two}))"
    if op == "-":
        return f"(-{two}+{one})" if swap else f"(-({two}-{one}))"
    return f"(({one})/{two})" if swap else f"((-{one})/(-{two}))"


@given(trees, st.integers(0, 10**6))
def test_canonical_forms_know_no_order_brackets_or_idle_signs(tree, seed):
    assume(value(tree) is not None)
    text = f"({shuffled(tree, random.Random(seed))})"
    assume(len(text) <= LONGEST and text.count("(") < 50)
    assert canonical(parse(text)) == canonical(parse(full(tree)))


@given(trees)
def test_a_canonical_form_is_an_expression_with_the_same_value_and_form(tree):
    assume(value(tree) is not None)
    expression = parse(full(tree))
    again = parse(canonical(expression))
    assert again.value == expression.value and canonical(again) == canonical(expression)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("3*8", "4*6"),
        ("(1+2)*3", "1+2*3"),
        ("8/4", "4/8"),
        ("5-3", "3-5"),
        ("2*(3+4)", "2*3+2*4"),
        ("6/2", "6-2"),
        ("1*5", "5"),
    ],
)
def test_canonical_forms_differ_where_the_work_differs(one, two):
    assert canonical(parse(one)) != canonical(parse(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("(13-9)*(10-4)", "(4-10)*(9-13)"),
        ("6*8/2", "6*(8/2)"),
        ("6/(2/8)", "6*8/2"),
        ("1-(2-3)", "1-2+3"),
        ("a-b", "-b+a"),
    ],
)
def test_canonical_forms_agree_where_the_work_agrees(one, two):
    one, two = (text.replace("a", "7").replace("b", "5") for text in (one, two))
    assert canonical(parse(one)) == canonical(parse(two))
