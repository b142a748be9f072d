"""Who is trained on and who is not: always whole patients. Never splits a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from training.manifest import Manifest

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """Indices into the manifest. `test` took no part in any decision; `train` was trained on and, held out fold by
    fold (`parts`: train, held out), calibrated and cut on. Items that are never evaluated appear in `train` alone."""

    train: Indices
    test: Indices
    parts: list[tuple[Indices, Indices]]


def folds(manifest: Manifest, count: int, *, seed: int, within: Indices | None = None) -> list[tuple[Indices, Indices]]:
    """(train, held out) for each of `count` folds; every evaluated item is held out once, with its whole group.

    Items that are only trained on join the training side unless their group is held out. `within` leaves all other
    items out altogether.
    """
    usable = (
        np.isin(np.arange(len(manifest.items)), within) if within is not None else np.full(len(manifest.items), True)
    )
    evaluated = np.flatnonzero(manifest.evaluated & usable)
    groups, strata = manifest.groups, manifest.strata
    parts = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    result = []
    for _, held in parts.split(evaluated, strata[evaluated], groups[evaluated]):
        out = evaluated[held]
        result.append((np.flatnonzero(usable & ~np.isin(groups, groups[out])), out))
    return result


def by_group(manifest: Manifest, *, seed: int, parts: int = 5) -> Split:
    """One part in `parts` for the test, by whole groups; the rest for training, cut into `parts` folds again."""
    train, test = folds(manifest, parts, seed=seed)[0]
    return Split(train, test, folds(manifest, parts, seed=seed + 1, within=train))
