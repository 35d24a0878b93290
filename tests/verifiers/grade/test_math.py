"""The grader as its users meet it: grades, equality classes, the command line."""

import asyncio
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from search.errors import ConfigError
from verifiers.grade import Grade
from verifiers.grade.math import Comparison, MathGrader, gold_answer, grade_rows, main
from verifiers.grade.pool import Pool

ROOT = Path(__file__).resolve().parents[3]
ENDLESS = (r"[2^{\frac{1}{2^{1000}}}, \infty)", r"[1,+\infty)")


def grade(text: str, gold: str, pool: Pool, **settings) -> Grade:
    return asyncio.run(MathGrader(Comparison(**settings), pool=pool).grade(text, gold=gold))


@pytest.mark.parametrize(
    ("text", "gold", "verdict", "answer"),
    [
        (r"So it is \boxed{\frac{x+1}{2}}.", r"\frac{x}{2}+\frac12", "right", r"\frac{x+1}{2}"),
        (r"\framebox{073}", "73", "right", "073"),
        ("Thus\n#### 1,200", "1200", "right", "1,200"),
        ("1/2", r"We get $\boxed{0.5}$.", "right", "1/2"),
        (r"\boxed{x^2+1}", "x^2-1", "wrong", "x^2+1"),
        ("She has 3 apples and 4 pears, so 7 in all", "7", "right", "7"),
        ("I cannot tell, sorry about that one", "7", "unparsable", None),
        (r"\boxed{\frac{}", "7", "unparsable", None),
        (r"\boxed{((}", "x+1", "unparsable", "(("),
        ("7", "", "unparsable", "7"),
        (r"\boxed{$.$}", "7", "unparsable", "$.$"),
    ],
)
def test_grades(text, gold, verdict, answer, pool):
    result = grade(text, gold, pool)
    assert (result.verdict, result.answer) == (verdict, answer)
    assert result.right == (verdict == "right") and bool(result.reason) == (verdict == "unparsable")


def test_the_gold_answer_may_not_be_given_by_position(pool):
    with pytest.raises(TypeError):
        MathGrader(pool=pool).grade("7", "7")  # type: ignore[misc]


def test_the_last_resort_can_be_switched_off(pool):
    text = "She has 3 apples and 4 pears, so 7 in all"
    assert grade(text, "7", pool, last_resort=False).verdict == "unparsable"


def test_a_timeout_is_a_verdict_of_its_own():
    with Pool(workers=1, cpu=0.4) as pool:
        result = grade(ENDLESS[1], ENDLESS[0], pool)
        assert (result.verdict, result.right, result.answer) == ("timeout", False, ENDLESS[1])
        assert "processor" in result.reason
        assert grade("x+1", "1+x", pool).verdict == "right"


def test_plain_numbers_need_no_process():
    with Pool(workers=1) as pool:
        assert grade(r"\boxed{0.75}", "3/4", pool).right and not grade(r"\boxed{8}", "7", pool).right
        assert asyncio.run(MathGrader(pool=pool).classes(["7", "8", r"\boxed{7}"])) == [0, 1, 0]
        assert not pool._processes


def test_gold_answers_are_taken_from_solutions_but_not_from_sentences():
    assert gold_answer(r"so $x=\boxed{4}$.") == "4" and gold_answer("18\n#### 19") == "19"
    assert gold_answer("the answer is 4") == "the answer is 4"


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="precision"):
        Comparison(precision=-1)


def test_classes_are_equivalence_classes_in_order_of_appearance(pool):
    texts = [
        r"\boxed{x+1}", "no idea what to say here, sorry", r"\boxed{1+x}", r"\boxed{\frac{2x+2}{2}}", r"\boxed{x-1}",
        "", r"\boxed{x+1}", r"so \boxed{-1+x}", r"\boxed{0.5}", r"\boxed{\frac12}",
    ]  # fmt: skip
    assert asyncio.run(MathGrader(pool=pool).classes(texts)) == [0, None, 0, 0, 1, None, 0, 1, 2, 2]


