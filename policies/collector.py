"""Python's garbage collector, set for trees that grow."""

from __future__ import annotations

import gc

YOUNG = 10_000  # new containers after which the young ones are looked through; Python's own 700 is for small programs


def relax() -> None:
    """Looks through young objects less often, and through what is loaded by now (modules, models) not at all.

    A node is a handful of containers that live as long as its tree; with Python's thresholds the cost per node grows by
    half between 1,000 and 100,000 nodes (`python -m experiments.bench tree`).
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(YOUNG, *older)
