"""Who is trained on and who is not: always whole patients. Never splits a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from training.errors import ManifestError
from training.manifest import Manifest

Indices = NDArray[np.intp]
TEST_PART = "test"


@dataclass(frozen=True)
class Fold:
    """Indices into a manifest. `held` is never trained on and counts in the figures; `validation`, where a fold has
    one, stops the training and fits the calibration."""

    train: Indices
    held: Indices
    validation: Indices | None = None


def plan(manifest: Manifest, count: int, *, seed: int) -> list[Fold]:
    """`count` folds of a cross-validation by patient; or, for 1, one split into train, validation and test.

    Where the source has a test part of its own, that is the test of a single split; what looks like one of its films
    is then in no part.

    Raises:
        ManifestError: fewer patients than folds, a source's own parts share patients, or a label too rare for a fold.
    """
    found = _planned(manifest, count, seed)
    for number, fold in enumerate(found):
        others = [fold.validation] if fold.validation is not None else [f.held for f in found if f is not fold]
        _told_apart(manifest, fold.train, f"train fold {number + 1}")
        _told_apart(manifest, np.concatenate(others), f"set the thresholds of fold {number + 1}")
    return found


def _planned(manifest: Manifest, count: int, seed: int) -> list[Fold]:
    if count > 1:
        return [Fold(train, held) for train, held in folds(manifest, count, seed=seed)]
    own = np.array([item.part == TEST_PART for item in manifest.items])
    if own.any():
        rest, test = np.flatnonzero(~own), np.flatnonzero(own & manifest.evaluated)
        named = np.array([item.group for item in manifest.items])
        if shared := set(named[rest]) & set(named[test]):
            raise ManifestError(f"the source's own test part shares {len(shared)} patients with its training part")
        # a film that looks like one of the test part is not trained on, whoever it is said to be of
        rest = rest[~np.isin(manifest.groups[rest], manifest.groups[test])]
    else:
        rest, test = folds(manifest, 5, seed=seed)[0]
    train, validation = folds(manifest, 8, seed=seed + 1, within=rest)[0]
    return [Fold(train, test, validation)]


def _told_apart(manifest: Manifest, rows: Indices, what: str) -> None:
    """Nothing is learned of a label that all counted images have, or none: better said before the training."""
    for k, label in enumerate(manifest.labels):
        shown = manifest.targets[rows, k][manifest.counted[rows, k]]
        if len(set(shown.tolist())) < 2:
            raise ManifestError(
                f"{label}: {shown.sum()} of {len(shown)} images that {what} have it; both kinds are needed: take other "
                "folds, or more patients"
            )


def folds(manifest: Manifest, count: int, *, seed: int, within: Indices | None = None) -> list[tuple[Indices, Indices]]:
    """(train, held out) for each of `count` folds; every evaluated item is held out once, with its whole group.

    Items that are only trained on join the training side unless their group is held out. `within` leaves all other
    items out altogether.
    """
    every = np.arange(len(manifest.items))
    usable = np.isin(every, within) if within is not None else np.full(len(every), True)
    evaluated = np.flatnonzero(manifest.evaluated & usable)
    groups, strata = manifest.groups, _common(manifest.strata[evaluated], count)
    patients = len(set(groups[evaluated]))
    if patients < count:
        raise ManifestError(f"{patients} patients or single films are too few for {count} folds")
    parts = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    result = []
    for _, held in parts.split(evaluated, strata, groups[evaluated]):
        out = evaluated[held]
        result.append((np.flatnonzero(usable & ~np.isin(groups, groups[out])), out))
    return result


def _common(strata: NDArray[np.str_], count: int) -> NDArray[np.str_]:
    """Strata with fewer items than folds become one; where that is too small as well, it joins the largest."""
    names, often = np.unique(strata, return_counts=True)
    rare = np.isin(strata, names[often < count])
    return np.where(rare, "rare" if rare.sum() >= count else names[often.argmax()], strata)
