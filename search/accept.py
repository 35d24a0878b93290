"""w(r): how likely a drafted step of score r is kept, as functions of r and a setting delta; see `RewardGuided`."""

from __future__ import annotations

import math


def threshold(score: float, delta: float) -> float:
    """1 if r >= delta, else 0: the paper's choice."""
    return float(score >= delta)


def clipped(score: float, delta: float) -> float:
    """min(1, r / delta): in proportion to the score, for sure from delta on; delta = 1 keeps with probability r."""
    return 1.0 if score >= delta else score / delta


def logistic(score: float, delta: float) -> float:
    """1 / (1 + exp(-10 (r - delta))): a soft threshold; one half at delta."""
    return 1 / (1 + math.exp(-10 * (score - delta)))
