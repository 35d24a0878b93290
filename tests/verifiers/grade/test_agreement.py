"""Agreement with labelled data, where it is at hand.

The default run takes a deterministic sample; TREEWISE_FULL=1 takes every row (about a minute of processor time).
"""

import gzip
import json
import os
from collections import Counter
from hashlib import blake2b
from pathlib import Path

import pytest
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from math_verify.errors import TimeoutException

from verifiers.grade import countdown
from verifiers.grade.math import grade_rows
from verifiers.grade.pool import Pool

FULL = os.environ.get("TREEWISE_FULL") == "1"


def read(path: Path) -> list[dict]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def sample(rows: list[dict], one_in: int) -> list[dict]:
    """One row in so many, chosen by a hash of its content; all of them in a full run."""
    digests = [blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=4).digest() for row in rows]
    return [row for row, d in zip(rows, digests, strict=True) if FULL or int.from_bytes(d, "big") % one_in == 0]


def verdicts(rows: list[dict], pool: Pool) -> list[str]:
    return [grade.verdict for grade in grade_rows(map(json.dumps, rows), pool)]


def test_undisputed_grading_cases(data, pool):
    """At least 99 % of the undisputed labels, each row by the settings it comes with."""
    rows = [row for row in read(data / "dev" / "grading_cases.jsonl") if row.get("adjudicated", 0) is not None]
    rows = sample(rows, 12)
    expected = [row.get("adjudicated", row["expected"]) for row in rows]
    agree = [(v == "right") == label for v, label in zip(verdicts(rows, pool), expected, strict=True)]
    print(f"grading cases: {sum(agree)} of {len(agree)} agree")
    assert len(agree) > (1400 if FULL else 80) and sum(agree) >= 0.99 * len(agree)


@pytest.mark.parametrize("name", ["math500", "aime24", "aime25", "amc23", "gsm8k_test"])
def test_gold_answers_verify_against_themselves_and_their_solutions(name, data, pool):
    rows = sample(read(data / "benchmarks" / f"{name}.jsonl"), 1 if name.startswith(("aime", "amc")) else 5)
    pairs = [(row["answer"], written) for row in rows for written in (row["answer"], f"\\boxed{{{row['answer']}}}")]
    pairs += [(row["answer"], row["solution"]) for row in rows if row.get("solution", "").strip()]
    results = verdicts([{"gold": gold, "prediction": prediction} for gold, prediction in pairs], pool)
    assert [pair for pair, verdict in zip(pairs, results, strict=True) if verdict != "right"] == []


def test_whole_completions(data, pool):
    """Answers found in completions of many models; the labels of some sources are noisy."""
    rows = [row for row in read(data / "dev" / "real_outputs.jsonl.gz") if None not in (row["gold"], row["label"])]
    rows = sample(rows, 40)
    found = verdicts([{"gold": row["gold"], "prediction": row["completion"]} for row in rows], pool)
    agree = [(v == "right") == row["label"] for v, row in zip(found, rows, strict=True)]
    print(f"completions: {sum(agree)} of {len(agree)} agree")
    assert len(agree) > 150 and sum(agree) >= 0.985 * len(agree)


def library(row: dict) -> bool:
    """What math-verify says by itself, the gold answer wrapped as its documentation asks."""
    kinds = [LatexExtractionConfig(), ExprExtractionConfig()]
    try:
        gold = parse(f"${row['gold']}$", extraction_config=kinds, parsing_timeout=5)
        return verify(gold, parse(row["completion"], parsing_timeout=5), timeout_seconds=5)
    except TimeoutException:
        return False


def test_no_data_set_is_graded_worse_than_by_the_library_alone(data, pool):
    """Where both are equal, what is left are labels that contradict their gold answer."""
    rows = [row for row in read(data / "dev" / "real_outputs.jsonl.gz") if None not in (row["gold"], row["label"])]
    rows = sample(rows, 30)
    found = verdicts([{"gold": row["gold"], "prediction": row["completion"]} for row in rows], pool)
    ours, theirs, count = Counter(), Counter(), Counter()
    for row, verdict in zip(rows, found, strict=True):
        count[row["dataset"]] += 1
        ours[row["dataset"]] += (verdict == "right") == row["label"]
        theirs[row["dataset"]] += library(row) == row["label"]
    for name, total in count.items():
        print(f"{name}: {ours[name]} of {total} agree, {theirs[name]} by the library alone")
        assert ours[name] >= theirs[name], name


def test_puzzle_outputs(data):
    """Exact, so every one of them."""
    rows = read(data / "dev" / "game24_outputs.jsonl.gz")
    wrong = [r for r in rows if countdown.check_text(r["completion"], r["numbers"], r["target"]).right != r["label"]]
    assert len(rows) > 1000 and wrong == []


def test_generated_puzzles_and_their_solutions(data):
    rows = read(data / "benchmarks" / "countdown_generated.jsonl")
    assert all(countdown.check(row["solution"], row["numbers"], row["target"]) for row in rows)
    assert not any(countdown.check(row["solution"], row["numbers"], row["target"] + 1) for row in rows)
