"""What a model's step takes by what is in it, by least squares; and what of that the steps do not tell.

seconds = a x steps + b x rows that drew + c x prompt tokens computed + d x calls that came in. An error counts by its
square over the step's seconds, so that small steps are met as well as large ones (`policies.engine.pace.Pace`); all is
scaled in the end so that the seconds of all steps together are those measured. A coefficient is told if its standard
error, over all steps, is a small share of all seconds; it is not where two causes always come together, or where the
steps are few.
Calls that come with much the same number of new tokens each are no loss: their time is laid to the tokens, and is right
for all work like the run's. One that is told and comes out below zero is so small that noise hides it: it gets its
standard error, for nothing is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.engine.pace import CAUSES
from search.errors import ConfigError

UNSURE = 0.05  # share of all seconds that a coefficient may be wrong by
ALIKE = 1e-6  # eigenvalue of the correlations below which causes come together


@dataclass(frozen=True)
class Fit:
    """Seconds per step, row, prompt token and call.

    Attributes:
        each: by cause (`policies.engine.pace.CAUSES`), of those there were; None where they are not told, 0 for calls
            whose time is laid to their tokens.
        totals: how many of each cause.
        seconds: of all.
        drawn: tokens that a row drew in a step; more than 1 with speculation.
        alone: whether seconds are of one processor.
    """

    each: Mapping[str, float | None]
    totals: Mapping[str, float]
    seconds: float
    drawn: float
    alone: bool

    def told(self, cause: str, setting: str, remedy: str) -> float:
        """The seconds of one; 0 where there was none. Raises ConfigError naming a setting where they are not told."""
        value = self.each.get(cause, 0.0)
        if value is None:
            said = f"the {self.totals['steps']:,.0f} steps of the run do not tell it, {cause} hardly vary by themselves"
            raise ConfigError(setting, None, f"{said}: {remedy}")
        return value


def fitted(paces: Sequence[Mapping[str, Any]]) -> Fit:
    """From what replicas of one kind told (`policies.engine.pace.Pace.told`), taken together."""
    sums = np.sum([pace["sums"] for pace in paces], axis=0)
    a, b, seconds = sums[:-1, :-1], sums[:-1, -1], float(sums[-1, -1])
    totals = dict(zip(CAUSES, map(float, b), strict=True))
    there = [i for i in range(len(CAUSES)) if a[i, i] > 0]

    def told(places: Sequence[int]) -> dict[str, float | None]:
        found = _solved(a[np.ix_(places, places)], b[places], seconds, totals["steps"])
        pairs = zip((CAUSES[i] for i in places), found, strict=True)
        return {name: max(x, error) if error * totals[name] <= UNSURE * seconds else None for name, (x, error) in pairs}

    each = told(there)
    if each.get("calls", 0.0) is None and totals["read"]:
        each = {**told([i for i in there if CAUSES[i] != "calls"]), "calls": 0.0}
    laid = sum(value * totals[name] for name, value in each.items() if value is not None)
    if laid and None not in each.values():
        each = {name: value * seconds / laid for name, value in each.items() if value is not None}
    drawn = sum(pace["drawn"] for pace in paces) / totals["rows"] if totals["rows"] else 1.0
    return Fit(each, totals, seconds, drawn, all(pace["alone"] for pace in paces))


def relative(lines: Sequence[Sequence[float]], times: Sequence[float]) -> list[float | None]:
    """Coefficients of trials that took `times`, by their relative errors; None for those that the trials do not tell.

    A coefficient is told if its standard error is a small share of a trial's time on average.
    """
    a = np.array(lines, dtype=float) / np.array(times, dtype=float)[:, None]
    there = [i for i in range(a.shape[1]) if a[:, i].any()]
    found: list[float | None] = [None] * a.shape[1]
    solved = _solved(a[:, there].T @ a[:, there], a[:, there].sum(axis=0), float(len(a)), len(a))
    for place, (value, error) in zip(there, solved, strict=True):
        found[place] = max(value, error) if error * a[:, place].mean() <= UNSURE else None
    return found


def _solved(a: Any, b: Any, square: float, trials: float) -> list[tuple[float, float]]:
    """Coefficients of normal equations, with their standard errors: infinite for those that come together."""
    if not len(b):
        return []
    scale = np.sqrt(np.diag(a))
    correlations, target = a / np.outer(scale, scale), b / scale
    values, vectors = np.linalg.eigh(correlations)
    good = values > ALIKE
    inverse = (vectors[:, good] / values[good]) @ vectors[:, good].T
    vague = (np.abs(vectors[:, ~good]) > 1e-3).any(axis=1) if (~good).any() else np.zeros(len(b), bool)
    first = inverse @ target
    left = max(square - float(first @ target), 0.0) / max(trials - len(b), 1.0)
    errors = np.where(vague, np.inf, np.sqrt(left * np.diag(inverse))) / scale
    # those below zero are left out, the worst first, so that the others take over what is theirs
    kept, x = list(range(len(b))), first
    while (x[kept] < 0).any():
        kept.remove(min(kept, key=lambda i: x[i]))
        x = np.zeros(len(b))
        if kept:
            x[kept] = np.linalg.lstsq(correlations[np.ix_(kept, kept)], target[kept], rcond=None)[0]
    return [(float(value), float(error)) for value, error in zip(x / scale, errors, strict=True)]
