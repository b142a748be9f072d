"""Films with what a model looked at, as small inline pictures. Adds colour and boxes, never changes a grey value
in the plain one."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models import preprocess
from training.manifest import Box
from training.report.story import Example

SIDE = 224
QUALITY = 82
HEAT = np.array([255.0, 96.0, 0.0])
STRONGEST = 0.6
"""How much of the heat's colour covers the film where the map is 1: what lies below must stay visible."""
BOX_COLOUR = (64, 224, 255)


def plain(example: Example) -> str:
    """The film as a data URI."""
    return _uri(Image.fromarray(_film(example)))


def overlay(example: Example) -> str:
    """The film with its map in orange and the reader's boxes in cyan, as a data URI."""
    film = _film(example).astype(np.float64)[..., None].repeat(3, axis=2)
    if example.saliency is not None:
        heat = preprocess.resize(np.asarray(example.saliency, np.float32), height=SIDE, width=SIDE)
        alpha = STRONGEST * np.clip(heat, 0, 1)[..., None]
        film = (1 - alpha) * film + alpha * HEAT
    picture = Image.fromarray(np.rint(film).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for box in example.boxes:
        draw.rectangle(_corners(box), outline=BOX_COLOUR, width=2)
    return _uri(picture)


def _film(example: Example) -> NDArray[np.uint8]:
    small = preprocess.resize(example.pixels.astype(np.float32), height=SIDE, width=SIDE)
    return np.rint(small).astype(np.uint8)


def _corners(box: Box) -> tuple[float, float, float, float]:
    left, top = box.left * SIDE, box.top * SIDE
    return left, top, min(SIDE - 1, left + box.width * SIDE), min(SIDE - 1, top + box.height * SIDE)


def _uri(picture: Image.Image) -> str:
    file = BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
