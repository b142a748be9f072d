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
    """Indices into the manifest. Items that are only trained on appear in `train` alone."""

    train: Indices
    validation: Indices
    test: Indices


def folds(manifest: Manifest, count: int, *, seed: int) -> list[tuple[Indices, Indices]]:
    """(train, held out) for each of `count` folds; every evaluated item is held out once, with its whole group.

    Items that are only trained on join the training side unless their group is held out.
    """
    evaluated = np.flatnonzero(manifest.evaluated)
    groups, strata = manifest.groups, manifest.strata
    parts = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    result = []
    for _, held in parts.split(evaluated, strata[evaluated], groups[evaluated]):
        out = evaluated[held]
        result.append((np.flatnonzero(~np.isin(groups, groups[out])), out))
    return result


def by_group(manifest: Manifest, *, seed: int, parts: int = 5) -> Split:
    """One part each for test and validation, the rest for training, by whole groups."""
    cut = folds(manifest, parts, seed=seed)
    test, validation = cut[0][1], cut[1][1]
    train = np.intersect1d(cut[0][0], cut[1][0])
    return Split(train, validation, test)
