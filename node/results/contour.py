"""Lines around the places where a map is high: marching squares over a small grid.

Numbers in, numbers out; no DICOM.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Edge = tuple[str, int, int]
"""A side between two neighbouring points of the grid: "h" to the right, "v" downwards, of row and column."""

GRID = 96
SMALLEST = 0.0005
"""Of the whole area; a smaller loop is a speck."""
MOST = 6


def outlines(heat: Floats, *, level: float) -> list[Floats]:
    """Closed lines where a map passes `level`, the largest first.

    Args:
        heat: (height, width) in [0, 1] over a whole picture, of any size.
        level: between 0 and 1, both excluded.

    Returns:
        For each line (points, 2) as column and row in [0, 1] of the picture; the first point is also the last one.
    """
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((GRID, GRID), Image.Resampling.BICUBIC))
    # A rim below the level closes the lines that would leave the picture
    grid = np.pad(smooth, 1, constant_values=min(0.0, 2 * level - float(smooth.max())))
    loops = [_points(loop, grid, level) for loop in _loops(_segments(grid >= level, grid, level))]
    sized = sorted(((_area(loop), n, loop) for n, loop in enumerate(loops)), key=lambda item: (-item[0], item[1]))
    return [loop for area, _, loop in sized[:MOST] if area >= SMALLEST]


def _segments(inside: NDArray[np.bool_], grid: Floats, level: float) -> Iterator[tuple[Edge, Edge]]:
    """What the line crosses in each square of the grid."""
    count = inside[:-1, :-1].astype(int) + inside[:-1, 1:] + inside[1:, :-1] + inside[1:, 1:]
    for r, c in zip(*(axis.tolist() for axis in np.nonzero((count > 0) & (count < 4))), strict=True):
        top, bottom, left, right = ("h", r, c), ("h", r + 1, c), ("v", r, c), ("v", r, c + 1)
        corners = {(r, c): (left, top), (r, c + 1): (top, right), (r + 1, c + 1): (right, bottom)}
        corners[r + 1, c] = (bottom, left)
        if count[r, c] == 2 and inside[r, c] == inside[r + 1, c + 1]:
            # A saddle: the middle decides which two corners belong together; the line parts off each other one
            joined = float(grid[r : r + 2, c : c + 2].mean()) >= level
            yield from (edges for corner, edges in corners.items() if bool(inside[corner]) != joined)
            continue
        crossed = [
            edge
            for edge, (one, other) in {
                top: ((r, c), (r, c + 1)),
                right: ((r, c + 1), (r + 1, c + 1)),
                bottom: ((r + 1, c), (r + 1, c + 1)),
                left: ((r, c), (r + 1, c)),
            }.items()
            if inside[one] != inside[other]
        ]
        yield crossed[0], crossed[1]


def _loops(segments: Iterator[tuple[Edge, Edge]]) -> Iterator[list[Edge]]:
    """Segments joined end to end: each edge is crossed by the segments of the two squares that share it."""
    ends: dict[Edge, list[Edge]] = {}
    for one, other in segments:
        ends.setdefault(one, []).append(other)
        ends.setdefault(other, []).append(one)
    while ends:
        start = next(iter(ends))
        loop = [start]
        while following := ends.get(loop[-1]):
            edge = following.pop()
            ends[edge].remove(loop[-1])
            if not following:
                del ends[loop[-1]]
            loop.append(edge)
        ends.pop(loop[-1], None)
        yield loop


def _points(loop: list[Edge], grid: Floats, level: float) -> Floats:
    points = []
    for way, r, c in loop:
        a, b = float(grid[r, c]), float(grid[(r, c + 1) if way == "h" else (r + 1, c)])
        part = (level - a) / (b - a)
        points.append((c + part, float(r)) if way == "h" else (float(c), r + part))
    # Points of the grid are the middles of its squares, and the rim is one more on each side
    return np.clip((np.array(points, np.float32) - 0.5) / GRID, 0, 1).astype(np.float32)


def _area(loop: Floats) -> float:
    x, y = loop[:, 0].astype(float), loop[:, 1].astype(float)
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
