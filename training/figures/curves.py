"""Curves and tables behind a figure: ROC with its band, precision and recall, calibration, threshold sweep.

Arrays in, arrays out; `report` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.figures import evaluate, metrics
from training.figures.evaluate import Patients
from training.figures.metrics import Floats, Truth

GRID = np.linspace(0, 1, 101)
SWEEP = tuple(round(0.05 * k, 2) for k in range(1, 20))
BAND_DRAWS = 200
"""Enough for a band that is drawn a few pixels wide; the figures' intervals take 1,000."""


@dataclass(frozen=True)
class Band:
    """A curve y over x, with a 95 % band by resampled patients."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Bin:
    """Films of similar score: their mean score, how many have the finding, with the 95 % interval of that part."""

    score: float
    frequency: float
    images: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Operating:
    """What one threshold would do: parts of 1, NaN where nothing is flagged (PPV) or everything (NPV).

    PPV and NPV are those of the films as they are, at their own share of positives.
    """

    threshold: float
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    accuracy: float
    flagged: float


def roc(scores: Floats, truth: Truth, *, groups: Patients, seed: int = 0) -> Band:
    """True positive rate over false positive rate, at 101 rates; the band is vertical."""
    x, y = _roc_points(*metrics.by_score(scores, truth, np.ones((1, len(truth)))))[0]
    draws = []
    for weights in evaluate.resamples(groups, seed=seed, repeats=BAND_DRAWS):
        positive, negative = metrics.by_score(scores, truth, weights)
        both = (positive.sum(axis=1) > 0) & (negative.sum(axis=1) > 0)
        draws += [np.interp(GRID, *line) for line in _roc_points(positive[both], negative[both])]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Band(GRID, np.interp(GRID, x, y), low, high)


def precision_recall(scores: Floats, truth: Truth) -> tuple[Floats, Floats]:
    """(recall, precision) at each distinct score, from the highest down."""
    positive, negative = (part[0, ::-1] for part in metrics.by_score(scores, truth, np.ones((1, len(truth)))))
    found, flagged = np.cumsum(positive), np.cumsum(positive + negative)
    return found / found[-1], found / flagged


def calibration(scores: Floats, truth: Truth, *, groups: Patients, seed: int = 0) -> list[Bin]:
    """Bins of equal count, lowest score first; the same bins as `metrics.calibration_error`."""
    found = []
    for rows in metrics.bins(scores):
        values = truth[rows].astype(np.float64)
        share = evaluate.figure("", metrics.mean, values, truth=truth[rows], groups=groups[rows], on="", seed=seed)
        found.append(Bin(float(scores[rows].mean()), share.value, len(rows), share.low, share.high))
    return found


def sweep(scores: Floats, truth: Truth, thresholds: Sequence[float] = SWEEP) -> list[Operating]:
    """One row per threshold, at or above which a film is flagged."""
    return [_operating(t, scores >= t, truth == 1) for t in thresholds]


def confusion(flagged: evaluate.Flags, truth: Truth) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives."""
    is_so = truth == 1
    counts = (flagged & is_so, flagged & ~is_so, ~flagged & is_so, ~flagged & ~is_so)
    tp, fp, fn, tn = (int(c.sum()) for c in counts)
    return tp, fp, fn, tn


def crossed(scores: Floats, truth: Truth) -> Truth:
    """Of exclusive labels: counts (true label, label with the highest score)."""
    found = np.zeros((scores.shape[1],) * 2, np.int64)
    np.add.at(found, (truth.argmax(axis=1), scores.argmax(axis=1)), 1)
    return found


def _roc_points(positive: Floats, negative: Floats) -> list[tuple[Floats, Floats]]:
    """False and true positive rates of each draw, from (0, 0) to (1, 1)."""
    lines = []
    for tp, fp in zip(positive[:, ::-1], negative[:, ::-1], strict=True):
        rates = [np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in (fp, tp)]
        lines.append((rates[0], rates[1]))
    return lines


def _operating(threshold: float, flagged: evaluate.Flags, positive: evaluate.Flags) -> Operating:
    tp, fp, fn, tn = confusion(flagged, positive.astype(np.int64))
    return Operating(
        threshold,
        sensitivity=tp / (tp + fn),
        specificity=tn / (tn + fp),
        ppv=tp / (tp + fp) if tp + fp else float("nan"),
        npv=tn / (tn + fn) if tn + fn else float("nan"),
        accuracy=(tp + tn) / len(flagged),
        flagged=(tp + fp) / len(flagged),
    )
