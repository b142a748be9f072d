"""What a model is trained on: one row per image with its patient, and what each label says of it. Reads no pixels."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import ManifestError

COLUMNS = ("path", "source", "patient", "labels", "weak", "view", "age", "sex", "boxes", "digest")
NO_FINDING = "No Finding"
"""The label of a film that was read and on which nothing was found, in every source."""


@dataclass(frozen=True)
class Box:
    """Where a reader saw `label`: left, top, width and height as parts of the frame, 0 to 1."""

    label: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Item:
    """One image as its source describes it.

    `labels` are what the source says for sure, `weak` what it holds to be likely (text-mined). `patient` is "" where
    the source has none; `age` is in years; `sex` is F, M, O or ""; `view` PA, AP, LATERAL or "". `part` is the
    source's own split ("train", "test"), where it is to be kept.
    """

    path: Path
    source: str
    labels: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    patient: str = ""
    view: str = ""
    age: float | None = None
    sex: str = ""
    boxes: tuple[Box, ...] = ()
    part: str = ""

    def __post_init__(self) -> None:
        if NO_FINDING in self.labels and len(self.labels) > 1:
            others = ", ".join(sorted(self.labels - {NO_FINDING}))
            raise ManifestError(f"{self.path}: is labelled both {NO_FINDING} and {others}")

    @property
    def group(self) -> str:
        """What must stay on one side of a split. NIH's patients have the same numbers in all of its copies."""
        publisher = "nih" if self.source.startswith("nih") else self.source
        return f"{publisher}/{self.patient or self.film}"

    @property
    def film(self) -> str:
        """Names the image within its source."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Manifest:
    """Items, and for each the labels of one model.

    `targets` (items, labels) are 0 or 1: what is trained on. `counted` (items, labels): whether the figure of that
    label counts this item. An item that counts nowhere is only trained on. `joined`, one name per item, replaces the
    items' own groups where several of them must stay on one side of a split.
    """

    labels: tuple[str, ...]
    items: tuple[Item, ...]
    targets: NDArray[np.int64]
    counted: NDArray[np.bool_]
    digests: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.items), len(self.labels))
        if self.targets.shape != shape or self.counted.shape != shape:
            raise ManifestError(f"{shape} targets are needed, not {self.targets.shape} and {self.counted.shape}")

    @property
    def groups(self) -> NDArray[np.str_]:
        return np.array(self.joined or [item.group for item in self.items])

    @property
    def evaluated(self) -> NDArray[np.bool_]:
        return np.asarray(self.counted.any(axis=1))

    @property
    def strata(self) -> NDArray[np.str_]:
        """What a split keeps in proportion: source and the rarest label that is present."""
        rarity = np.argsort(self.targets.sum(axis=0))
        first = [next((self.labels[k] for k in rarity if row[k]), "") for row in self.targets]
        return np.array([f"{item.source}:{name}" for item, name in zip(self.items, first, strict=True)])

    def digest(self) -> str:
        """SHA-256 over every row and every file's bytes: the same digest is the same training data.

        Needs `digests`: SHA-256 of each file, which the pass that decodes them takes along.
        """
        if len(self.digests) != len(self.items):
            raise ManifestError("the files' digests are not known yet")
        rows = [
            repr((i.path.name, i.part, *_row(i, d)[1:], t.tolist(), c.tolist()))
            for i, d, t, c in zip(self.items, self.digests, self.targets, self.counted, strict=True)
        ]
        return hashlib.sha256("\n".join([repr(self.labels), *sorted(rows)]).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """One line per item, as CSV with `COLUMNS` and a column per label (1, 0, or empty where it is not counted)."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *self.labels])
            digests = self.digests or ("",) * len(self.items)
            for item, digest, targets, counted in zip(self.items, digests, self.targets, self.counted, strict=True):
                said = [str(t) if c else "" for t, c in zip(targets, counted, strict=True)]
                writer.writerow([*_row(item, digest), *said])


def _row(item: Item, digest: str) -> list[str]:
    boxes = (f"{b.label}:{b.left:.4f},{b.top:.4f},{b.width:.4f},{b.height:.4f}" for b in item.boxes)
    age = "" if item.age is None else f"{item.age:g}"
    return [
        str(item.path),
        item.source,
        item.patient,
        "|".join(sorted(item.labels)),
        "|".join(sorted(item.weak)),
        item.view,
        age,
        item.sex,
        "|".join(boxes),
        digest,
    ]


def exclusive(labels: Sequence[str], items: Sequence[Item]) -> Manifest:
    """Items of which each bears exactly one of the labels; all count everywhere.

    Raises:
        ManifestError: an item bears none or several of them.
    """
    targets = np.array([[int(name in item.labels) for name in labels] for item in items], np.int64)
    for item, row in zip(items, targets, strict=True):
        if row.sum() != 1:
            raise ManifestError(f"{item.path}: one of {', '.join(labels)} is needed, not {sorted(item.labels)}")
    return Manifest(tuple(labels), tuple(items), targets, np.ones_like(targets, bool))


def findings(
    labels: Sequence[str], items: Sequence[Item], *, healthy: Callable[[Item], bool] | None = None
) -> Manifest:
    """Items that may bear several labels, or none.

    What an item bears for sure or weakly is trained on. A figure counts an item where the label is sure, and where
    the item is `healthy` (default: labelled `NO_FINDING` and nothing else): "the finding against films without any".
    """
    plain = healthy or (lambda item: item.labels == {NO_FINDING})
    well = np.array([plain(item) for item in items], bool)
    sure = np.array([[name in item.labels for name in labels] for item in items], bool).reshape(-1, len(labels))
    weak = np.array([[name in item.weak for name in labels] for item in items], bool).reshape(-1, len(labels))
    targets = (sure | (weak & ~well[:, None])).astype(np.int64)
    return Manifest(tuple(labels), tuple(items), targets, sure | well[:, None])
