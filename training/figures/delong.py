"""Whether two models that scored the same films differ in AUC by more than chance. Reads scores, nothing else."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import ManifestError

Floats = NDArray[np.floating[Any]]
Truth = NDArray[np.int64]

TWO_SIDED_95 = NormalDist().inv_cdf(0.975)


def delong(scores_a: Floats, scores_b: Floats, truth: Truth) -> tuple[float, float, float, float]:
    """AUC of A less AUC of B on the same (n,) films, its 95 % interval (low, high), and the two-sided p.

    DeLong, DeLong, Clarke-Pearson, Biometrics 1988, by the midranks of Sun and Xu, IEEE Signal Processing Letters
    2014: n log n, not n squared. It takes every film as independent of the others.

    Raises:
        ManifestError: fewer than two films of a class, or a score that is not finite.
    """
    both = np.stack([scores_a, scores_b]).astype(np.float64)
    positive = truth == 1
    with_it, without = int(positive.sum()), int((~positive).sum())
    if min(with_it, without) < 2:
        raise ManifestError(f"DeLong needs two films with and two without a finding (have {with_it} and {without})")
    if not np.isfinite(both).all():
        raise ManifestError("DeLong needs a finite score for every film")
    among_all = np.stack([_midranks(row) for row in both])
    among_positive = np.stack([_midranks(row[positive]) for row in both])
    among_negative = np.stack([_midranks(row[~positive]) for row in both])
    # each film's own part of the AUC: how often it stands on the right side of the other class
    of_positive = (among_all[:, positive] - among_positive) / without
    of_negative = 1 - (among_all[:, ~positive] - among_negative) / with_it
    first, second = of_positive.mean(axis=1)
    difference = float(first - second)
    variance = float(
        np.var(of_positive[0] - of_positive[1], ddof=1) / with_it
        + np.var(of_negative[0] - of_negative[1], ddof=1) / without
    )
    half = TWO_SIDED_95 * variance**0.5
    return difference, difference - half, difference + half, _p(difference, variance)


def _p(difference: float, variance: float) -> float:
    if variance == 0:  # both rank every pair alike, or one is right and one wrong on every pair
        return 1.0 if difference == 0 else 0.0
    return 2 * NormalDist().cdf(-abs(difference) / variance**0.5)


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, often = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(often) - (often - 1) / 2)[place])
