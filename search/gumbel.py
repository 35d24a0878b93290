"""Gumbel noise on log-probabilities: its k largest are k samples without replacement, in order."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence


def gumbel(rng: random.Random, location: float = 0.0) -> float:
    """A draw from the Gumbel distribution with this location and scale 1."""
    waiting = 0.0
    while not waiting:  # 0 has no logarithm and comes up once in 2**53
        waiting = rng.expovariate(1.0)
    return location - math.log(waiting)


def with_maximum(noisy: Sequence[float], maximum: float) -> list[float]:
    """`noisy`, independent Gumbel draws, moved so that they are draws given that the largest is `maximum`.

    Kool et al. 2019, arXiv:1903.06059, in the numerically stable form of its appendix; the order stays.
    """
    top = max(noisy)
    moved = []
    for g in noisy:
        if g == top:
            moved.append(maximum)
            continue
        v = maximum - g + math.log(-math.expm1(g - top))
        moved.append(maximum - max(0.0, v) - math.log1p(math.exp(-abs(v))))
    return moved
