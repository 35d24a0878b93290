"""Groups of texts that say the same: text vectors, and clusters of vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from search.errors import ConfigError

Embedding = Callable[[Sequence[str]], np.ndarray]
"""One vector per text, in order: an array of shape (texts, any). A sentence embedding of one's own fits in here."""

ROUNDING = 1e-9  # by which equal distances may differ


def words(texts: Sequence[str]) -> np.ndarray:
    """TF-IDF over words, numbers and single signs; rows have length 1, those of blank texts are 0."""
    return _tfidf([re.findall(r"\w+|[^\w\s]", text) for text in texts])


def characters(texts: Sequence[str]) -> np.ndarray:
    """TF-IDF over pieces of one to four characters; unlike `words` it sees their order."""
    plain = [" ".join(text.split()) for text in texts]
    return _tfidf([[text[i : i + n] for n in range(1, 5) for i in range(len(text) - n + 1)] for text in plain])


def _tfidf(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """Counts times ln((1 + texts) / (1 + texts with the term)) + 1, rows of length 1: as scikit-learn weighs them.

    Its vectorizer takes a hundred times as long for the few short texts of one expansion.
    """
    terms = {term: column for column, term in enumerate(sorted({term for text in texts for term in text}))}
    counts = np.zeros((len(texts), max(len(terms), 1)))
    for row, text in enumerate(texts):
        for term, count in Counter(text).items():
            counts[row, terms[term]] = count
    weights = counts * (np.log((1 + len(texts)) / (1 + (counts > 0).sum(axis=0))) + 1)
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    return np.divide(weights, lengths, out=np.zeros_like(weights), where=lengths > 0)


def cosine_distances(vectors: np.ndarray) -> np.ndarray:
    """1 - cosine of each pair of rows, in [0, 2]; a row of zeros is at 0 from another such row and at 1 from the rest.

    Raises ConfigError for vectors that are not one finite row per text.
    """
    vectors = np.asarray(vectors, dtype=float)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ConfigError("vectors", vectors.shape, "give an embedding that makes one row of finite numbers per text")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    distances = np.clip(1.0 - units @ units.T, 0.0, 2.0)
    empty = lengths[:, 0] == 0
    distances[np.ix_(empty, empty)] = 0.0
    np.fill_diagonal(distances, 0.0)
    return distances


def average_linkage(distances: np.ndarray, threshold: float) -> list[int]:
    """Labels 0, 1, ... by first appearance: the closest two groups are joined while they are within `threshold`.

    The distance of two groups is the mean over their pairs (agglomerative clustering with average linkage). Of pairs
    of groups equally close the first is joined first. With cosine distances a threshold of 0 joins equal vectors
    alone, and one of 2 joins everything.
    """
    groups = [[i] for i in range(len(distances))]
    apart = np.array(distances, dtype=float)
    np.fill_diagonal(apart, np.inf)
    while len(groups) > 1:
        a, b = sorted(np.unravel_index(np.argmin(np.round(apart, 12)), apart.shape))
        if not apart[a, b] <= threshold + ROUNDING:
            break
        n, m = len(groups[a]), len(groups[b])
        joined = (n * apart[a] + m * apart[b]) / (n + m)
        apart[a], apart[:, a] = joined, joined
        apart[a, a] = np.inf
        apart = np.delete(np.delete(apart, b, axis=0), b, axis=1)
        groups[a] += groups.pop(b)
    return by_first([next(g for g, group in enumerate(groups) if i in group) for i in range(len(distances))])


def kmeans(vectors: np.ndarray, k: int, *, starts: int = 10) -> list[int]:
    """Labels 0, 1, ... by first appearance of at most `k` groups of rows near their means (Lloyd's algorithm, best of
    `starts` k-means++ starts from a fixed seed: the same rows give the same groups).

    Equal rows are never parted; where fewer than `k` rows differ there are as many groups as different rows.
    """
    vectors = np.asarray(vectors, dtype=float)
    different, rows = np.unique(np.round(vectors, 12), axis=0, return_inverse=True)
    if len(different) <= k:
        return by_first(rows.ravel().tolist())
    from sklearn.cluster import KMeans

    with _threads().limit(limits=1, user_api="openmp"):  # a few rows: threads only wait for each other
        return by_first(KMeans(k, n_init=starts, random_state=0).fit(vectors).labels_.tolist())


@cache
def _threads() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def by_first(labels: Sequence[object]) -> list[int]:
    """The same groups, numbered 0, 1, ... in the order of their first members."""
    numbers: dict[object, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]
