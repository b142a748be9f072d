"""Copies of a film as it might have been taken: turned, shifted, scaled, exposed and digitised a little otherwise.

Nothing that changes anatomy: no flip (the heart has a side), no shear, no large rotation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import preprocess
from training.cache import Bytes, unit
from training.manifest import Box

DEGREES, SHIFT, SCALE, GAMMA = 7.0, 0.05, 0.10, (0.7, 1.4)
COARSE_PART = 0.25
"""Of the copies, this part is brought to 64 px and back."""
LOW_RESOLUTION = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Variation:
    """How one copy differs: turned by `angle` (radians), scaled, shifted by parts of the frame, darkened or
    brightened by `gamma`, and digitised at 64 px if `rough`."""

    angle: float
    scale: float
    right: float
    down: float
    gamma: float
    rough: bool

    def film(self, pixels: Floats) -> Floats:
        """(rows, columns) in [0, 1]; what comes in from outside the frame is black."""
        rows, columns = pixels.shape
        c, s = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        x, y = columns / 2, rows / 2
        dx, dy = self.right * columns, self.down * rows
        matrix = (c, s, x - c * x - s * y - c * dx - s * dy, -s, c, y + s * x - c * y + s * dx - c * dy)
        turned = Image.fromarray(pixels).transform(
            (columns, rows), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        found = np.clip(np.asarray(turned, np.float32), 0, 1) ** np.float32(self.gamma)
        return rough(found) if self.rough else found

    def box(self, box: Box) -> Box:
        """The upright box around the box as this copy shows it, in parts of a square frame."""
        c, s = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        across = np.array([box.left, box.left + box.width] * 2) - 0.5
        along = np.repeat([box.top, box.top + box.height], 2) - 0.5
        x = c * across - s * along + self.right + 0.5
        y = s * across + c * along + self.down + 0.5
        left, top, right, bottom = (float(np.clip(v, 0, 1)) for v in (x.min(), y.min(), x.max(), y.max()))
        return Box(box.label, left, top, right - left, bottom - top)


def drawn(rng: np.random.Generator) -> Variation:
    """Rotated by up to 7 degrees, shifted by up to 5 %, scaled by up to 10 %, gamma 0.7 to 1.4, a quarter rough."""
    return Variation(
        angle=math.radians(rng.uniform(-DEGREES, DEGREES)),
        scale=rng.uniform(1 - SCALE, 1 + SCALE),
        right=rng.uniform(-SHIFT, SHIFT),
        down=rng.uniform(-SHIFT, SHIFT),
        gamma=rng.uniform(*GAMMA),
        rough=bool(rng.random() < COARSE_PART),
    )


def rough(pixels: Floats) -> Floats:
    """The film as 64 pixels a side would show it, in its own size: keeps resolution from being a shortcut."""
    rows, columns = pixels.shape
    small = preprocess.resize(pixels, height=LOW_RESOLUTION, width=LOW_RESOLUTION)
    return preprocess.resize(small, height=rows, width=columns)


def rough_film(film: Bytes) -> Floats:
    """A decoded film (uint8), as 64 pixels a side would show it, in [0, 1]."""
    return rough(unit(film))
