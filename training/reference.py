"""Learns what a network knows (one Gaussian of its features per class, and where it ends) and counts refusals.

Only images of the classes themselves decide the limit; the network may have been trained on those films, also where
the Gaussian left them out. How images that it never saw the like of fare is told by those counted as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.scores import Reference

SHRINKAGE = 0.3
DIMENSIONS = 128
KEPT = 0.995
"""Of known films that took no part in the fit, this part is to be accepted."""

Due = Literal["accepted", "refused, of a trained kind", "refused, never shown the like"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Refusal:
    """How many images of one group are turned away: by distance alone, and by distance or score (the gate), and what
    should become of them."""

    group: str
    images: int
    unlike: float
    gate: float
    due: Due = "accepted"

    def __str__(self) -> str:
        return f"{self.group}: {self.images} images, unlike {self.unlike:.1%}, refused in all {self.gate:.1%}"


@dataclass(frozen=True)
class Shown:
    """What is known of one class: `films` are tables of features of the same films (plain, coarse ...), `more` of
    others that are always fitted to; each mask of `held` tells which films one fold leaves out."""

    films: Sequence[Floats]
    held: Sequence[NDArray[np.bool_]]
    more: Sequence[Floats] = ()


def learn(classes: Sequence[Shown]) -> Reference:
    """A reference whose limits come from images that it was not fitted to.

    The limit of a class is the KEPT quantile of its films' distances while they are left out.
    """
    limits = []
    for shown in classes:
        away = []
        for out in shown.held:
            alone = fit([np.concatenate([*(t[~out] for t in shown.films), *shown.more])])
            left = np.concatenate([t[out] for t in shown.films])
            away.append(alone.distance(left, np.zeros(len(left), np.intp)))
        limits.append(float(np.quantile(np.concatenate(away), KEPT)))
    return fit([np.concatenate([*shown.films, *shown.more]) for shown in classes], limits)


def fit(classes: Sequence[Floats], limits: Sequence[float] | None = None) -> Reference:
    """One Gaussian for each class's features (n, channels), of length 1 each.

    The covariance is (1 - 0.3) x sample + 0.3 x mean variance x identity, kept exactly along the first 128 principal
    directions and as one variance across them. `limits`: the distances that are to become 1.
    """
    parts = [_gaussian(x) for x in classes]
    widest = max(len(p[1]) for p in parts)
    basis = np.zeros((len(parts), widest, classes[0].shape[1]), np.float32)
    scale = np.zeros((len(parts), widest), np.float32)
    for k, (_, directions, along, _) in enumerate(parts):
        basis[k, : len(directions)], scale[k, : len(along)] = directions, along
    ends = np.asarray(limits if limits is not None else [1.0] * len(parts), np.float32)
    mean = np.stack([p[0] for p in parts]).astype(np.float32)
    rest = np.array([p[3] for p in parts], np.float32)
    return Reference(mean, basis, scale / ends[:, None], rest / ends)


def _gaussian(x: Floats) -> tuple[Floats, Floats, Floats, float]:
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)  # as `Reference.distance` does
    mean = unit.mean(axis=0)
    _, values, directions = np.linalg.svd(unit - mean, full_matrices=False)
    variance = values**2 / (len(x) - 1)
    channels = x.shape[1]
    identity = SHRINKAGE * variance.sum() / channels
    kept = min(DIMENSIONS, len(x) - 1, channels - 1)
    along = (1 - SHRINKAGE) * variance[:kept] + identity
    across = (1 - SHRINKAGE) * variance[kept:].sum() / (channels - kept) + identity
    return mean, directions[:kept], 1 / np.sqrt(along * channels), float(1 / np.sqrt(across * channels))
