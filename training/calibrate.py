"""From logits to probabilities and operating points, on patients that the model had not seen, never on those that a
figure is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from models.bundle import Task
from models.scores import calibrated

CLEARLY = 0.9
"""A class of several is present above this score and absent below 1 less it; between, the image is not clearly one."""

Floats = NDArray[np.floating[Any]]
Truth = NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """A line per label, as bundle.json holds it."""

    task: Task
    method: Literal["platt", "temperature"]
    slope: tuple[float, ...]
    intercept: tuple[float, ...]

    def scores(self, logits: Floats) -> NDArray[np.float32]:
        """Logits (n, labels) to scores in [0, 1], as the node computes them."""
        slope, intercept = np.array(self.slope), np.array(self.intercept)
        return calibrated(np.asarray(logits, np.float32), task=self.task, slope=slope, intercept=intercept)


@dataclass(frozen=True)
class Point:
    """Score >= `threshold`: present; < `lower`: absent; between: undetermined."""

    threshold: float
    lower: float


def fitted(logits: Floats, targets: Truth, counted: NDArray[np.bool_], *, task: Task) -> Calibration:
    """The calibration that fits logits (n, labels) of patients, each by a model that had not seen them.

    Of each label only the counted rows take part; rows whose logits are not finite take no part at all.
    """
    rows = np.isfinite(logits).all(axis=1)
    labels = logits.shape[1]
    if task == "multiclass":
        some = rows & counted.all(axis=1)
        sharpness = temperature(logits[some], targets[some])
        return Calibration(task, "temperature", (sharpness,) * labels, (0.0,) * labels)
    lines = [platt(logits[some, k], targets[some, k]) for k in range(labels) for some in [rows & counted[:, k]]]
    return Calibration(task, "platt", tuple(a for a, _ in lines), tuple(b for _, b in lines))


def points(
    scores: Floats, targets: Truth, counted: NDArray[np.bool_], *, task: Task, sensitivity: float
) -> list[Point]:
    """An operating point for each label of scores (n, labels)."""
    if task == "multiclass":
        return [Point(CLEARLY, 1 - CLEARLY)] * scores.shape[1]
    rows = np.isfinite(scores).all(axis=1)
    return [
        operating_point(scores[some, k], targets[some, k], sensitivity=sensitivity)
        for k in range(scores.shape[1])
        for some in [rows & counted[:, k]]
    ]


def platt(logits: Floats, truth: Truth) -> tuple[float, float]:
    """Slope and intercept of a sigmoid, with Platt's smoothed targets (1999), which keep a separable set finite.

    Slope 0 where a higher logit is no sign of the label: every film then gets its frequency.
    """
    positive = int(truth.sum())
    negative = len(truth) - positive
    goal = np.where(truth == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # an unpenalised logistic fit to soft targets: each row counts as both classes, with the target as weight
    rows = np.concatenate([logits, logits]).astype(np.float64)[:, None]
    classes = np.repeat([1, 0], len(logits))
    line = LogisticRegression(C=1e10, max_iter=10_000, tol=1e-8)
    line.fit(rows, classes, sample_weight=np.concatenate([goal, 1 - goal]))
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    if slope > 0:
        return slope, intercept
    # ranked no better than chance: turning the order round would be learned from the films that it is judged by
    often = (positive + 1) / (len(truth) + 2)
    return 0.0, float(np.log(often / (1 - often)))


def temperature(logits: Floats, targets: Truth) -> float:
    """1/T for a softmax over classes (Guo et al. 2017). Targets are smoothed by one image of each class, which keeps a
    separable set finite."""
    n, labels = logits.shape
    goal = (targets * n + 1) / (n + labels)

    def loss(log_sharpness: float) -> float:
        z = logits.astype(np.float64) * np.exp(log_sharpness)
        z = z - z.max(axis=1, keepdims=True)
        return float(-(goal * (z - np.log(np.exp(z).sum(axis=1, keepdims=True)))).sum())

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))


def operating_point(scores: Floats, truth: Truth, *, sensitivity: float) -> Point:
    """Threshold with the largest sensitivity + specificity - 1 (Youden 1950), and the lower end of the undetermined
    band: the highest score at which `sensitivity` is reached, or the threshold when it is reached there already."""
    fpr, tpr, cuts = roc_curve(truth, scores, drop_intermediate=False)
    best = int(np.argmax(tpr - fpr))
    enough = int(np.argmax(tpr >= sensitivity))
    threshold = float(min(cuts[best], 1.0))
    return Point(threshold, min(threshold, float(cuts[enough])))
