"""What a model is trained on: one row per image, with its patient. Reads no pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Item:
    """One image. `targets` holds 0 or 1 for each label of the manifest; `patient` is "" where the source has none.

    An item with `evaluate` False is only ever trained on, never counted in a figure.
    """

    path: Path
    targets: tuple[int, ...]
    source: str
    patient: str = ""
    view: str = ""
    evaluate: bool = True

    @property
    def group(self) -> str:
        """What must stay on one side of a split."""
        return f"{self.source}/{self.patient or self.path.name}"


@dataclass(frozen=True)
class Manifest:
    """`labels` in the order of each item's targets."""

    labels: tuple[str, ...]
    items: tuple[Item, ...]

    @property
    def targets(self) -> NDArray[np.int64]:
        """(items, labels) of 0 and 1."""
        return np.array([item.targets for item in self.items], np.int64)

    @property
    def groups(self) -> NDArray[np.str_]:
        return np.array([item.group for item in self.items])

    @property
    def evaluated(self) -> NDArray[np.bool_]:
        return np.array([item.evaluate for item in self.items])

    @property
    def strata(self) -> NDArray[np.str_]:
        """What a split keeps in proportion: source and targets."""
        return np.array([f"{item.source}:{item.targets}" for item in self.items])

    def digest(self) -> str:
        """SHA-256 over every file's name, bytes, targets and patient: the same digest is the same training data."""
        total = hashlib.sha256()
        for item in sorted(self.items, key=lambda i: (i.source, i.path.name)):
            content = hashlib.sha256(item.path.read_bytes()).hexdigest()
            row = (item.source, item.path.name, content, item.targets, item.patient, item.evaluate)
            total.update(repr(row).encode())
        return total.hexdigest()
