"""Counts what a gate refuses: known films that it should take and everything else that it will meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.pixels import read
from models.preprocess import resize
from models.scores import Reference
from training.calibrate import Classifier
from training.manifest import Item
from training.measure import Extractor
from training.recipe import Known
from training.reference import Refusal

AT_LEAST = 0.9
"""What the shipped bundles ask of the first label."""
SIDE = 384

Floats = NDArray[np.float32]


def count(
    extractor: Extractor, classifier: Classifier, reference: Reference, *, known: Known, test: Sequence[Item]
) -> list[Refusal]:
    """One row for each group: films as they are, spoiled, at 64 px; familiar and foreign images; no images.

    `test`: images of the first label that the classifier and the reference have not seen.
    """
    films = [read(item.path).pixels for item in test]
    groups: dict[str, Sequence[Floats]] = {
        "test films (first label)": films,
        "test films at 64 px": [resize(p, height=64, width=64) for p in films],
        "test films, inverted": [1 - p for p in films],
        "test films, turned by 90 degrees": [np.ascontiguousarray(np.rot90(p)) for p in films],
        "test films, upside down": [np.ascontiguousarray(p[::-1]) for p in films],
    }
    rows = [
        _row(name, extractor.arrays(p, total=len(p), what=name), classifier, reference) for name, p in groups.items()
    ]
    listed: Mapping[str, Sequence[Item]] = {**known.familiar, **known.foreign}
    for name, items in listed.items():
        found = extractor.arrays((read(i.path).pixels for i in items), total=len(items), what=name)
        rows.append(_row(name, found, classifier, reference))
    empty = list(no_images())
    rows.append(
        _row(
            "noise, gradients, constants",
            extractor.arrays(empty, total=len(empty), what="noise"),
            classifier,
            reference,
        )
    )
    return rows


def no_images() -> Iterator[Floats]:
    """Constants, ramps, white noise and smooth noise of several grains, always the same."""
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 1, SIDE, dtype=np.float32), (SIDE, 1))
    yield from (np.full((SIDE, SIDE), v, np.float32) for v in (0.0, 0.5, 1.0))
    yield from (ramp, np.ascontiguousarray(ramp.T), ramp * ramp.T)
    for grain in (3, 5, 8, 16, 32, 64, 128, 256, SIDE):
        for _ in range(6):
            noise = rng.random((grain, grain), dtype=np.float32)
            yield np.clip(resize(noise, height=SIDE, width=SIDE), 0, 1)


def _row(name: str, features: Floats, classifier: Classifier, reference: Reference) -> Refusal:
    table = classifier.scores(features)
    unlike = reference.distance(features, table.argmax(axis=1)) > 1
    refused = unlike | (table[:, 0] < AT_LEAST)
    return Refusal(name, len(features), float(unlike.mean()), float(refused.mean()))
