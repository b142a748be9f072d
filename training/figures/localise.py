"""Does the model look where the reader saw it: activation maps against boxes, at the boxes' own area.

A map has no edge of its own. Its highest part, as large as the boxes, is compared, so that no threshold is chosen
that flatters it. Reported, never judged: a map is no segmentation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models import preprocess
from training.figures import evaluate, metrics
from training.figures.evaluate import Figure, Patients
from training.manifest import Box

SIDE = 256
HIT_IOU = 0.1
"""The smallest overlap that counts as a hit in the paper that published the boxes (Wang et al. 2017)."""
HIT = f"localisation hit rate (IoU at least {HIT_IOU})"


def localisation(
    maps: Sequence[metrics.Floats],
    boxes: Sequence[Sequence[Box]],
    *,
    groups: Patients,
    label: str,
    on: str,
    seed: int = 0,
) -> list[Figure]:
    """Pointing game (Zhang et al. 2018, without tolerance), hit rate and mean IoU at the boxes' area, and that area.

    `maps`: one (height, width) grid over the whole frame per film; `boxes`: the label's boxes on it, at least one.
    The area is what pointing at random would hit.
    """
    values = np.array([_compared(m, b) for m, b in zip(maps, boxes, strict=True)])
    names = ("pointing game", HIT, "localisation IoU at the boxes' area", "area of the boxes (pointing at random)")
    truth = np.ones(len(values), np.int64)
    return [
        evaluate.figure(
            name,
            metrics.mean,
            values[:, k],
            truth=truth,
            groups=groups,
            on=f"films with boxes, {on}",
            label=label,
            seed=seed,
        )
        for k, name in enumerate(names)
    ]


def inside(boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """(SIDE, SIDE): the cells whose middle lies in a box."""
    middle = (np.arange(SIDE) + 0.5) / SIDE
    found = np.zeros((SIDE, SIDE), bool)
    for box in boxes:
        rows = (middle >= box.top) & (middle < box.top + box.height)
        columns = (middle >= box.left) & (middle < box.left + box.width)
        found |= rows[:, None] & columns
    return found


def _compared(values: metrics.Floats, boxes: Sequence[Box]) -> tuple[float, float, float, float]:
    """Pointed, hit, IoU and area of one film. A map that is 0 everywhere points nowhere."""
    target = inside(boxes)
    area = int(target.sum())
    if not area:
        raise ValueError(f"boxes without an area inside the frame: {list(boxes)}")
    heat = preprocess.resize(np.asarray(values, np.float32), height=SIDE, width=SIDE).ravel()
    if not heat.max() > 0:
        return 0.0, 0.0, 0.0, area / SIDE**2
    highest = np.argsort(-heat, kind="stable")[:area]
    shared = int(target.ravel()[highest].sum())
    overlap = shared / (2 * area - shared)
    return float(target.ravel()[highest[0]]), float(overlap >= HIT_IOU), overlap, area / SIDE**2
