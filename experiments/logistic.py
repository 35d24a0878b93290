"""Logistic regression of shares with a ridge penalty, by Newton's method; and its penalty by cross-validation."""

from __future__ import annotations

import numpy as np

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)
FOLDS = 10


def fit(x: np.ndarray, right: np.ndarray, drawn: np.ndarray, penalty: float, rounds: int = 100) -> np.ndarray:
    """Bias and weights [1 + d] that maximise the binomial log-likelihood less penalty / 2 * |weights|^2.

    Args:
        x: [n, d], each column about of variance 1.
        right, drawn: [n], successes and trials.
        penalty: at least 0, on the weights and not on the bias.
    """
    design = np.hstack([np.ones((len(x), 1)), x])
    ridge = np.diag([1e-6, *([penalty] * x.shape[1])])  # the bias stays finite where all is right or wrong
    theta = np.zeros(design.shape[1])
    for _ in range(rounds):
        p = sigmoid(design @ theta)
        gradient = design.T @ (right - drawn * p) - ridge @ theta
        curvature = (design * (drawn * p * (1 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        while _objective(design, right, drawn, ridge, theta + step) < _objective(design, right, drawn, ridge, theta):
            step = step / 2
            if np.abs(step).max() < 1e-12:
                return theta
        theta = theta + step
        if np.abs(step).max() < 1e-9:
            break
    return theta


def cross_validated(x: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> tuple[float, np.ndarray]:
    """The penalty of the best likelihood out of fold, and its predictions out of fold [n], in (0, 1).

    Folds are by row number, so equal data give equal folds.
    """
    folds = np.arange(len(x)) % min(FOLDS, len(x))
    best = (-np.inf, PENALTIES[0], np.zeros(len(x)))
    for penalty in PENALTIES:
        predictions = np.zeros(len(x))
        for fold in np.unique(folds):
            out = folds == fold
            theta = fit(x[~out], right[~out], drawn[~out], penalty)
            predictions[out] = sigmoid(theta[0] + x[out] @ theta[1:])
        likelihood = _likelihood(predictions, right, drawn)
        if likelihood > best[0]:
            best = (likelihood, penalty, predictions)
    return best[1], best[2]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def _likelihood(p: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> float:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return float((right * np.log(p) + (drawn - right) * np.log1p(-p)).sum())


def _objective(design: np.ndarray, right: np.ndarray, drawn: np.ndarray, ridge: np.ndarray, theta: np.ndarray) -> float:
    x = design @ theta
    likelihood = -(right * np.logaddexp(0, -x) + (drawn - right) * np.logaddexp(0, x)).sum()
    return float(likelihood - theta @ ridge @ theta / 2)
