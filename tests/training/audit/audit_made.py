"""Drawn films with what is known of them, for the audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.preprocess import resize
from training.audit.subject import Parts, Subject
from training.cache import Films
from training.manifest import NO_FINDING, Item, Manifest, findings

SIZE = 64
COUNT = 120

Change = Callable[[int, bool, Item], Item]


def pictures(count: int, *, seed: int = 0) -> np.ndarray:
    """(count, 64, 64) different smooth films."""
    rng = np.random.default_rng(seed)
    grains = rng.uniform(0, 255, (count, 12, 12)).astype(np.float32)
    return np.stack([resize(g, height=SIZE, width=SIZE) for g in grains]).astype(np.uint8)


def items(change: Change = lambda i, sick, item: item, count: int = COUNT, label: str = "Spot") -> list[Item]:
    """Every second film is sick; nothing that is known of a film says which, unless `change` makes it."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(count):
        sick = i % 2 == 1
        item = Item(
            Path(f"{i}.png"),
            "drawn",
            frozenset({label if sick else NO_FINDING}),
            patient=f"p{i}",
            view=str(rng.choice(["PA", "AP"])),
            age=float(rng.integers(20, 90)),
            sex=str(rng.choice(["F", "M"])),
        )
        made.append(change(i, sick, item))
    return made


def folds(count: int = COUNT, number: int = 4) -> Parts:
    """Neighbours are held out together."""
    blocks = np.array_split(np.arange(count), number)
    return [(np.setdiff1d(np.arange(count), held), held) for held in blocks]


def films(pixels: np.ndarray, digests: Sequence[str] = ()) -> Films:
    names = tuple(digests) or tuple(f"digest{i}" for i in range(len(pixels)))
    return Films(pixels, np.full((len(pixels), 2), 500, np.int32), names)


def subject(
    made: Sequence[Item], pixels: np.ndarray | None = None, *, labels: Sequence[str] = ("Spot",), parts: Parts = ()
) -> Subject:
    found = films(pictures(len(made)) if pixels is None else pixels)
    return Subject(findings(labels, made), found, parts or folds(len(made)))


def told(auc_shift: float, manifest: Manifest, seed: int = 0) -> np.ndarray:
    """(n, labels) scores of a model; a shift of 0 is chance, 2 about AUC 0.92."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=manifest.targets.shape) + auc_shift * manifest.targets


def unknown_age_of_the_healthy(_i: int, sick: bool, item: Item) -> Item:
    return item if sick else replace(item, age=None)
