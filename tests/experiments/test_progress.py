"""What a run shows: plain lines in a log, a moving line on a terminal."""

from __future__ import annotations

import io

from experiments.progress import Progress
from experiments.rows import Row
from search.events import Charged
from search.types import Cost


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rows(progress: Progress, seconds: list[float], step: float) -> None:
    for number, correct in enumerate([True, False, True, None]):
        seconds[0] += step
        progress(Charged(seq=0, seconds=0.0, node=0, cost=Cost(generated=100)))
        progress.finished(
            Row(str(number), "toy", "Beam", 0, correct=correct, error=None if number else "PolicyError: x")
        )


def test_a_log_gets_a_plain_line_now_and_then():
    seconds, file = [0.0], io.StringIO()
    with Progress(6, done=2, file=file, clock=lambda: seconds[0]) as progress:
        rows(progress, seconds, step=3.0)
    assert file.getvalue().splitlines() == [
        "4/6 items  1/2 right (50%)  200 tokens  33/s  1 errors  6 s",
        "6/6 items  2/3 right (67%)  400 tokens  33/s  1 errors  12 s",
    ]


def test_a_terminal_gets_a_moving_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    seconds, file = [0.0], Terminal()
    with Progress(4, file=file, clock=lambda: seconds[0]) as progress:
        rows(progress, seconds, step=3.0)
    assert "\x1b[" in file.getvalue()
    assert "4/4" in file.getvalue() and "2/3 right (67%)" in file.getvalue()
