"""From values to weights, and from weights to choices: pure functions on lists of numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Literal


def softmax(values: Sequence[float], temperature: float = 1.0) -> list[float]:
    """exp(v / temperature), made to add up to 1; temperature > 0; [] for []."""
    top = max(values, default=0.0)
    return normalised([math.exp((value - top) / temperature) for value in values])


def normalised(weights: Sequence[float]) -> list[float]:
    """Weights (at least 0, not all 0) made to add up to 1; [] for []."""
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def within_sigma(values: Sequence[float], sigma: float) -> list[int]:
    """Indices i with v_i >= mean - sigma * standard deviation (of the population, ddof=0).

    In-width pruning of phi-decoding (Xu et al. 2025, arXiv:2503.13288). The published code keeps v_i >
    the bound, which drops everything where all values are equal; the paper has >=, and so have we. Where they are
    equal up to rounding all are kept.
    """
    if not values:
        return []
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    bound = mean - sigma * deviation
    return [i for i, value in enumerate(values) if value >= bound - 1e-9 * max(1.0, abs(mean))]


def draw_distinct(rng: random.Random, weights: Sequence[float], k: int) -> list[int]:
    """Up to `k` different indices, one after the other, each in proportion to its weight among those left.

    When all weights left are 0 the rest is drawn uniformly, so that k indices come back where there are as many.
    """
    left = list(range(len(weights)))
    chosen: list[int] = []
    while left and len(chosen) < k:
        odds = [weights[i] for i in left]
        (index,) = rng.choices(left, weights=odds if any(odds) else None)
        left.remove(index)
        chosen.append(index)
    return chosen


def joint(value: Sequence[float], alignment: Sequence[float], combine: Literal["avg", "boltzmann"]) -> list[float]:
    """Joint weights of phi-decoding of `value` = softmax(A / tau1) and `alignment` = softmax(C / tau2).

    "avg" (the published code): their mean. "boltzmann" (the paper, its tau not given and 1 here): w proportional to
    exp(value + alignment).
    """
    both = [a + c for a, c in zip(value, alignment, strict=True)]
    return softmax(both) if combine == "boltzmann" else [b / 2 for b in both]
