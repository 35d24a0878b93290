"""What a run shows while it works: items done, accuracy so far, tokens per second, tokens spent.

A moving line on a terminal; elsewhere a plain line now and then, so that a log stays readable.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from experiments.rows import Row
from search.events import Charged, Event

EVERY = 5.0  # seconds between two plain lines


class Progress:
    """A display to be entered; also a sink of events, from which it counts tokens.

    Args:
        total: rows the run will have.
        done: rows it already has.
        file: where to write; by default standard error, so that standard output holds results alone.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total, self.done, self.tokens, self.right, self.graded, self.errors = total, done, 0, 0, 0, 0
        self._file, self._clock = file or sys.stderr, clock
        self._began = self._told = clock()
        console = Console(file=self._file)
        self._bar: Bar | None = None
        if console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                TimeElapsedColumn(),
                console=console,
                transient=True,
            )
            self._line = self._bar.add_task("items", total=total, completed=done, state="")

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Charged):
            self.tokens += event.cost.generated
            if self._bar:
                self._bar.update(self._line, state=self.state)

    @property
    def seconds(self) -> float:
        """Since the display was made."""
        return self._clock() - self._began

    @property
    def state(self) -> str:
        """Accuracy so far, tokens and their rate, errors if there are any; of the rows of this start."""
        parts = [f"{self.right}/{self.graded} right ({self.right / self.graded:.0%})"] if self.graded else []
        parts += [f"{self.tokens:,} tokens", f"{self.tokens / max(self.seconds, 1e-9):,.0f}/s"]
        parts += [f"{self.errors} errors"] if self.errors else []
        return "  ".join(parts)

    def finished(self, row: Row) -> None:
        """Counts a row and shows it."""
        self.done += 1
        self.right += bool(row.correct)
        self.graded += row.correct is not None
        self.errors += row.error is not None
        if self._bar:
            self._bar.update(self._line, completed=self.done, state=self.state)
        elif self.done == self.total or self._clock() - self._told >= EVERY:
            self._told = self._clock()
            self._file.write(f"{self.done}/{self.total} items  {self.state}  {self.seconds:.0f} s\n")
            self._file.flush()