def test_classes_do_not_depend_on_which_side_could_be_gold(pool):
    one, two = r"\boxed{x=5+y}", r"\boxed{5+y}"
    grader = MathGrader(pool=pool)
    assert asyncio.run(grader.classes([one, two])) == asyncio.run(grader.classes([two, one])) == [0, 0]


def test_a_timeout_in_a_vote_makes_two_classes_and_no_error():
    with Pool(workers=1, cpu=0.2) as pool:
        assert asyncio.run(MathGrader(pool=pool).classes([rf"\boxed{{{text}}}" for text in ENDLESS])) == [0, 1]


def test_an_empty_vote(pool):
    assert asyncio.run(MathGrader(pool=pool).classes([])) == []


def rows(*pairs: tuple[str, str], **settings) -> list[str]:
    return [json.dumps({"gold": gold, "prediction": prediction, **settings}) for gold, prediction in pairs]


def test_rows_are_graded_in_order(pool):
    pairs = [(f"x+{k}", f"{k}+x" if k % 3 else f"{k}-x") for k in range(1, 10)]
    verdicts = [grade.verdict for grade in grade_rows(rows(*pairs), pool)]
    assert verdicts == ["right" if k % 3 else "wrong" for k in range(1, 10)]


def test_settings_of_a_row(pool):
    def verdict(gold: str, prediction: str, **settings) -> str:
        (grade,) = grade_rows(rows((gold, prediction), **settings), pool)
        return grade.verdict

    assert verdict("f(x)", "f(y)") == "wrong" and verdict("f(x)", "f(y)", strict=False) == "right"
    assert verdict("[2,5)", r"2 \le x < 5", allow_set_relation_comp=False) == "wrong"
    assert verdict("0.33", "0.331", precision=2) == "right"
    assert verdict("$9$", "it is 9", form="text", match_types=["latex"]) == "unparsable"
    assert verdict("9", "it is 9", form="text", match_types=["expr"]) == "right"


def test_grades_come_as_soon_as_they_are_known(pool):
    more = threading.Event()

    def slow():
        yield from rows(("7", "7"))
        assert more.wait(60)  # the first grade must be out before the second row is in
        yield from rows(("7", "8"))

    grades = grade_rows(slow(), pool)
    assert next(grades).verdict == "right"
    more.set()
    assert [grade.verdict for grade in grades] == ["wrong"]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '"x"',
        '{"gold": "1"}',
        '{"gold": 1, "prediction": "1"}',
        '{"gold": "1", "prediction": "1", "precision": "6"}',
    ],
)
def test_a_malformed_row_is_named_after_the_grades_before_it(line, pool):
    grades = grade_rows([*rows(("7", "7")), "\n", line, *rows(("7", "7"))], pool)
    assert next(grades).verdict == "right"
    with pytest.raises(ConfigError, match="line 3"):
        next(grades)


def test_the_command_line(tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows(("7", "7"), ("x+1", "1+x"), ("x", "no answer to be found in here"))))
    out = io.StringIO()
    assert main([str(file)], out) == 0
    printed = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["verdict"] for row in printed] == ["right", "right", "unparsable"]
    assert all(set(row) == {"verdict", "seconds"} and row["seconds"] >= 0 for row in printed)
    assert main([str(tmp_path / "absent.jsonl")], out) == 2
    assert "absent.jsonl" in capsys.readouterr().err


def test_the_command_line_as_a_program():
    lines = "\n".join([*rows(("7", r"\boxed{7}")), "{oops"])
    done = subprocess.run(
        [sys.executable, "-m", "verifiers.grade.math", "-"],
        input=lines,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and json.loads(done.stdout)["verdict"] == "right"
    assert done.stderr.count("\n") == 1 and "line 2" in done.stderr and "Traceback" not in done.stderr
