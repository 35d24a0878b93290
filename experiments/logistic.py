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
    """The largest penalty that predicts out of fold about as well as the best, and its predictions [n], in (0, 1).

    "About": its log-likelihood is less by no more than one standard error of the difference, row by row. Of models
    that predict alike the tamest one is less likely to go wild on problems of another kind. Folds are by row number,
    so equal data give equal folds.
    """
    folds = np.arange(len(x)) % min(FOLDS, len(x))
    predictions = {penalty: _out_of_fold(x, right, drawn, penalty, folds) for penalty in PENALTIES}
    likelihoods = {penalty: _likelihoods(p, right, drawn) for penalty, p in predictions.items()}
    best = max(likelihoods.values(), key=lambda rows: float(rows.sum()))
    lost = {penalty: best - rows for penalty, rows in likelihoods.items()}
    chosen = max(p for p, rows in lost.items() if rows.sum() <= rows.std() * len(rows) ** 0.5)
    return chosen, predictions[chosen]


def _out_of_fold(x: np.ndarray, right: np.ndarray, drawn: np.ndarray, penalty: float, folds: np.ndarray) -> np.ndarray:
    predictions = np.zeros(len(x))
    for fold in np.unique(folds):
        out = folds == fold
        theta = fit(x[~out], right[~out], drawn[~out], penalty)
        predictions[out] = sigmoid(theta[0] + x[out] @ theta[1:])
    return predictions


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def _likelihoods(p: np.ndarray, right: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(right * np.log(p) + (drawn - right) * np.log1p(-p))


def _objective(design: np.ndarray, right: np.ndarray, drawn: np.ndarray, ridge: np.ndarray, theta: np.ndarray) -> float:
    x = design @ theta
    likelihood = -(right * np.logaddexp(0, -x) + (drawn - right) * np.logaddexp(0, x)).sum()
    return float(likelihood - theta @ ridge @ theta / 2)
