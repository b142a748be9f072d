"""Drawn films and a small network, so that every step of training runs in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.learning.backbones import Start, Stock
from training.manifest import NO_FINDING, Box, Item

SIZE = 32
SPOT = Box("Spot", 0.55, 0.2, 0.25, 0.25)


def films(folder: Path, *, patients: int = 45, label: str = "Spot") -> list[Item]:
    """Two films of each patient; those of every third have a bright spot at the upper right, with a box."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[0:48, 0:48] + 0.5) / 48
    box = Box(label, SPOT.left, SPOT.top, SPOT.width, SPOT.height)
    spot = np.exp(-((x - box.left - box.width / 2) ** 2 + (y - box.top - box.height / 2) ** 2) / 0.008)
    items = []
    for patient in range(patients):
        sick = patient % 3 == 0
        for number in range(2):
            grey = 0.3 + 0.2 * y + 0.4 * sick * spot + rng.normal(0, 0.06, x.shape)
            path = folder / f"{patient:03}_{number}.png"
            Image.fromarray(np.asarray(np.clip(grey, 0, 1) * 255, np.uint8)).save(path)
            items.append(
                Item(
                    path,
                    "drawn",
                    labels=frozenset({label if sick else NO_FINDING}),
                    patient=f"{patient:03}",
                    view="PA" if patient % 2 else "AP",
                    age=30.0 + patient % 40,
                    sex="FM"[patient % 2],
                    boxes=(box,) if sick else (),
                )
            )
    return items


def network(size: int, _weights: Start) -> Stock:
    """Three convolutions; `middle` is a layer to train from."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(16, 5, strides=2, padding="same", activation="relu")(inputs)
    x = keras.layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="middle")(x)
    x = keras.layers.Conv2D(48, 3, padding="same")(x)
    x: Any = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return Stock(keras.Model(inputs, x), (0.5,) * 3, (0.25,) * 3)
