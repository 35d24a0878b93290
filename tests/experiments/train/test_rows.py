"""Labels are exact, the fast encoder is the tokenizer, and branches do not see each other."""

import random
from fractions import Fraction

import pytest

from experiments.problems import arithmetic, countdown
from experiments.train import judge, traces
from experiments.train.rows import BAD, GOOD, SEPARATOR, collate, encode
from experiments.train.samples import problem, record
from experiments.train.tokenizer import END, NUMBERS, VOCABULARY, build


@pytest.fixture(scope="module")
def tokenizer():
    return build()


def ends(row):
    """The labels at the ends of lines."""
    separator = encode(SEPARATOR)[0]
    return [label == GOOD for token, label in zip(row.tokens, row.label, strict=True) if token in (END, separator)]


def test_the_fast_encoder_is_the_tokenizer(tokenizer):
    rng = random.Random(0)
    for _ in range(100):
        puzzle, sum_ = next(countdown.training(rng)), next(arithmetic.training(rng))
        for text in (puzzle.question, sum_.question, *countdown.solve(puzzle, rng), *arithmetic.solve(sum_)):
            assert encode(text) == tokenizer.encode(text)
            assert tokenizer.decode(encode(text)) == text


@pytest.mark.parametrize("text", ["", "7", "07", "1234567", "naïve → 3.14\n\n\n", "<html> 2024-01-05"])
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_numbers_are_pairs_of_digits_from_the_right(tokenizer):
    assert [tokenizer.decode([i]) for i in tokenizer.encode("1204=5+99")] == ["12", "04", "=", "5", "+", "99"]
    assert len(tokenizer) <= VOCABULARY
    assert all(int(tokenizer.decode([i])) == n for i, n in NUMBERS.items())


def test_the_two_labellers_agree_on_made_traces(tokenizer):
    """`traces` labels while it writes, `judge` by reading: independent ways to the same labels."""
    rng = random.Random(7)
    compared = 0
    for _ in range(400):
        for p, row in (
            (sum_ := next(arithmetic.training(rng)), traces.arithmetic_trace(sum_, rng, 0.2)),
            (puzzle := next(countdown.training(rng)), traces.countdown_trace(puzzle, rng, 0.2)),
        ):
            if row.tokens[-1] != END:
                continue
            text = tokenizer.decode(row.tokens[:-1], skip_special_tokens=True).removeprefix(p.question)
            again = judge.judged(p, text, ended=True)
            assert again.tokens == row.tokens
            assert ends(again) == ends(row), text
            compared += 1
    assert compared > 500


def test_labels_of_arithmetic_follow_the_value():
    rng = random.Random(8)
    for _ in range(200):
        p = next(arithmetic.training(rng))
        lines = arithmetic.solve(p)
        assert judge.arithmetic_lines(p, lines) == [True] * len(lines)
        spoilt = [lines[0].replace("=", "=1"), *lines[1:]]
        assert judge.arithmetic_lines(p, spoilt) == [False] * len(lines)


def test_any_order_of_operations_is_right():
    p = arithmetic.Problem(arithmetic.Operation("+", arithmetic.Operation("*", 3, 4), arithmetic.Operation("-", 9, 2)))
    lines = ["9-2=7, 3*4+7", "3*4=12, 12+7", "12+7=19", "\\boxed{19}"]
    assert judge.arithmetic_lines(p, lines) == [True] * 4


def test_first_moves_are_labelled_by_reachability(tokenizer):
    puzzle = countdown.Puzzle((4, 9, 10, 13), 24)
    row = traces.first_moves(puzzle, random.Random(0), 99)
    good = {str(m) for m in countdown.good_moves((4, 9, 10, 13), 24)}
    for branch in range(1, max(row.branch) + 1):
        at = [i for i, b in enumerate(row.branch) if b == branch]
        said = tokenizer.decode([row.tokens[i] for i in at]).split(" (left")[0]
        assert (row.label[at[-1]] == GOOD) == (said in good)


def test_branches_see_the_trunk_and_themselves():
    row = traces.first_moves(countdown.Puzzle((4, 9, 10, 13), 24), random.Random(0), 3)
    batch = collate([row, row])
    for i, mine in enumerate(row.branch):
        seen = [j for j in range(len(row)) if batch.visible[0, 0, i, j]]
        assert seen == [j for j in range(i + 1) if row.branch[j] in (0, mine)]
        assert batch.position[0, i] == len(seen) - 1


def test_near_misses_miss():
    rng = random.Random(0)
    assert all(traces.near_miss(n, rng) != n for n in range(300))


def test_records_bring_problems_back():
    rng = random.Random(0)
    for p in (next(countdown.training(rng)), next(arithmetic.training(rng))):
        assert problem(record(p, "x", ended=True)).key == p.key


def test_a_misspelt_answer_that_is_right_after_all_is_good(tokenizer):
    rng = random.Random(1)
    for _ in range(2000):
        puzzle = next(countdown.training(rng, size=3))
        row = traces.countdown_trace(puzzle, rng, 0.0)
        text = tokenizer.decode(row.tokens[:-1], skip_special_tokens=True).removeprefix(puzzle.question)
        said = text.split(SEPARATOR)[-1].removeprefix("\\boxed{").removesuffix("}")
        if all(ends(row)[:-1]):
            try:
                value = eval("".join(f"Fraction({t})" if t.isdigit() else t for t in _words(said)))
            except (ZeroDivisionError, SyntaxError):
                value = None
            numbers = sorted(int(w) for w in _words(said) if w.isdigit())
            assert (row.label[-1] == BAD) == (value != puzzle.target or numbers != sorted(puzzle.numbers))


def _words(expression):
    return "".join(c if c.isdigit() else f" {c} " for c in expression).split()


assert Fraction  # used by the evaluated text above


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("34*6=205, 24+(205-18)", "05"),
        ("34*6=304, 24+(304-18)", "3"),
        ("34*6=204, 24+(204-18)", None),
        ("13-9=5 (left: 4 5 10)", "5"),
        ("7/2=3 (left: 3 4)", "3"),
        ("7/0=3 (left: 3 4)", None),
        ("nonsense", None),
    ],
)
def test_a_wrong_result_is_known_from_its_first_wrong_token(tokenizer, line, wrong):
    tokens = encode(line)
    at = judge.wrong_from(line)
    assert (tokenizer.decode([tokens[at]]) if at < len(tokens) else None) == wrong


def test_answer_lines_are_judged_by_the_exact_checker(tokenizer):
    rng, verdicts = random.Random(3), []
    for _ in range(60):
        puzzle = next(countdown.training(rng, size=4))
        row = traces.answer_lines(puzzle, rng, 6)
        assert not any(row.learn[i] for i in range(len(row)) if row.branch[i] == 0)
        for branch in range(1, max(row.branch) + 1):
            at = [i for i in range(len(row)) if row.branch[i] == branch]
            line = tokenizer.decode([row.tokens[i] for i in at[:-1]])
            right = judge.check_text(line, puzzle.numbers, puzzle.target).right
            assert row.tokens[at[-1]] == END
            assert (row.label[at[-1]] == GOOD) == right
            assert all(row.learn[i] == right for i in at[1:])
            verdicts.append(right)
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.5
