"""Writes training problems as a file for `task=jsonl`: `python -m experiments.problems --count 300 > problems.jsonl`.

Half countdown, half arithmetic, all different, none of the test split and none of the public game of 24: for probes,
calibration and whatever else is fitted on what a search did.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from itertools import islice

from experiments.problems import arithmetic, countdown


def rows(count: int, seed: int) -> Iterator[dict[str, str | None]]:
    """`count` rows {id, problem, answer}, the families in turn; a puzzle has no one answer, so its answer is null."""
    rng = random.Random(f"problems {seed}")
    seen: set[str] = set()

    def puzzles() -> Iterator[tuple[str, str, str | None]]:
        while True:
            puzzle = next(countdown.training(rng, size=rng.choice((3, 4))))
            yield "countdown", puzzle.question, None

    def sums() -> Iterator[tuple[str, str, str | None]]:
        for problem in arithmetic.training(rng):
            yield "arithmetic", problem.question, str(problem.answer)

    def new() -> Iterator[dict[str, str | None]]:
        for pair in zip(puzzles(), sums(), strict=False):
            for family, question, answer in pair:
                if question not in seen:
                    seen.add(question)
                    yield {"id": f"{family}-training-{seed}-{len(seen)}", "problem": question, "answer": answer}

    yield from islice(new(), count)


def main() -> None:
    """Prints the rows."""
    parser = argparse.ArgumentParser(prog="experiments.problems", description="Training problems for task=jsonl.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for row in rows(options.count, options.seed):
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
