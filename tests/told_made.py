"""A made run: scores that know something, patients with several films, items with and without attributes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.figures.evaluate import Held
from training.manifest import Box, Item

LABELS = ("Cardiomegaly", "Mass <b>")
"""The second one would break a page that does not escape."""


def held(count: int = 200, *, labels: tuple[str, ...] = LABELS, seed: int = 0) -> Held:
    rng = np.random.default_rng(seed)
    truth = (rng.random((count, len(labels))) < 0.3).astype(np.int64)
    scores = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + 2 * truth - 1)))
    groups = np.array([f"nih/{i // 2}" for i in range(count)])
    return Held(labels, truth, np.ones_like(truth, bool), scores, scores >= 0.5, groups)


def items(count: int = 200, **changed: Any) -> list[Item]:
    box = (Box("Cardiomegaly", 0.3, 0.4, 0.3, 0.3),)
    made = [
        {
            "path": Path(f"{i}.png"),
            "source": "nih" if i % 4 else "other",
            "patient": str(i // 2),
            "view": "PA" if i % 3 else "AP",
            "age": float(20 + i % 60),
            "sex": "FM"[i % 2],
            "boxes": box if i % 5 == 0 else (),
        }
        for i in range(count)
    ]
    return [Item(**(one | changed)) for one in made]
