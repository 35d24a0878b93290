"""Calibration: monotone maps from what a verifier says to how often it is right, and their fits on labelled traces.

    python -m verifiers.curves scored.jsonl --how isotonic --out curve.json

reads rows {"score": in [0, 1], "label": true or false} and writes a curve for `calibration=` of a reward model, or for
`verifiers.combine.Rescaled` around any verifier. `experiments.processbench` writes such rows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from search.errors import ConfigError

EDGE = 1e-6  # by which probabilities are kept from 0 and 1 where a logit is taken


class Curve(Protocol):
    """Maps a value in [0, 1] to one in [0, 1], never lower for a higher one."""

    def __call__(self, value: float) -> float: ...


@dataclass(frozen=True)
class Same:
    """Changes nothing."""

    def __call__(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class Temperature:
    """sigmoid(logit(value) / temperature + bias), after Platt (1999) and Guo et al. (2017).

    Attributes:
        temperature: above 0; above 1 makes values less extreme.
        bias: of the logit.
    """

    temperature: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError("temperature", self.temperature, "give a number above 0")
        if not math.isfinite(self.bias):
            raise ConfigError("bias", self.bias, "give a finite number")

    def __call__(self, value: float) -> float:
        x = float(_logit(value)) / self.temperature + self.bias
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


@dataclass(frozen=True)
class Isotonic:
    """Linear between fitted points, constant beyond them (Zadrozny and Elkan 2002).

    Attributes:
        x: values, rising.
        y: what they become, in [0, 1], never falling.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = tuple(map(float, self.x)), tuple(map(float, self.y))
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)
        if not x or len(x) != len(y) or any(a >= b for a, b in zip(x, x[1:], strict=False)):
            raise ConfigError("x", x, "give as many rising numbers as there are in y")
        if any(a > b for a, b in zip(y, y[1:], strict=False)) or not (y[0] >= 0 and y[-1] <= 1):
            raise ConfigError("y", y, "give numbers in [0, 1] that never fall")

    def __call__(self, value: float) -> float:
        return float(np.interp(value, self.x, self.y))


KINDS: Mapping[str, Callable[..., Curve]] = {"temperature": Temperature, "isotonic": Isotonic}


def curve_of(given: Curve | Mapping[str, Any] | str | None) -> Curve:
    """The curve; that of a file or its content (kind and fields); `Same` for None. Raises ConfigError."""
    if given is None:
        return Same()
    if isinstance(given, str):
        try:
            content = json.loads(Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError("calibration", given, f"it is no file of a fitted curve ({error})") from error
        return curve_of(content)
    if not isinstance(given, Mapping):
        return given
    fields = dict(given)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError("calibration", dict(given), f"its kind is one of {', '.join(KINDS)}")
    try:
        return KINDS[kind](**fields)
    except TypeError as error:
        raise ConfigError("calibration", dict(given), str(error)) from error


def fit_temperature(scores: Sequence[float], labels: Sequence[bool]) -> Temperature:
    """The curve of largest likelihood. Raises ConfigError unless there are labels of both kinds and scores differ."""
    x, y = _logit(_both(scores, labels)), np.asarray(labels, float)
    if np.ptp(x) == 0:
        raise ConfigError("scores", float(scores[0]), "all scores are equal: nothing can be fitted")
    weight = np.array([1.0, 0.0])
    design = np.stack((x, np.ones_like(x)), 1)
    prior = 1e-9  # of the weights, so that separable labels have a solution
    for _ in range(200):  # Newton's method with halving: the loss is convex
        p = _sigmoid(design @ weight)
        gradient = design.T @ (p - y) + prior * weight
        curvature = (design * (p * (1 - p))[:, None]).T @ design + prior * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-8 and _loss(design, y, weight - size * step, prior) > _loss(design, y, weight, prior):
            size /= 2
        weight = weight - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    if not weight[0] > 0:
        raise ConfigError("scores", None, "higher scores are wrong more often: no temperature mends that")
    return Temperature(float(1 / weight[0]), float(weight[1]))


def fit_isotonic(scores: Sequence[float], labels: Sequence[bool]) -> Isotonic:
    """Least squares under monotony, by pooling adjacent violators (Ayer et al. 1955); points at the pools' means."""
    x = _both(scores, labels)
    order = np.argsort(x, kind="stable")
    pools: list[list[float]] = []  # weight, sum of scores, sum of labels
    for score, label in zip(x[order], np.asarray(labels, float)[order], strict=True):
        pool = [1.0, float(score), float(label)]
        if pools and pools[-1][1] / pools[-1][0] == pool[1]:  # equal scores are one point
            pool = [a + b for a, b in zip(pools.pop(), pool, strict=True)]
        pools.append(pool)
    merged: list[list[float]] = []
    for pool in pools:
        merged.append(pool)
        while len(merged) > 1 and merged[-2][2] / merged[-2][0] >= merged[-1][2] / merged[-1][0]:
            last = merged.pop()
            merged[-1] = [a + b for a, b in zip(merged[-1], last, strict=True)]
    return Isotonic(tuple(s / w for w, s, _ in merged), tuple(min(t / w, 1.0) for w, _, t in merged))


FITS: Mapping[str, Callable[[Sequence[float], Sequence[bool]], Curve]] = {
    "temperature": fit_temperature,
    "isotonic": fit_isotonic,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits a curve; the exit status: 2 for a wrong setting."""
    parser = argparse.ArgumentParser(prog="verifiers.curves", description="Fits a verifier's calibration.")
    parser.add_argument("rows", type=Path, help='JSON lines {"score", "label"}')
    parser.add_argument("--how", choices=sorted(FITS), default="isotonic")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        rows = [json.loads(line) for line in given.rows.read_text(encoding="utf-8").splitlines() if line.strip()]
        scores, labels = [float(row["score"]) for row in rows], [bool(row["label"]) for row in rows]
        curve: Any = FITS[given.how](scores, labels)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"rows={str(given.rows)!r} is not valid: {error}\n")
        return 2
    given.out.write_text(json.dumps({"kind": given.how, **asdict(curve)}) + "\n", encoding="utf-8")
    sys.stdout.write(f"{curve}\n")
    return 0


def _both(scores: Sequence[float], labels: Sequence[bool]) -> np.ndarray:
    x = np.asarray(scores, float)
    if len(x) != len(labels) or len(set(map(bool, labels))) < 2:
        raise ConfigError("labels", len(labels), "give one per score, and both right and wrong ones")
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ConfigError("scores", float(x[~((x >= 0) & (x <= 1))][0]), "give numbers in [0, 1]")
    return x


def _logit(value: float | np.ndarray) -> np.ndarray:
    p = np.clip(value, EDGE, 1 - EDGE)
    return np.log(p) - np.log1p(-p)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))


def _loss(design: np.ndarray, y: np.ndarray, weight: np.ndarray, prior: float) -> float:
    x = design @ weight
    return float((np.logaddexp(0, x) - y * x).sum() + prior / 2 * weight @ weight)


if __name__ == "__main__":
    sys.exit(main())
