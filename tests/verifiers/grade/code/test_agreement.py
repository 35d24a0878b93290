"""Agreement with the verdicts of others on programs of real models, and references against their own tests.

The default run takes a deterministic sample; TREEWISE_FULL=1 takes every row, which is many minutes. Differences are
listed with their causes in `verifiers/grade/code/AGREEMENT.md`.
"""

import gzip
import json
import os
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import pytest

from verifiers.grade.code.compare import Compare
from verifiers.grade.code.extract import extract, same
from verifiers.grade.code.pool import Pool
from verifiers.grade.code.program import Program
from verifiers.grade.code.verdict import Trial

FULL = os.environ.get("TREEWISE_FULL") == "1"
# programs that are right, but were refused by others for want of a function that stands in the problem's prompt
NEED_PROMPT = {"HumanEval/38"}


def read(path: Path) -> list[dict]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def sample(rows: list[dict], one_in: int) -> list[dict]:
    """One row in so many, chosen by a hash of its name; all of them in a full run."""
    digests = [blake2b(row["id"].encode(), digest_size=4).digest() for row in rows]
    return [row for row, d in zip(rows, digests, strict=True) if FULL or int.from_bytes(d, "big") % one_in == 0]


@pytest.fixture(scope="module")
def programs(data):
    return read(data / "dev" / "code_outputs.jsonl.gz")


@pytest.fixture(scope="module")
def wide():
    """With the limits of every day."""
    with Pool() as pool:
        yield pool


def differences(pool, cases):
    """Rows whose verdict is not their label: (row, verdict)."""
    started = [(row, trial, trial.start(pool)) for row, trial in cases if trial.tests]
    judged = [(row, trial.verdict(future.result())) for row, trial, future in started]
    print(Counter((row["label"], verdict.kind) for row, verdict in judged))
    return [(row, verdict) for row, verdict in judged if row["label"] != (verdict.kind == "right")]


def show(found):
    return [(row["id"], row["label"], verdict.kind, verdict.note) for row, verdict in found]


def test_livecodebench(programs, data, wide):
    """What passed all official tests passes those on file; what did not may pass, for most of them are not on file."""
    problems = {row["id"]: row for row in read(data / "benchmarks" / "livecodebench.jsonl.gz")}

    def trial(row):
        problem = problems[row["problem_id"]]
        name = problem["fn_name"] if problem["test_type"] == "functional" else ""
        tests = [*problem["public_tests"], *problem["extra_tests"]]
        program = Program(row["code"], "call" if name else "stdin", name or "")
        return Trial(program, tests, Compare(tolerance=0.0), stop="failure")

    rows = sample([row for row in programs if row["dataset"] == "livecodebench"], 150)
    found = differences(wide, [(row, trial(row)) for row in rows])
    assert show([each for each in found if each[0]["label"]]) == []
    assert len(found) < 0.35 * len(rows)


def test_humaneval(programs, data, wide):
    problems = {row["id"]: row for row in read(data / "benchmarks" / "humaneval.jsonl")}

    def trial(row):
        problem = problems[row["problem_id"]]
        name, prompt = problem["entry_point"], problem["prompt"]
        program = Program(prompt.split(f"def {name}")[0] + row["code"], "check", name, support=prompt + "    pass\n")
        return Trial(program, [f"{problem['test_code']}\ncheck({name})\n"])

    found = differences(
        wide, [(row, trial(row)) for row in sample([r for r in programs if r["dataset"] == "humaneval"], 25)]
    )
    assert show([each for each in found if each[0]["problem_id"] not in NEED_PROMPT]) == []


def test_mbpp(programs, wide):
    rows = sample([row for row in programs if row["dataset"] == "mbpp"], 15)

    def trial(row):
        header = row["prompt"].split("def ")[0]
        return Trial(Program(header + row["code"], "check", row["entry_point"]), [row["test_code"]])

    assert show(differences(wide, [(row, trial(row)) for row in rows])) == []


def test_apps(programs, data, wide):
    """Its labels come from whole programs fed the arguments as text, even where a function is asked for.

    Where the expected output is no text, the source compares what is printed with a number or a list and calls every
    program wrong; those problems are left out.
    """
    problems = {row["id"]: row["tests"] for row in read(data / "benchmarks" / "apps150.jsonl")}

    def pairs(row):
        listed = [(test["input"], test["output"]) for test in problems[row["problem_id"]]]
        return [{"input": given, "output": out[0] if isinstance(out, list) else out} for given, out in listed]

    rows = [row for row in programs if row["dataset"] == "apps"]
    rows = [row for row in sample(rows, 12) if all(isinstance(pair["output"], str) for pair in pairs(row))]
    assert (
        show(differences(wide, [(row, Trial(Program(row["code"]), pairs(row), stop="failure")) for row in rows])) == []
    )


def test_extraction_finds_the_programs_of_others(programs):
    """What we take from a completion is what the sources of the data took."""
    rows = [row for row in sample(programs, 10) if row["code"].strip()]
    differ = [row["id"] for row in rows if same(extract(row["completion"]) or "") != same(row["code"])]
    print(len(differ), len(rows), differ[:20])
    assert len(differ) <= 0.03 * len(rows)
