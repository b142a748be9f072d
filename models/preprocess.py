"""From grey pixels to a network's input: ordered, named steps that a bundle lists and that both sides run.

`STEPS` is append-only: a bundle that names a step must get the same arithmetic for ever. Pure numpy and Pillow;
no step drops pixels without averaging them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Step:
    """One named step and its arguments, as in bundle.json."""

    step: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def run(steps: Sequence[Step], pixels: Floats) -> Floats:
    """Run the steps on (rows, columns) grey pixels in [0, 1]; gives float32 (height, width, channels).

    Raises:
        KeyError: a step that does not exist.
        TypeError: an argument that its step does not take.
    """
    for step in steps:
        pixels = STEPS[step.step](pixels, **step.arguments)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def resize(pixels: Floats, *, height: int, width: int) -> Floats:
    """Bilinear with antialias to exactly height x width; the sides are scaled independently, so the whole frame is
    kept and a position in the result is the same part of the frame."""
    if pixels.shape == (height, width):
        return pixels
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    # reducing_gap averages whole blocks first: three times as fast on a 4 megapixel film, no pixel is skipped
    resized = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.float32)


def stretch(pixels: Floats, *, low: float, high: float) -> Floats:
    """The percentiles `low` and `high` (0 to 100) become 0 and 1, what lies outside is cut off.

    Takes out the offset and scale in which the same film differs between encodings. No contrast gives zeros.
    """
    bottom, top = (float(v) for v in np.percentile(pixels, [low, high]))
    if top - bottom < 1e-6:
        return np.zeros_like(pixels)
    scaled = (pixels - np.float32(bottom)) * np.float32(1 / (top - bottom))
    return np.clip(scaled, 0, 1, out=scaled)


def quantise(pixels: Floats, *, levels: int) -> Floats:
    """Values in [0, 1] rounded to `levels` of them: training keeps decoded films as bytes, and the node must give a
    network the same numbers."""
    top = np.float32(levels - 1)
    return np.asarray(np.rint(pixels * top) / top, np.float32)


def repeat(pixels: Floats, *, channels: int) -> Floats:
    """The grey image in each of `channels` channels: (height, width, channels)."""
    return np.repeat(pixels[..., np.newaxis], channels, axis=2)


def standardise(pixels: Floats, *, mean: Sequence[float], std: Sequence[float]) -> Floats:
    """(value - mean) / std per channel."""
    return np.asarray((pixels - np.asarray(mean)) / np.asarray(std), np.float32)


def scale(pixels: Floats, *, factor: float = 1.0, offset: float = 0.0) -> Floats:
    """value * factor + offset: the range that a network was trained on, such as 0 to 255 or -1 to 1."""
    return np.asarray(pixels * np.float32(factor) + np.float32(offset), np.float32)


STEPS: dict[str, Callable[..., Floats]] = {
    "resize": resize,
    "stretch": stretch,
    "quantise": quantise,
    "repeat": repeat,
    "standardise": standardise,
    "scale": scale,
}
