"""What is audited: films, their rows of the manifest, the folds, and which labels can be judged. Judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.cache import Films
from training.errors import ManifestError
from training.manifest import NO_FINDING, Manifest
from training.split import Indices

Floats = NDArray[np.floating[Any]]
Parts = Sequence[tuple[Indices, Indices]]


@dataclass(frozen=True)
class Subject:
    """`parts`: (train, held out) indices into the manifest; a row is held out at most once."""

    manifest: Manifest
    films: Films
    parts: Parts

    def __post_init__(self) -> None:
        n = len(self.manifest.items)
        if not n == len(self.films.pixels) == len(self.films.shapes) == len(self.films.digests):
            raise ManifestError(f"{n} items need as many films, shapes and digests (have {len(self.films.pixels)})")
        often = np.bincount(np.concatenate([held for _, held in self.parts]), minlength=n)
        if often.max() > 1:
            raise ManifestError(f"{(often > 1).sum()} films are held out in several folds")

    @property
    def held(self) -> NDArray[np.bool_]:
        """(n,) whether some fold leaves the row out."""
        return np.isin(np.arange(len(self.manifest.items)), np.concatenate([held for _, held in self.parts]))

    def rows(self, label: int) -> Indices:
        """The rows that a label's figure is made of."""
        return np.flatnonzero(self.manifest.counted[:, label] & self.held)

    def truth(self, label: int) -> NDArray[np.int64]:
        return np.asarray(self.manifest.targets[:, label])

    @property
    def mirrored(self) -> bool:
        """Two labels of which each film bears one: what is said of the first is true of the second."""
        targets, counted = self.manifest.targets, self.manifest.counted
        return len(self.manifest.labels) == 2 and bool((targets.sum(axis=1) == 1).all() and counted.all())

    @property
    def judged(self) -> list[int]:
        """Labels with two films of each class on the training side of each fold and among the held-out films."""
        found = []
        for k in range(1 if self.mirrored else len(self.manifest.labels)):
            truth, counted = self.truth(k), self.manifest.counted[:, k]
            sides = [self.rows(k), *(train[counted[train]] for train, _ in self.parts)]
            if all(1 < truth[side].sum() < len(side) - 1 for side in sides):
                found.append(k)
        return found

    @property
    def unjudged(self) -> list[str]:
        """Labels with too few films to say anything of them."""
        known = {0, 1} if self.mirrored and self.judged else set(self.judged)
        return [name for k, name in enumerate(self.manifest.labels) if k not in known]

    def others(self, label: int) -> str:
        """What the films without a label are, in words that follow "films with"."""
        if self.mirrored:
            return self.manifest.labels[1 - label]
        rows = self.rows(label)
        plain = [self.manifest.items[i].labels == {NO_FINDING} for i in rows if not self.truth(label)[i]]
        return NO_FINDING if all(plain) else f"no {self.manifest.labels[label]}"


def words(values: Mapping[str, float], *, what: str = "AUC") -> str:
    """ "AUC 0.93 for Mass", or the highest three, the lowest, and how many lie between."""
    ordered = [f"{value:.2f} for {name}" for name, value in sorted(values.items(), key=lambda pair: -pair[1])]
    if len(ordered) > 5:
        ordered[3:-1] = [f"{len(ordered) - 4} more between"]
    return f"{what} {', '.join(ordered)}"
