"""The dense layer on top of features that stay as they are.

It is the exact optimum of a convex problem, so that two runs with the same features give the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float32]


def head(
    x: Floats, targets: NDArray[np.floating[Any]], *, exclusive: bool, strength: float, balance: Sequence[str]
) -> tuple[Floats, Floats]:
    """Logistic regression with ridge penalty on standardised features; the standardisation goes into the weights.

    `x` (n, features), `targets` (n, labels): with `exclusive` one label each (softmax), otherwise a regression for
    each label. `strength` is the inverse penalty (C). Classes weigh the same, and within a class the strata that
    `balance` names for each row. Gives kernel (features, labels) and bias (labels).
    """
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = (x - mean) / deviation
    if exclusive:
        coefficients, intercepts = _fit(z, targets.argmax(axis=1), strength, balance)
        # of two classes scikit-learn gives the second's line alone
        columns = [(np.r_[-coefficients, coefficients] / 2, np.r_[-intercepts, intercepts] / 2)]
        columns = columns if len(intercepts) == 1 else [(coefficients, intercepts)]
    else:
        columns = [_fit(z, np.rint(column).astype(np.int64), strength, balance) for column in targets.T]
    coefficients, intercepts = (np.concatenate(part) for part in zip(*columns, strict=True))
    kernel = (coefficients / deviation).T
    bias = intercepts - mean @ kernel
    return np.asarray(kernel, np.float32), np.asarray(bias, np.float32)


def _fit(z: Floats, classes: NDArray[np.int64], strength: float, balance: Sequence[str]) -> tuple[Floats, Floats]:
    found = LogisticRegression(C=strength, max_iter=5000)
    found.fit(z, classes, sample_weight=_weights(classes, balance))
    return found.coef_, found.intercept_


def _weights(classes: NDArray[np.int64], balance: Sequence[str]) -> NDArray[np.float64]:
    strata = np.char.add(np.char.add(classes.astype(str), "/"), np.asarray(balance, str))
    weights = np.ones(len(classes))
    for c in np.unique(classes):
        names, counts = np.unique(strata[classes == c], return_counts=True)
        for name, count in zip(names, counts, strict=True):
            weights[strata == name] = 1 / (len(names) * count)
    return np.asarray(weights * len(classes) / weights.sum())
