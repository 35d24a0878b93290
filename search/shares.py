"""How a whole number of draws is shared out among nodes, as pure functions of their weights."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

Allocation = Callable[[Sequence[float], int], list[int]]


def nearest(weights: Sequence[float], total: int) -> list[int]:
    """total * w to the nearest whole number, halves up (weights sum to 1). The sum may miss `total`."""
    return [math.floor(total * weight + 0.5) for weight in weights]


def heaviest_first(weights: Sequence[float], total: int) -> list[int]:
    """In order of weight, each its share of what is left, rounded up. The sum is `total`; the lightest may get none."""
    counts, left, mass = [0] * len(weights), total, math.fsum(weights)
    for i in sorted(range(len(weights)), key=lambda i: -weights[i]):
        if left and weights[i] > 0:
            counts[i] = min(math.ceil(left * min(weights[i] / mass, 1.0) - 1e-9), left)
            left, mass = left - counts[i], max(mass - weights[i], weights[i] * 1e-12)
    return counts


def largest_remainder(weights: Sequence[float], total: int) -> list[int]:
    """floor(total * w), and one more to those whose fractions are largest, of equals the first (weights sum to 1)."""
    counts = [math.floor(total * weight + 1e-9) for weight in weights]
    byfraction = sorted(range(len(weights)), key=lambda i: counts[i] - total * weights[i])
    for i in byfraction[: total - sum(counts)]:
        counts[i] += 1
    return counts


def evenly(count: int, total: int, rng: random.Random | None) -> list[int]:
    """total // count each; the rest one by one to some drawn by `rng`, or all of it to the last without one."""
    counts, rest = [total // count] * count, total % count
    if rng is None:
        counts[-1] += rest
    else:
        for i in rng.sample(range(count), rest):
            counts[i] += 1
    return counts
