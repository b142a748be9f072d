"""Frozen features and the dense layer on top of them.

The head is the exact optimum of a convex problem, so that two runs with the same features give the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

BATCH = 16

Floats = NDArray[np.float32]


def features(backbone: Any, inputs: Iterable[Floats]) -> Floats:
    """Pooled features (n, channels) of preprocessed images, computed once in batches of 16."""
    import tensorflow as tf

    call = tf.function(lambda x: tf.reduce_mean(backbone(x, training=False), axis=(1, 2)))
    parts = []
    for batch in _batches(inputs):
        padded = np.zeros((BATCH, *batch[0].shape), np.float32)
        padded[: len(batch)] = batch
        parts.append(call(tf.constant(padded)).numpy()[: len(batch)])
    return np.concatenate(parts)


def _batches(inputs: Iterable[Floats]) -> Iterator[list[Floats]]:
    batch: list[Floats] = []
    for one in inputs:
        batch.append(one)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class Head:
    """A dense layer: `kernel` (features, labels), `bias` (labels)."""

    kernel: Floats
    bias: Floats

    def logits(self, x: Floats) -> Floats:
        return np.asarray(x @ self.kernel + self.bias, np.float32)


def fit_head(x: Floats, targets: NDArray[np.int64], *, strength: float, balance: Sequence[str] | None = None) -> Head:
    """Logistic regression with ridge penalty on standardised features; the standardisation goes into the weights.

    `strength` is the inverse penalty (C). Classes weigh the same; where `balance` names a stratum for each row,
    the strata within a class do too. One target column gives one logit; two that exclude each other give two.
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    classes = targets.argmax(axis=1) if targets.shape[1] > 1 else targets[:, 0]
    if targets.shape[1] > 2:
        raise ValueError("more than two classes are not trained yet")
    model = LogisticRegression(C=strength, max_iter=5000)
    model.fit((x - mean) / deviation, classes, sample_weight=_weights(classes, balance))
    w, b = model.coef_[0] / deviation, float(model.intercept_[0] - (model.coef_[0] * mean / deviation).sum())
    if targets.shape[1] == 1:
        return Head(np.asarray(w[:, None], np.float32), np.asarray([b], np.float32))
    return Head(np.asarray(np.stack([-w, w], axis=1) / 2, np.float32), np.asarray([-b / 2, b / 2], np.float32))


def _weights(classes: NDArray[np.int64], balance: Sequence[str] | None) -> NDArray[np.float64]:
    strata = np.array([f"{c}" if balance is None else f"{c}/{balance[i]}" for i, c in enumerate(classes)])
    weights = np.ones(len(classes))
    for c in np.unique(classes):
        names, counts = np.unique(strata[classes == c], return_counts=True)
        for name, count in zip(names, counts, strict=True):
            weights[strata == name] = 1 / (len(names) * count)
    return np.asarray(weights * len(classes) / weights.sum())
