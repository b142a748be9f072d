"""From logits to probabilities and operating points, on patients that the head had not seen, never on the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from models.scores import calibrated
from training.train import Head

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Classifier:
    """A head and its calibration: what the node will compute from features."""

    head: Head
    task: Literal["binary", "multiclass"]
    method: Literal["platt", "temperature"]
    slope: tuple[float, ...]
    intercept: tuple[float, ...]

    def scores(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, features) to calibrated (n, labels)."""
        return self.calibrated(self.head.logits(x))

    def calibrated(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, labels) to calibrated scores."""
        slope, intercept = np.array(self.slope), np.array(self.intercept)
        return calibrated(logits, task=self.task, slope=slope, intercept=intercept)


def classifier(head: Head, held: Floats, truth: NDArray[np.int64], *, task: str) -> Classifier:
    """A head with the calibration that fits `held`: logits of patients, each by a head that had not seen them.

    `truth` is 1 where the first label is present; of two labels `held` is the first's logit less the second's.
    """
    if task == "binary":
        slope, intercept = platt(held, truth)
        return Classifier(head, "binary", "platt", (slope,), (intercept,))
    sharpness = temperature(held, truth)
    return Classifier(head, "multiclass", "temperature", (sharpness, sharpness), (0.0, 0.0))


def platt(logits: Floats, truth: NDArray[np.int64]) -> tuple[float, float]:
    """Slope and intercept of a sigmoid, with Platt's smoothed targets (1999), which keep a separable set finite."""
    line = _line(logits, truth, intercept=True)
    return float(line.coef_[0, 0]), float(line.intercept_[0])


def temperature(gap: Floats, truth: NDArray[np.int64]) -> float:
    """1/T for a softmax over two classes whose logits differ by `gap`. Smoothed as in `platt`."""
    return float(_line(gap, truth, intercept=False).coef_[0, 0])


def operating_point(scores: Floats, truth: NDArray[np.int64], *, sensitivity: float) -> tuple[float, float]:
    """Threshold with the largest sensitivity + specificity - 1 (Youden 1950), and the lower end of the undetermined
    band: the highest score at which `sensitivity` is reached, or the threshold when it is reached there already."""
    fpr, tpr, cuts = roc_curve(truth, scores)
    best = int(np.argmax(tpr - fpr))
    enough = int(np.argmax(tpr >= sensitivity))
    threshold = float(min(cuts[best], 1.0))
    return threshold, min(threshold, float(cuts[enough]))


def _line(logits: Floats, truth: NDArray[np.int64], *, intercept: bool) -> Any:
    """An unpenalised logistic fit to soft targets: each row counts as both classes, with the target as weight."""
    goal = _smoothed(truth)
    rows = np.concatenate([logits, logits]).astype(np.float64)[:, None]
    classes = np.repeat([1, 0], len(logits))
    fit = LogisticRegression(C=1e10, fit_intercept=intercept, max_iter=10_000, tol=1e-8)
    return fit.fit(rows, classes, sample_weight=np.concatenate([goal, 1 - goal]))


def _smoothed(truth: NDArray[np.int64]) -> NDArray[np.float64]:
    positive = int(truth.sum())
    negative = len(truth) - positive
    return np.where(truth == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
