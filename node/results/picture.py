"""Draws what a person sees: a heat map over a film with text below, or a card of text. Pixels in, pixels out; no DICOM.

Only Pillow's own font, a small colour map and plain boxes. Nothing here may draw what identifies a patient: it is given
findings, per cents and reasons, never a header.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LONGEST = 1024
NARROWEST = 480
"""Columns that a caption needs, however narrow the film is."""
PARAGRAPH = 600
"""Characters of one paragraph that are drawn; a text card is no place for more, and breaking them takes time."""
CARD_WIDTH = 1024
MARGIN = 40
WHITE, GREY, DIM = (240, 240, 240), (165, 172, 180), (62, 70, 80)
AMBER, RED, BLUE, YELLOW = (255, 176, 32), (255, 96, 80), (96, 160, 224), (255, 214, 10)
BACKGROUND = (14, 18, 24)

# Anchors of a dark-to-light map in the manner of "inferno" (Smith and van der Walt 2015): even steps in lightness.
_ANCHORS = np.array(
    [
        [0, 0, 4],
        [40, 11, 84],
        [101, 21, 110],
        [159, 42, 99],
        [212, 72, 66],
        [245, 125, 21],
        [250, 193, 39],
        [252, 255, 164],
    ],
    np.float32,
)
_STOPS = np.linspace(0, 255, len(_ANCHORS))
COLOURS = np.stack([np.interp(np.arange(256), _STOPS, _ANCHORS[:, c]) for c in range(3)], axis=1).astype(np.uint8)
# Opacity of the map by activation: nothing below a quarter, at most 60 per cent, so that the film stays readable.
OPACITY = (153 * np.clip((np.arange(256) / 255 - 0.25) / 0.5, 0, 1)).astype(np.uint8)

Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """A line of text and how it looks."""

    text: str
    colour: Colour = WHITE
    scale: float = 1.0


@dataclass(frozen=True)
class Bar:
    """A finding on a card: `value` and `mark` within 0 and 1; without a value no bar is drawn."""

    name: str
    value: float | None
    mark: float
    figure: str
    word: str
    colour: Colour


def overlay(pixels: NDArray[np.float32], heat: NDArray[np.float32] | None, *, caption: Sequence[Line]) -> Bytes:
    """A film with a heat map, and text below it: on the film the text would lie over what the map points at.

    Args:
        pixels: (rows, columns) in [0, 1], white is 1.
        heat: (height, width) in [0, 1] over the whole film, of any size; None for no map.
        caption: lines written below the film.

    Returns:
        uint8 (rows, columns, 3); the film comes first, its longer side `LONGEST`, in its own proportions.
    """
    film = _film(pixels, heat)
    width = max(film.width, NARROWEST)
    size = max(14, min(24, width // 40))
    wrapped = _wrap(caption, size, width - 2 * size)
    picture = Image.new("RGB", (width, film.height + 2 * size + sum(_step(line, size) for line in wrapped)), BACKGROUND)
    picture.paste(film, ((width - film.width) // 2, 0))
    _write(ImageDraw.Draw(picture), wrapped, x=size, y=film.height + size, size=size)
    return np.asarray(picture)


def _film(pixels: NDArray[np.float32], heat: NDArray[np.float32] | None) -> Image.Image:
    rows, columns = pixels.shape
    scale = LONGEST / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    film = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    picture = Image.fromarray((np.clip(film, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)).convert("RGB")
    if heat is not None:
        grid = (np.clip(heat, 0, 1) * np.float32(255)).astype(np.uint8)
        level = Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)
        coloured = level.convert("P")
        coloured.putpalette(COLOURS.tobytes())
        picture.paste(coloured.convert("RGB"), (0, 0), level.point(OPACITY.tolist()))
    return picture


def _step(line: Line, size: int) -> int:
    return round(size * line.scale * 1.35)


def _wrap(lines: Sequence[Line], size: int, width: int) -> list[Line]:
    """Lines broken at spaces, and inside a word that is wider than the line, so that none is wider than `width`."""
    out = []
    for line in lines:
        face = font(round(size * line.scale))
        current = ""
        for word in line.text[:PARAGRAPH].split():
            joined = f"{current} {word}".strip()
            if current and face.getlength(joined) > width:
                out.append(Line(current, line.colour, line.scale))
                joined = word
            while face.getlength(joined) > width and len(joined) > 1:
                cut = next(n for n in range(len(joined) - 1, 0, -1) if n == 1 or face.getlength(joined[:n]) <= width)
                out.append(Line(joined[:cut], line.colour, line.scale))
                joined = joined[cut:]
            current = joined
        out.append(Line(current, line.colour, line.scale))
    return out


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at a size in pixels; reading it takes longer than a line of text."""
    return ImageFont.load_default(size=size)


def card(headline: Line, *, lines: Sequence[Line], bars: Sequence[Bar], notes: Sequence[Line], footer: Line) -> Bytes:
    """A card of text: headline, lines, a bar for each finding, notes, and a footer on the last line.

    Returns:
        uint8 (rows, CARD_WIDTH, 3); as high as the text needs, never lower than wide screens are.
    """
    width, size = CARD_WIDTH - 2 * MARGIN, 22
    above = _wrap([headline], 40, width), _wrap(lines, size, width)
    below = _wrap(notes, size, width)
    row = 34
    needed = sum(_step(x, 40) for x in above[0]) + sum(_step(x, size) for x in (*above[1], *below)) + row * len(bars)
    height = max(CARD_WIDTH * 9 // 16, needed + 6 * MARGIN)
    picture = Image.new("RGB", (CARD_WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    y = _write(draw, above[0], x=MARGIN, y=MARGIN, size=40)
    y = _write(draw, above[1], x=MARGIN, y=y + MARGIN // 4, size=size) + MARGIN // 2
    draw.line((MARGIN, y, CARD_WIDTH - MARGIN, y), fill=DIM)
    y += MARGIN // 2
    for bar in bars:
        _draw_bar(draw, bar, y, height=row)
        y += row
    _write(draw, below, x=MARGIN, y=y + (MARGIN // 2 if bars else 0), size=size)
    last = height - MARGIN - 24
    draw.line((MARGIN, last - 18, CARD_WIDTH - MARGIN, last - 18), fill=DIM)
    draw.text((MARGIN, last), footer.text, fill=footer.colour, font=font(24))
    return np.asarray(picture)


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[Line], *, x: int, y: int, size: int) -> int:
    for line in lines:
        draw.text((x, y), line.text, fill=line.colour, font=font(round(size * line.scale)))
        y += _step(line, size)
    return y


def _draw_bar(draw: ImageDraw.ImageDraw, bar: Bar, y: int, *, height: int) -> None:
    left, right, face = 400, 700, font(20)
    name = bar.name
    while face.getlength(name) > left - MARGIN - 20:
        name = f"{name[:-2]}…"
    draw.text((MARGIN, y), name, fill=WHITE, font=face)
    top, bottom = y + 8, y + height - 12
    draw.rectangle((left, top, right, bottom), fill=DIM)
    if bar.value is not None:
        draw.rectangle((left, top, left + round((right - left) * bar.value), bottom), fill=bar.colour)
    at = left + round((right - left) * bar.mark)
    draw.line((at, top - 4, at, bottom + 4), fill=WHITE, width=2)
    draw.text((right + 100, y), bar.figure, fill=bar.colour, font=face, anchor="ra")
    draw.text((right + 120, y), bar.word, fill=bar.colour, font=face)
