"""From logits to probabilities and operating points, on validation images only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from sklearn.metrics import roc_curve

Floats = NDArray[np.float32]


def platt(logits: Floats, truth: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and intercept of a sigmoid, with Platt's smoothed targets (1999), which keep a separable set finite."""
    z = logits.astype(np.float64)
    goal = _smoothed(truth)

    def loss(line: NDArray[np.float64]) -> float:
        y = line[0] * z + line[1]
        return float((np.logaddexp(0, y) - goal * y).mean())

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(slope), float(intercept)


def temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """1/T for a softmax over two classes; `truth` is the class index. Smoothed as in `platt`."""
    gap = (logits[:, 1] - logits[:, 0]).astype(np.float64)
    goal = _smoothed(truth)

    def loss(log_slope: float) -> float:
        y = np.exp(log_slope) * gap
        return float((np.logaddexp(0, y) - goal * y).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


def operating_point(scores: Floats, truth: NDArray[np.int64], *, sensitivity: float) -> tuple[float, float]:
    """Threshold with the largest sensitivity + specificity - 1 (Youden 1950), and the lower end of the undetermined
    band: the highest score at which `sensitivity` is reached, or the threshold when it is reached there already."""
    fpr, tpr, cuts = roc_curve(truth, scores)
    best = int(np.argmax(tpr - fpr))
    enough = int(np.argmax(tpr >= sensitivity))
    threshold = float(min(cuts[best], 1.0))
    return threshold, min(threshold, float(cuts[enough]))


def _smoothed(truth: NDArray[np.int64]) -> NDArray[np.float64]:
    positive = int(truth.sum())
    negative = len(truth) - positive
    return np.where(truth == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
