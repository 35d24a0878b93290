"""Sharing out draws over problems by what the next draw of each is expected to gain. Pure functions.

Damani et al. 2025, "Learning How Hard to Think" (ICLR, arXiv:2410.04707): with q(x, b) the expected success of the best
of b draws for problem x, the marginal gain is Delta(x, b) = q(x, b) - q(x, b - 1), and one maximises the sum of
q(x, b_x) over all problems where the b_x add up to no more than the budget. A row of gains holds Delta(x, 1),
Delta(x, 2), ..., as far as a problem may be taken.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from search.errors import ConfigError

Gains = Sequence[float]


def binary(success: float, most: int) -> list[float]:
    """Delta(x, 1..most) where one draw succeeds with probability `success` (lambda): lambda * (1 - lambda)^(b - 1).

    From q(x, b) = 1 - (1 - lambda)^b, which takes for granted that a success among the draws is recognised.
    """
    if not 0 <= success <= 1:
        raise ConfigError("success", success, "give a probability")
    return list(accumulate(range(1, most), lambda gain, _: gain * (1 - success), initial=success))


def falling(gains: Gains) -> list[float]:
    """The non-increasing row nearest to `gains` in squares (pool adjacent violators); the sum stays what it was.

    Gains that a model predicts one by one may rise, and then taking the largest next gain is not optimal.
    """
    blocks: list[tuple[float, int]] = []  # sum and length; the means fall
    for gain in gains:
        total, length = gain, 1
        while blocks and blocks[-1][0] * length < total * blocks[-1][1]:
            above, count = blocks.pop()
            total, length = total + above, length + count
        blocks.append((total, length))
    return list(accumulate((total / length for total, length in blocks for _ in range(length)), min))


def allocate(rows: Sequence[Gains], budget: int, least: int = 0) -> list[int]:
    """Draws for each problem, at most `budget` together: always to the largest next gain, which is optimal.

    Of equal gains the problem with fewer draws comes first, then the earlier one. Nothing is spent on a gain of 0.

    Args:
        rows: non-increasing gains of each problem; it gets at most as many draws as its row is long.
        least: draws that every problem gets first (its whole row, where that is shorter).

    Raises:
        ConfigError: a row increases, or the budget does not cover `least` draws of each.
    """
    draws = _first(rows, budget, least)
    left = budget - sum(draws)
    queue = [(-row[b], b, i) for i, (row, b) in enumerate(zip(rows, draws, strict=True)) if b < len(row)]
    heapq.heapify(queue)
    while queue and left > 0:
        gain, b, i = heapq.heappop(queue)
        if gain >= 0:
            break
        draws[i], left = b + 1, left - 1
        if b + 1 < len(rows[i]):
            heapq.heappush(queue, (-rows[i][b + 1], b + 1, i))
    return draws


def worth(gains: Gains, price: float, least: int = 0) -> int:
    """Draws of one problem when each costs `price`: as long as the next gain is positive and at least the price.

    The dual of `allocate`: at the price of the budget (see `price`) every problem takes what `allocate` gives it,
    without a look at the others.
    """
    return max(min(least, len(gains)), sum(1 for _ in _paying(gains, price)))


def price(rows: Sequence[Gains], budget: int, least: int = 0) -> float:
    """The lowest price at which the problems together take at most `budget` draws; infinite if there is none.

    Where the budget runs out between gains that are equal, it is not spent to the end: all of them or none pay. Raises
    ConfigError as `allocate`.
    """
    left = budget - sum(_first(rows, budget, least))
    gains = sorted((gain for row in rows for gain in row[least:] if gain > 0), reverse=True)
    if len(gains) <= left:
        return gains[-1] if gains else math.inf
    first_left_out = gains[left]
    return min((gain for gain in gains[:left] if gain > first_left_out), default=math.inf)


def _first(rows: Sequence[Gains], budget: int, least: int) -> list[int]:
    for row in rows:
        if any(a < b for a, b in pairwise(row)):
            raise ConfigError("rows", list(row), "gains must not increase: give `falling` ones")
    draws = [min(least, len(row)) for row in rows]
    if sum(draws) > budget:
        raise ConfigError("budget", budget, f"{least} draws of each of {len(rows)} problems are more")
    return draws


def _paying(gains: Gains, price: float) -> Iterator[float]:
    for gain in gains:
        if gain <= 0 or gain < price:
            return
        yield gain
