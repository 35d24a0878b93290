"""The grader of programs.

    python -m verifiers.grade.code FILE|-

reads rows {"code", "tests": [{"input", "output"}], "fn_name" | null} and prints one row {"verdict", "passed", "total",
"seconds"} each, in order, as soon as it is known. Programs run in a sandbox; see `verifiers.grade.code.sandbox`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TextIO, get_args

from search.errors import ConfigError
from verifiers.grade.code.compare import Compare
from verifiers.grade.code.pool import Pool
from verifiers.grade.code.program import Isolation, Limits, Program, Ran
from verifiers.grade.code.verdict import Stop, Trial, Verdict
from verifiers.grade.rows import ahead, status

AHEAD = 64  # rows read ahead of the one that is printed


def trial(line: str, number: int, compare: Compare, stop: Stop) -> Trial:
    """The trial a row asks for. Raises ConfigError naming the line."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("code"), str) or not isinstance(row.get("tests"), list):
        raise ConfigError(
            f"line {number}", line.strip()[:80], 'write an object with the text "code" and a list "tests"'
        )
    name = row.get("fn_name") or ""
    if not isinstance(name, str):
        raise ConfigError(f"line {number}", name, "fn_name is a text or null")
    try:
        return Trial(Program(row["code"], "call" if name else "stdin", name), row["tests"], compare, stop)
    except ConfigError as error:
        raise ConfigError(f"line {number}, {error.field}", error.value, error.remedy) from None


def grade_rows(lines: Iterable[str], pool: Pool, compare: Compare, stop: Stop = "never") -> Iterator[Verdict]:
    """The verdicts on rows of JSON text, in order, each as soon as it and all before it are known. Raises ConfigError
    at a malformed row, after the verdicts on the rows before it.
    """

    def start(line: str, number: int) -> tuple[Trial, Future[list[Ran]] | None]:
        each = trial(line, number, compare, stop)
        return each, each.start(pool) if each.tests else None

    for each, runs in ahead(lines, start, AHEAD):
        yield each.verdict(runs.result() if runs else [])


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """The command line; its exit status is that of `verifiers.grade.rows.status`."""
    ours, rules = Limits(), Compare()
    parser = argparse.ArgumentParser(prog="python -m verifiers.grade.code", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", metavar="FILE", help='rows {"code", "tests", "fn_name"}; - reads standard input')
    parser.add_argument("--isolation", choices=get_args(Isolation), default="auto", help="none: for trusted programs")
    parser.add_argument("--cpu", type=float, default=ours.cpu, help="seconds of processor time per test")
    parser.add_argument("--wall", type=float, default=ours.wall, help="seconds a test may wait; 0: as cpu")
    parser.add_argument("--memory", type=int, default=ours.memory, help="bytes")
    parser.add_argument("--tolerance", type=float, default=rules.tolerance, help="of decimal fractions")
    parser.add_argument("--workers", type=int, default=0, help="programs at once; 0: one per processor")
    parser.add_argument("--stop", choices=get_args(Stop), default="never", help="stop a program at its first failure")
    given = parser.parse_args(arguments)

    def work(lines: TextIO) -> None:
        limits = Limits(cpu=given.cpu, wall=given.wall, memory=given.memory)
        compare = Compare(given.tolerance)
        with Pool(workers=given.workers, isolation=given.isolation, limits=limits) as pool:
            told = ""
            for verdict in grade_rows(lines, pool, compare, given.stop):
                if verdict.kind == "refused" and verdict.total and verdict.note != told:
                    told = verdict.note
                    print(f"refused: {told}", file=sys.stderr)
                elif pool.kind not in (None, "namespaces", "bubblewrap", told):
                    told = pool.kind or ""
                    print(f"isolation: {told} (see verifiers/grade/code/sandbox.py)", file=sys.stderr)
                row = {
                    "verdict": verdict.kind, "passed": verdict.passed, "total": verdict.total,
                    "seconds": round(verdict.seconds, 6),
                }  # fmt: skip
                print(json.dumps(row), file=out or sys.stdout, flush=True)

    return status(given.file, work)


if __name__ == "__main__":
    sys.exit(main())
