"""How well step values tell right steps from wrong ones: area under the curve, calibration, the first error.

A solution has one value per step and the index of its first wrong step (-1: none). Steps up to the first wrong one have
labels; what follows an error is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

BINS = 10
CUTS = np.linspace(0.01, 0.99, 99)  # thresholds tried


@dataclass(frozen=True)
class Scored:
    """A solution with the verifier's values.

    Attributes:
        key: of its problem, so that one half can choose what the other half is judged by.
        values: one in [0, 1] per step.
        first_error: 0-based; -1 where every step is right.
        text: of the solution; "" where it is not known, and then it counts as different from all others.
    """

    dataset: str
    key: str
    values: tuple[float, ...]
    first_error: int
    text: str = ""

    @property
    def labelled(self) -> list[tuple[float, bool]]:
        """Value and label of each step that has one."""
        end = len(self.values) if self.first_error < 0 else self.first_error + 1
        return [(value, i != self.first_error) for i, value in enumerate(self.values[:end])]


@dataclass(frozen=True)
class Quality:
    """What a table shows; None where it is not defined.

    Attributes:
        auc: chance that a right step has a higher value than a wrong one, ties half, over all problems together. Hard
            problems have more wrong steps, so this is high also for values that only tell hard from easy.
        within: the same among the steps of one problem, mean over the problems with both kinds.
        distinct: how many solutions are different from each other.
        error: expected calibration error: mean gap of value and share of right steps, over ten equal bins of values.
        f1: harmonic mean of `wrong` and `right`, as ProcessBench has it (Zheng et al. 2024, arXiv 2412.06559).
        wrong: share of the solutions with an error whose first step below the threshold is the first wrong one.
        right: share of the solutions without one that have no step below it.
        threshold: a step below it is called wrong; the mean of two where each half chose the other's.
    """

    solutions: int
    faulty: int
    distinct: int
    steps: int
    auc: float | None
    within: float | None
    error: float | None
    f1: float | None
    wrong: float | None
    right: float | None
    threshold: float


def quality(rows: Sequence[Scored], threshold: float | None = None) -> Quality:
    """Of at least one row. Without a threshold each half of the problems gets the one that is best on the other."""
    labelled = [pair for row in rows for pair in row.labelled]
    scores = np.array([value for value, _ in labelled])
    labels = np.array([label for _, label in labelled], bool)
    if threshold is None:
        halves = [[row for row in rows if half(row.key) == side] for side in (0, 1)]
        cuts = [best_threshold(halves[1] or rows), best_threshold(halves[0] or rows)]
        hits = [(row, found(row, cut)) for side, cut in zip(halves, cuts, strict=True) for row in side]
        threshold = float(np.mean(cuts))
    else:
        hits = [(row, found(row, threshold)) for row in rows]
    wrong = _share([hit for row, hit in hits if row.first_error >= 0])
    right = _share([hit for row, hit in hits if row.first_error < 0])
    return Quality(
        solutions=len(rows),
        faulty=sum(row.first_error >= 0 for row in rows),
        distinct=len({(row.key, row.text or i) for i, row in enumerate(rows)}),
        steps=len(labelled),
        auc=auc(scores, labels),
        within=within(rows),
        error=calibration_error(scores, labels) if len(scores) else None,
        f1=f1(wrong, right),
        wrong=wrong,
        right=right,
        threshold=threshold,
    )


def found(row: Scored, threshold: float) -> bool:
    """Whether the first step below the threshold is the first wrong one, or there is neither."""
    below = next((i for i, value in enumerate(row.values) if value < threshold), -1)
    return below == row.first_error


def f1(wrong: float | None, right: float | None) -> float | None:
    """The harmonic mean; None where one of the two kinds is missing."""
    if wrong is None or right is None:
        return None
    return 2 * wrong * right / (wrong + right) if wrong + right else 0.0


def best_threshold(rows: Sequence[Scored]) -> float:
    """Of `CUTS` the one with the largest F1, of equals the middle one; without both kinds, with the most hits."""

    def worth(cut: float) -> float:
        hits = [(row.first_error >= 0, found(row, cut)) for row in rows]
        both = f1(_share([hit for faulty, hit in hits if faulty]), _share([hit for faulty, hit in hits if not faulty]))
        return float(np.mean([hit for _, hit in hits])) if both is None else both

    worths = np.array([worth(float(cut)) for cut in CUTS])
    best = np.flatnonzero(worths >= worths.max() - 1e-12)
    return float(CUTS[best[len(best) // 2]])


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Of scores for labels, by ranks; None unless there are labels of both kinds."""
    good, bad = int(labels.sum()), int((~labels).sum())
    if not good or not bad:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # equal scores share the mean of their ranks
    return float((ranks[labels].sum() - good * (good + 1) / 2) / (good * bad))


def within(rows: Sequence[Scored]) -> float | None:
    """The mean over problems of the area among a problem's own steps; None where no problem has both kinds."""
    problems: dict[str, list[tuple[float, bool]]] = {}
    for row in rows:
        problems.setdefault(row.key, []).extend(row.labelled)
    areas = [
        auc(np.array([value for value, _ in pairs]), np.array([label for _, label in pairs], bool))
        for pairs in problems.values()
    ]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def calibration_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error over `BINS` equal bins of [0, 1] (Guo et al. 2017)."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = [abs(float((scores[bins == b] - labels[bins == b]).sum())) for b in range(BINS)]
    return sum(gaps) / len(scores)


def half(key: str) -> int:
    """0 or 1, by the problem."""
    return blake2b(key.encode(), digest_size=1).digest()[0] & 1


def _share(hits: Sequence[bool]) -> float | None:
    return float(np.mean(hits)) if hits else None
