"""Resampling of weighted particles: which of them go on, and in how many copies.

Each scheme is a pure function of the weights, how many to draw, and a random source; it gives the indices drawn, and
every index is expected n * w times (w: weights divided by their sum), so that estimates stay unbiased. They differ in
the variance of the copies: multinomial has the most, systematic and residual never give fewer than floor(n * w). See
Douc, Cappe and Moulines 2005, "Comparison of resampling schemes for particle filtering" (arXiv:cs/0507025).
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

Resampling = Callable[[Sequence[float], int, random.Random], list[int]]


def normalised(weights: Sequence[float]) -> list[float]:
    """`weights` divided by their sum. ValueError unless they are finite, none below 0, and one above."""
    total = math.fsum(weights)
    if not (0 < total < math.inf) or any(not weight >= 0 for weight in weights):
        raise ValueError(f"weights are finite, at least 0, and not all 0: {list(weights)}")
    return [weight / total for weight in weights]


def effective_sample_size(weights: Sequence[float]) -> float:
    """N_eff = 1 / sum w^2, in [1, N]: N for equal weights, 1 where one particle has all of the weight."""
    return 1.0 / math.fsum(weight * weight for weight in normalised(weights))


def multinomial(weights: Sequence[float], n: int, rng: random.Random) -> list[int]:
    """`n` independent draws (Gordon, Salmond and Smith 1993)."""
    return _at(weights, [rng.random() for _ in range(n)])


def stratified(weights: Sequence[float], n: int, rng: random.Random) -> list[int]:
    """One draw from each n-th part of the cumulated weights (Kitagawa 1996)."""
    return _at(weights, [(i + rng.random()) / n for i in range(n)])


def systematic(weights: Sequence[float], n: int, rng: random.Random) -> list[int]:
    """The same place in each n-th part of the cumulated weights, from one random number (Carpenter et al. 1999)."""
    place = rng.random()
    return _at(weights, [(i + place) / n for i in range(n)])


def residual(weights: Sequence[float], n: int, rng: random.Random) -> list[int]:
    """floor(n * w) copies of each, and independent draws by what is left of n * w (Liu and Chen 1998)."""
    expected = [n * weight for weight in normalised(weights)]
    sure = [math.floor(x + 1e-9) for x in expected]  # 2.9999999999999996 is 3 copies
    left = [max(x - copies, 0.0) for x, copies in zip(expected, sure, strict=True)]
    drawn = [i for i, copies in enumerate(sure) for _ in range(copies)]
    missing = n - len(drawn)
    return drawn + (multinomial(left, missing, rng) if missing else [])


def _at(weights: Sequence[float], places: Sequence[float]) -> list[int]:
    """For each place in [0, 1) the index whose share of the cumulated weights holds it; none of weight 0."""
    ends = list(accumulate(normalised(weights)))
    last = max(i for i, weight in enumerate(weights) if weight > 0)  # sums may end a rounding short of 1
    return [min(bisect_right(ends, place), last) for place in places]
