"""What the engine's steps took, in enough numbers to tell afterwards what of it is per step, row, token and call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

CAUSES = ("steps", "rows", "read", "calls")  # what a step's seconds are laid to


class Did(NamedTuple):
    """What a step did.

    Attributes:
        rows: that drew.
        drawn: tokens of theirs, of which speculation gives a row more than one.
        read: prompt tokens computed.
        calls: that had come in since the step before.
        inside: seconds that calls which it answered had been there, added up.
    """

    rows: int = 0
    drawn: int = 0
    read: int = 0
    calls: int = 0
    inside: float = 0.0


class Pace:
    """Sums over steps of the products of (1, rows, read, calls, seconds), each over the step's seconds.

    These are the normal equations of a line through the steps by least squares, a step's error counting the less the
    longer it is: small steps, of which a larger pool has more, must be met as well as large ones. In the last column
    are the totals of each, and of the seconds.

    Seconds are of the engine's thread where that alone computes, so that waiting for a processor which others use is
    not in them; on a device of its own, or with several threads, they are of wall time.

    Attributes:
        alone: whether they are seconds of one processor.
    """

    def __init__(self, device: str, threads: int | None):
        self.alone = device == "cpu" and (torch.get_num_threads() if threads is None else threads) == 1
        self._clock: Callable[[], float] = time.thread_time if self.alone else time.perf_counter
        self._sums = np.zeros((len(CAUSES) + 1,) * 2)
        self._drawn, self._inside = 0, 0.0
        self._since: float | None = None  # the process's seconds when the first step began

    def clock(self) -> float:
        """Seconds; asked in the engine's thread."""
        if self._since is None:
            self._since = time.process_time()
        return self._clock()

    def observe(self, did: Did, seconds: float) -> None:
        """A step (mutates)."""
        seconds = max(seconds, 1e-6)  # clocks have grains
        one = np.array((1.0, did.rows, did.read, did.calls, seconds))
        self._sums += one[:, None] * (one / seconds)
        self._drawn += did.drawn
        self._inside += did.inside

    def told(self) -> dict[str, Any]:
        """Plain values: `sums`, `drawn`, `inside`, `alone`; of the whole process its id, and its processor seconds
        since the first step began."""
        return {
            "sums": self._sums.tolist(),
            "drawn": self._drawn,
            "inside": self._inside,
            "alone": self.alone,
            "process": os.getpid(),
            "processor": 0.0 if self._since is None else time.process_time() - self._since,
        }
