"""From a network's raw outputs to calibrated scores, and from its features to a distance from what it knows.

Pure numpy, used by the predictor and by training's evaluation alike, so that a reported figure and a delivered
score are the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def calibrated(logits: Floats, *, task: str, slope: NDArray[np.float64], intercept: NDArray[np.float64]) -> Floats:
    """Scores in [0, 1], same shape as `logits` (n, labels).

    binary and multilabel: Platt scaling, sigmoid(slope * logit + intercept) per label (Platt 1999). multiclass:
    softmax of the same line; equal slopes 1/T and no intercepts are temperature scaling (Guo et al. 2017).
    """
    z = logits.astype(np.float64) * slope + intercept
    if task == "multiclass":
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True), np.float32)
    return np.asarray(0.5 * (1 + np.tanh(z / 2)), np.float32)


def kept(outputs: Floats, columns: Sequence[int], *, exclusive: bool) -> Floats:
    """Some of a network's raw outputs (n, outputs) as logits (n, columns), so that their sigmoid is their score.

    `exclusive`: all outputs share one softmax. The logit is then that of the column against all others together,
    log(p / (1 - p)) of its softmax score p.
    """
    if not exclusive:
        return outputs[:, columns]
    z = outputs.astype(np.float64)
    others = [np.logaddexp.reduce(np.delete(z, k, axis=1), axis=1) for k in columns]
    return np.asarray(z[:, columns] - np.stack(others, axis=1), np.float32)


@dataclass(frozen=True)
class Reference:
    """The features that a network was shown, as one Gaussian per class with a shrunk covariance.

    Of each class: `mean` (features), `basis` (dimensions, features), `scale` (dimensions) along the basis and `rest`
    across it. They are scaled so that each class ends at distance 1.
    """

    mean: Floats
    basis: Floats
    scale: Floats
    rest: Floats

    @classmethod
    def load(cls, path: Path) -> Reference:
        with np.load(path, allow_pickle=False) as file:
            return cls(*(np.asarray(file[name], np.float32) for name in ("mean", "basis", "scale", "rest")))

    def save(self, path: Path) -> None:
        np.savez_compressed(path, **asdict(self))

    def distance(self, features: Floats, classes: NDArray[np.intp]) -> Floats:
        """Mahalanobis distance of (n, features) to the class that each was given (Lee et al. 2018).

        Of features scaled to length 1: their length follows the contrast of the film more than what it shows.
        """
        length = np.linalg.norm(features, axis=1, keepdims=True)
        unit = features / np.maximum(length, 1e-6)
        squared = np.zeros(len(features), np.float32)
        for k in np.unique(classes):
            gap = unit[classes == k] - self.mean[k]
            along = gap @ self.basis[k].T
            across = np.maximum((gap**2).sum(axis=1) - (along**2).sum(axis=1), 0)
            squared[classes == k] = ((along * self.scale[k]) ** 2).sum(axis=1) + across * self.rest[k] ** 2
        return np.asarray(np.sqrt(squared), np.float32)
