"""Copies of a film as it might have been taken: turned, shifted, scaled, exposed and digitised a little otherwise.

Nothing that changes anatomy: no flip (the heart has a side), no shear, no large rotation.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import preprocess

DEGREES, SHIFT, SCALE, GAMMA = 7.0, 0.05, 0.10, (0.7, 1.4)
LOW_RESOLUTION = 64

Floats = NDArray[np.float32]


def varied(pixels: Floats, rng: np.random.Generator) -> Floats:
    """Rotated by up to 7 degrees, shifted by up to 5 %, scaled by up to 10 %, gamma 0.7 to 1.4."""
    rows, columns = pixels.shape
    angle = math.radians(rng.uniform(-DEGREES, DEGREES))
    scale = rng.uniform(1 - SCALE, 1 + SCALE)
    dx, dy = rng.uniform(-SHIFT, SHIFT, 2) * (columns, rows)
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    x, y = columns / 2, rows / 2
    matrix = (c, s, x - c * x - s * y + dx, -s, c, y + s * x - c * y + dy)
    turned = Image.fromarray(pixels).transform(
        (columns, rows), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.clip(np.asarray(turned, np.float32), 0, 1) ** np.float32(rng.uniform(*GAMMA))


def coarse(pixels: Floats) -> Floats:
    """The film at 64 px: what it looks like in a tile set; keeps resolution from being a shortcut."""
    return preprocess.resize(pixels, height=LOW_RESOLUTION, width=LOW_RESOLUTION)
