"""The mathematics grader: is the answer in a text equal to the gold answer, and which answers equal one another.

    python -m verifiers.grade.math FILE|-

reads rows {"gold", "prediction"} and prints one row {"verdict", "seconds"} each, in order, as soon as it is known.
A row may carry the settings of its comparison: "precision", "strict", "allow_set_relation_comp", and "form": "text"
with "match_types" to leave the extraction to the library.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TextIO

from search.errors import ConfigError, VerifierError
from verifiers.grade import Grade, mark
from verifiers.grade.extract import extract
from verifiers.grade.forms import key, quick
from verifiers.grade.pool import Finished, Pool, shared
from verifiers.grade.rows import ahead, status
from verifiers.grade.tidy import tidy

JUDGE, JUDGE_TEXTS = "verifiers.grade.equal:judge", "verifiers.grade.equal:judge_texts"
LONGEST = 5_000  # characters of an answer; nothing longer is one
AHEAD = 256  # rows the command line reads ahead of the one it prints
SETTINGS: dict[str, type] = {
    "precision": int,
    "strict": bool,
    "allow_set_relation_comp": bool,
    "form": str,
    "match_types": list,
}


@dataclass(frozen=True)
class Comparison:
    """The settings of a comparison.

    Attributes:
        precision: decimals to which decimal numbers must agree, 0 to 15.
        strict: variables matter: f(x) is not f(y).
        relations: an interval may equal an inequality, whichever side has which.
        last_resort: where nothing marks the answer in a text, take its last formula or number.
    """

    precision: int = 6
    strict: bool = True
    relations: bool = True
    last_resort: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.precision <= 15:
            raise ConfigError("precision", self.precision, "give a number of decimals from 0 to 15")

    @property
    def options(self) -> dict[str, Any]:
        """As `verifiers.grade.equal` takes them."""
        return {"precision": self.precision, "strict": self.strict, "relations": self.relations}


class MathGrader:
    """Grades texts against gold answers; awaitable from any event loop.

    Args:
        comparison: the settings of every comparison.
        pool: where comparisons run that take symbolic algebra; None takes that of this process.
    """

    def __init__(self, comparison: Comparison | None = None, *, pool: Pool | None = None):
        self.comparison, self._pool = comparison or Comparison(), pool

    async def grade(self, text: str, *, gold: str) -> Grade:
        """Judge the answer in `text`, a whole completion or a bare answer, against `gold`, an answer or a solution.

        A timeout is a verdict of its own. Raises VerifierError where the pool cannot work.
        """
        task = self.start(text, gold=gold)
        return task if isinstance(task, Grade) else _grade(await asyncio.wrap_future(task[0]), task[1])

    def start(self, text: str, *, gold: str) -> Grade | tuple[Future[Finished], str]:
        """The grade, if it needs no symbolic algebra; else the comparison under way and the answer found."""
        answer = find(text, last_resort=self.comparison.last_resort)
        if answer is None:
            return Grade("unparsable", None, reason="no answer in the text")
        one, two = tidy(gold_answer(gold)), tidy(answer)
        if not one or not two:
            return Grade("unparsable", answer, reason="the answer is empty" if one else "the gold answer is empty")
        known = quick(one, two, self.comparison.precision)
        if known is not None:
            return Grade(mark(known), answer)
        return self._submit(JUDGE, one, two, self.comparison.options), answer

    async def equal(self, gold: str, other: str) -> bool:
        """Whether two bare answers are equal, in either direction; False where the comparison broke its limits."""
        known = quick(gold, other, self.comparison.precision)
        if known is None:
            options = {**self.comparison.options, "symmetric": True}
            known = _grade(await asyncio.wrap_future(self._submit(JUDGE, gold, other, options)), other).right
        return known

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        """Equality classes of the answers in `texts`: equal answers, equal labels; None where there is no answer.

        Labels count up from 0 in order of first appearance. Each answer is compared with the first of every class
        and joins the earliest it equals, so near-equality that is not transitive depends on the order of the texts.
        """
        found = [find(text, last_resort=self.comparison.last_resort) for text in texts]
        answers = [tidy(answer) if answer else "" for answer in found]
        labels: dict[str, int] = {}
        firsts: list[str] = []
        for answer in filter(None, answers):
            if key(answer) not in labels:
                same = await asyncio.gather(*(self.equal(first, answer) for first in firsts))
                if True not in same:
                    firsts.append(answer)
                labels[key(answer)] = same.index(True) if True in same else len(firsts) - 1
        return [labels[key(answer)] if answer else None for answer in answers]

    def _submit(self, target: str, *arguments: Any) -> Future[Finished]:
        return (self._pool or shared()).submit(target, *arguments)


def gold_answer(gold: str) -> str:
    """The gold answer in a reference: what is boxed or after `####` if there is such a mark, else all of it."""
    found = extract(gold)
    return found.text if found and found.how in ("boxed", "hashes") else gold


def find(text: str, *, last_resort: bool = True) -> str | None:
    """The answer in a completion or in a text that is nothing but an answer; None where there is none."""
    found = extract(text, last_resort=last_resort)
    return found.text if found and len(found.text) <= LONGEST else None


def _grade(finished: Finished, answer: str | None) -> Grade:
    """The grade a finished comparison stands for. Raises VerifierError where the comparison itself failed."""
    if finished.kind == "error":
        raise VerifierError(f"a comparison failed: {finished.note}")
    if finished.kind == "done":
        reason = "the answer or the gold answer cannot be read" if finished.value == "unparsable" else ""
        return Grade(finished.value, answer, finished.seconds, reason)
    return Grade("timeout", answer, finished.seconds, finished.note)


def _row(line: str, number: int) -> dict[str, Any]:
    """One input row, checked. Raises ConfigError naming the line."""
    try:
        row = json.loads(line)
    except ValueError:
        raise ConfigError(f"line {number}", line.strip()[:80], "write one JSON object a line") from None
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("gold", "prediction")):
        raise ConfigError(f"line {number}", line.strip()[:80], 'write an object with the texts "gold" and "prediction"')
    for name, kind in SETTINGS.items():
        if row.get(name) is not None and type(row[name]) is not kind:
            raise ConfigError(f"line {number}", {name: row[name]}, f"{name} takes a {kind.__name__}")
    return row


def _start(row: dict[str, Any], pool: Pool) -> Grade | tuple[Future[Finished], str]:
    """Set the comparison of a row going."""
    given = {name: row[name] for name in SETTINGS if row.get(name) is not None}
    if given.get("form") == "text":
        options = {
            "precision": given.get("precision", 6),
            "strict": given.get("strict", True),
            "relations": given.get("allow_set_relation_comp", False),
            "kinds": given.get("match_types", ["latex", "expr"]),
        }
        return pool.submit(JUDGE_TEXTS, row["gold"], row["prediction"], options), row["prediction"]
    comparison = Comparison(
        given.get("precision", 6), given.get("strict", True), given.get("allow_set_relation_comp", True)
    )
    return MathGrader(comparison, pool=pool).start(row["prediction"], gold=row["gold"])


def grade_rows(lines: Iterable[str], pool: Pool) -> Iterator[Grade]:
    """The grades of rows of JSON text, in order, each as soon as it and all before it are known; blank lines count for
    nothing. Raises ConfigError at a malformed row, after the grades of the rows before it.
    """
    for head in ahead(lines, lambda line, number: _start(_row(line, number), pool), AHEAD):
        yield head if isinstance(head, Grade) else _grade(head[0].result(), head[1])


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """The command line; its exit status is that of `verifiers.grade.rows.status`."""
    parser = argparse.ArgumentParser(prog="python -m verifiers.grade.math", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", metavar="FILE", help='rows of JSON {"gold", "prediction"}; - reads standard input')

    def work(lines: TextIO) -> None:
        with Pool() as pool:
            for grade in grade_rows(lines, pool):
                row = {"verdict": grade.verdict, "seconds": round(grade.seconds, 6)}
                print(json.dumps(row), file=out or sys.stdout, flush=True)

    return status(parser.parse_args(arguments).file, work)


if __name__ == "__main__":
    sys.exit(main())
