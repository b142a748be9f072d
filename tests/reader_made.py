"""A reader without a network, and films that it reads: a film's brightness is its score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import models_made
import numpy as np
from PIL import Image

from models.bundle import AUDIT, Bundle
from models.findings import Reading
from models.pixels import Frame, NotAnalysable
from training.manifest import NO_FINDING, Box, Item

BOX = Box("cardiomegaly", 0.25, 0.25, 0.5, 0.5)


class Bright:
    """Says how bright the middle of a film is; refuses a black one. `wrong` turns every score around."""

    def __init__(self, bundle: Bundle, *, wrong: bool = False) -> None:
        self.bundle, self.wrong, self.asked = bundle, wrong, 0

    def read(self, items: Sequence[Frame | NotAnalysable]) -> list[Reading]:
        return [self.one(item) for item in items]

    def one(self, item: Frame | NotAnalysable) -> Reading:
        self.asked += 1
        if isinstance(item, NotAnalysable):
            return Reading("failed", item.code, item.reason)
        score = float(item.pixels[4, 4])
        if not score:
            return Reading("refused", "gate", "too dark")
        grid = np.zeros((4, 4), np.float32)
        grid[1:3, 1:3] = 1
        names = [label.name for label in self.bundle.spec.labels]
        said = 1 - score if self.wrong else score
        return Reading("analysed", scores=dict.fromkeys(names, said), saliency=dict.fromkeys(names, grid))


def bundle(folder: Path, *labels: str, **changed: Any) -> Bundle:
    """A bundle of these labels (Cardiomegaly) whose audit warns."""
    made = models_made.bundle(**changed)
    checks = [{"name": "patients apart", "status": "warn", "text": "No patient is known.", "value": None}]
    audit = {"question": "finding", "verdict": "warn", "summary": "Some doubts.", "checks": checks}
    (folder / AUDIT).write_text(json.dumps(audit))
    label = made.spec.labels[0]
    named = [label.model_copy(update={"name": name}) for name in labels or ("Cardiomegaly",)]
    task = "binary" if len(named) == 1 else "multilabel"
    return replace(made, path=folder, spec=made.spec.model_copy(update={"labels": named, "task": task}))


def films(folder: Path, *, patients: int = 30, folders: bool = False) -> list[Item]:
    """Two films of each patient; every third has the finding and is brighter, with overlap; one film is black."""
    rng = np.random.default_rng(0)
    found = []
    for n in range(2 * patients):
        sick = n // 2 % 3 == 0
        grey = 0 if n == 2 else int(np.clip(90 + 80 * sick + rng.normal(0, 40), 1, 255))
        label = "Cardiomegaly" if sick else NO_FINDING
        place = folder / label if folders else folder
        place.mkdir(exist_ok=True)
        path = place / f"{n:03}.png"
        pixels = np.full((8, 8), grey, np.uint8)
        pixels[0, 0], pixels[7, 7] = 0, 255  # so that the brightest and the darkest are the same on all films
        Image.fromarray(pixels).save(path)
        boxes = (BOX,) if sick else ()
        found.append(
            Item(path, "made", frozenset({label}), patient=f"{n // 2}", view="PA" if n % 2 else "AP", boxes=boxes)
        )
    return found
