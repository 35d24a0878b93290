"""Solutions with a label on each step: files of four formats, and samples judged by exact step checkers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.item import Item
from experiments.problems.arithmetic import Expression as Plain
from experiments.problems.arithmetic import Operation, Problem
from experiments.problems.countdown import Puzzle
from experiments.tasks.files import malformed, read_rows
from experiments.train.judge import arithmetic_lines, countdown_lines
from search.errors import ConfigError
from search.types import Finish, Prefix, Segment
from verifiers.grade import arithmetic, countdown
from verifiers.grade.expression import Expression

Lines = Callable[[Sequence[str]], list[bool]]


@dataclass(frozen=True)
class Labelled:
    """A solution as a verifier reads it, and where it goes wrong.

    Attributes:
        key: of the problem.
        first_error: 0-based; -1 where every step is right.
        item: what a verifier that needs its problem is bound to.
    """

    dataset: str
    key: str
    prefix: Prefix
    first_error: int
    item: Item


def from_file(path: Path) -> list[Labelled]:
    """The rows of a file of process labels, .jsonl or .jsonl.gz, in any of these formats, told by their fields:

    {"problem", "steps", "first_error"} (ProcessBench and others), perhaps with "dataset" and "problem_key";
    {"input", "label"} (Math-Shepherd), {"question", "label": {"steps"}} (PRM800K), {"question", "reasoning_steps"}
    (MATH-APS; a step is wrong where no completion after it was right).

    Raises:
        ConfigError: a row is of none of them, or there is no such file.
    """
    if not path.is_file():
        raise ConfigError("labels", str(path), "there is no such file")
    found = []
    for number, row in read_rows(path):
        try:
            dataset, question, steps, first_error = _read(row)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise malformed(path, number, f"is of no known format of process labels ({error!r})") from error
        if not steps or any(not step.strip() for step in steps) or not -1 <= first_error < len(steps):
            raise malformed(path, number, "has no steps, an empty one, or an error beyond them")
        key = str(row.get("problem_key", question))
        found.append(labelled(dataset, key, question, steps, first_error))
    return found


def labelled(dataset: str, key: str, question: str, steps: Sequence[str], first_error: int) -> Labelled:
    """A row whose steps are texts: all but the last end with a blank line, the last ends the answer."""
    ends = [Finish.STEP] * (len(steps) - 1) + [Finish.END]
    segments = tuple(
        Segment((), step.strip() + ("\n\n" if end is Finish.STEP else ""), (), end)
        for step, end in zip(steps, ends, strict=True)
    )
    prefix = Prefix(Segment((), question), segments, question)
    return Labelled(dataset, key, prefix, first_error, Item(key, dataset, question))


def _read(row: Mapping[str, Any]) -> tuple[str, str, list[str], int]:
    if "first_error" in row:
        return str(row.get("dataset", "labels")), row["problem"], list(row["steps"]), int(row["first_error"])
    if "input" in row:
        question, steps, wrong = _math_shepherd(row["input"], row["label"])
    elif "reasoning_steps" in row:
        question = row["question"]
        texts = [step["solution_prefix"] for step in row["reasoning_steps"]]
        values = [step["mc_value"] for step in row["reasoning_steps"]]
        if texts and texts[0].strip() == question.strip():  # the problem alone comes first
            texts, values = texts[1:], values[1:]
        begun = [question, *texts]
        steps = [text.removeprefix(before).strip() for before, text in zip(begun, texts, strict=False)]
        wrong = [value == 0 for value in values]
    else:
        question = row["question"]["problem"]
        steps, wrong = _prm800k(row["label"]["steps"])
    name = "math-shepherd" if "input" in row else "math-aps" if "reasoning_steps" in row else "prm800k"
    return name, question, steps, wrong.index(True) if True in wrong else -1


def _math_shepherd(text: str, label: str, tag: str = "ки") -> tuple[str, list[str], list[bool]]:
    parts, at, wrong = text.split(tag), 0, []
    for part in parts[:-1]:  # the label has a sign where the input has a tag
        at += len(part)
        wrong.append({"+": False, "-": True}[label[at]])
        at += 1
    question, found, first = parts[0].partition("Step 1:")
    if not found:
        raise ValueError("there is no Step 1")
    return question.strip(), [(found + first).strip(), *(part.strip() for part in parts[1:-1])], wrong


def _prm800k(listed: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[bool]]:
    """The steps that were chosen, up to the first one rated -1."""
    steps, wrong = [], []
    for step in listed:
        if step["chosen_completion"] is not None:
            taken = step["completions"][step["chosen_completion"]]
        else:
            taken = step["human_completion"] or step["completions"][0]
        steps.append(re.sub(r"\n\n# Answer\n\n", "\nAnswer: ", taken["text"]))
        wrong.append(taken["rating"] == -1)
        if wrong[-1]:
            break
    return steps, wrong


def checker(item: Item) -> Lines:
    """Says of each line of a solution whether all is right so far. Raises ConfigError for an item without one."""
    if (puzzle := countdown.puzzle(item)) is not None:
        problem = Puzzle(*puzzle)
        return lambda lines: countdown_lines(problem, lines)
    if (expression := arithmetic.read_question(item.question)) is not None:
        asked = Problem(_plain(expression, item))
        return lambda lines: arithmetic_lines(asked, lines)
    raise ConfigError("task", item.task, "it has no exact checker of steps: give labels=FILE, or another task")


def _plain(expression: Expression, item: Item) -> Plain:
    """The grader's expression as the generator has it: whole numbers, sums, differences and products."""
    if expression.left is not None and expression.right is not None and expression.op in ("+", "-", "*"):
        return Operation(expression.op, _plain(expression.left, item), _plain(expression.right, item))
    if expression.op or expression.value.denominator != 1:
        raise ConfigError("task", item.id, "its steps can be checked for whole numbers, sums and products only")
    return int(expression.value)


def judged(item: Item, path: Prefix) -> Labelled | None:
    """A policy's path with exact labels; None where it holds nothing to judge."""
    steps = tuple(step for step in path.steps if step.text.strip())
    if not steps:
        return None
    verdicts = checker(item)([step.text.strip() for step in steps])
    first_error = verdicts.index(False) if False in verdicts else -1
    return Labelled(item.task, item.id, Prefix(path.prompt, steps, path.question), first_error, item)
