"""What a figure measures, as arithmetic on weighted rows.

Every metric takes `scores` (n,), `truth` (n,) of 0 and 1, and `weights` (draws, n): how often each draw holds each
row. It gives (draws,) values, NaN where the draw leaves it undefined. Draws nothing itself; `evaluate` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10

Floats = NDArray[np.floating[Any]]
Truth = NDArray[np.int64]
Metric = Callable[[Floats, Truth, Floats], Floats]


def auc(scores: Floats, truth: Truth, weights: Floats) -> Floats:
    """Area under the ROC curve: how often a positive outranks a negative, a tie counting half (Mann-Whitney)."""
    positive, negative = by_score(scores, truth, weights)
    below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def average_precision(scores: Floats, truth: Truth, weights: Floats) -> Floats:
    """Precision averaged over the positives, from the highest score down, without interpolation."""
    positive, negative = (part[:, ::-1] for part in by_score(scores, truth, weights))
    found, flagged = np.cumsum(positive, axis=1), np.cumsum(positive + negative, axis=1)
    return _ratio((positive * _ratio(found, flagged, empty=0.0)).sum(axis=1), positive.sum(axis=1))


def by_score(scores: Floats, truth: Truth, weights: Floats) -> tuple[Floats, Floats]:
    """Weights of the positives and of the negatives at each distinct score, ascending: (draws, distinct) each."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ordered = weights[:, order]
    every = np.add.reduceat(ordered, starts, axis=1)
    positive = np.add.reduceat(ordered * (truth[order] == 1), starts, axis=1)
    return positive, every - positive


def sensitivity(flagged: Floats, truth: Truth, weights: Floats) -> Floats:
    """Part of the positives that is flagged; `flagged` is 0 or 1."""
    return _mean(flagged, (truth == 1) * weights)


def specificity(flagged: Floats, truth: Truth, weights: Floats) -> Floats:
    """Part of the negatives that is not flagged; `flagged` is 0 or 1."""
    return _mean(1 - flagged, (truth == 0) * weights)


def accuracy(flagged: Floats, truth: Truth, weights: Floats) -> Floats:
    """Part of all rows whose flag is their truth; `flagged` is 0 or 1."""
    return _mean((flagged == truth).astype(np.float64), weights)


def mean(values: Floats, truth: Truth, weights: Floats) -> Floats:
    """The mean of a value per row; the truth does not matter."""
    return _mean(values, weights)


def ppv_at(prevalence: float) -> Metric:
    """How often a flagged film has the finding, where `prevalence` of the films have it (Bayes)."""

    def ppv(flagged: Floats, truth: Truth, weights: Floats) -> Floats:
        right = sensitivity(flagged, truth, weights) * prevalence
        return _ratio(right, right + (1 - specificity(flagged, truth, weights)) * (1 - prevalence))

    return ppv


def npv_at(prevalence: float) -> Metric:
    """How often a film that is not flagged is without the finding, where `prevalence` of the films have it (Bayes)."""

    def npv(flagged: Floats, truth: Truth, weights: Floats) -> Floats:
        right = specificity(flagged, truth, weights) * (1 - prevalence)
        return _ratio(right, right + (1 - sensitivity(flagged, truth, weights)) * prevalence)

    return npv


def brier(scores: Floats, truth: Truth, weights: Floats) -> Floats:
    """Mean squared distance of score and truth (Brier 1950); the frequency f as every score gives f (1 - f)."""
    return _mean((scores - truth) ** 2, weights)


def calibration_error(scores: Floats, truth: Truth, weights: Floats) -> Floats:
    """Expected calibration error over bins of equal count: mean distance of score and frequency.

    The bins are those of all rows, in every draw. It is biased upwards, the more the fewer the rows, and in a
    resample once more.
    """
    gaps = [np.abs(weights[:, rows] @ (scores[rows] - truth[rows])) for rows in bins(scores)]
    return _ratio(np.sum(gaps, axis=0), weights.sum(axis=1))


def bins(scores: Floats, count: int = BINS) -> list[NDArray[np.intp]]:
    """Rows by score in at most `count` bins of equal count, lowest first."""
    return [rows for rows in np.array_split(np.argsort(scores, kind="stable"), count) if len(rows)]


def _mean(values: Floats, weights: Floats) -> Floats:
    return _ratio(weights @ values.astype(np.float64), weights.sum(axis=1))


def _ratio(part: Floats, whole: Floats, *, empty: float = np.nan) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), empty), where=whole > 0))
