"""Charts as inline SVG, coloured by the page's style sheet so that light, dark and paper need no second picture.

Draws what it is given; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from training.figures.metrics import Floats

WIDTH, HEIGHT = 320, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 40
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)

Row = tuple[str, str, float | None, float | None, float | None]
"""A line of a forest plot: name, n, value, lower and upper end of its interval."""


def chart(parts: Sequence[str], *, title: str, x: str, y: str, span: tuple[float, float] = (0, 1)) -> str:
    """A frame of x from 0 to 1 (or labelled by its parts) and y over `span`, with the drawn parts in it."""
    low, high = span
    rows = [low + t * (high - low) for t in TICKS]
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(t):.1f}" y2="{_y(t):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{_y(t) + 4:.1f}" text-anchor="end">{_number(v)}</text>'
        for t, v in zip(TICKS, rows, strict=True)
    )
    middle = (LEFT + WIDTH - RIGHT) / 2
    across = (TOP + HEIGHT - BOTTOM) / 2
    names = (
        f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>'
        f'<text class="axis" transform="translate(12 {across}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )
    return _svg(WIDTH, HEIGHT, title, grid + names + "".join(parts))


def ticks(labels: Sequence[tuple[float, str]]) -> str:
    """Labels below the frame, each at its x in 0 to 1."""
    return "".join(
        f'<text x="{_x(x):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(text)}</text>'
        for x, text in labels
    )


def unit_ticks() -> str:
    return ticks([(t, _number(t)) for t in TICKS])


def line(x: Floats | Sequence[float], y: Floats | Sequence[float], kind: str = "a") -> str:
    """A line through points in 0 to 1; `kind` is a colour of the style sheet: a, b or chance."""
    return f'<polyline class="line {kind}" points="{_points(x, y)}"/>'


def band(x: Floats, low: Floats, high: Floats) -> str:
    """The area between two lines."""
    points = f"{_points(x, low)} {_points(x[::-1], high[::-1])}"
    return f'<polygon class="band" points="{points}"/>'


def dot(x: float, y: float, *, radius: float = 4, kind: str = "a", says: str = "") -> str:
    tip = f"<title>{escape(says)}</title>" if says else ""
    return f'<circle class="dot {kind}" cx="{_x(x):.1f}" cy="{_y(y):.1f}" r="{radius:.1f}">{tip}</circle>'


def whisker(x: float, low: float, high: float) -> str:
    return f'<line class="whisker" x1="{_x(x):.1f}" x2="{_x(x):.1f}" y1="{_y(low):.1f}" y2="{_y(high):.1f}"/>'


def upright(x: float) -> str:
    """A dashed line at one x, such as a threshold."""
    return f'<line class="mark" x1="{_x(x):.1f}" x2="{_x(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'


def bars(edges: Floats, heights: Floats, kind: str) -> str:
    """A histogram: `edges` (n + 1) and `heights` (n) in 0 to 1."""
    return "".join(
        f'<rect class="bar {kind}" x="{_x(a):.1f}" y="{_y(h):.1f}" width="{_x(b) - _x(a):.1f}" '
        f'height="{_y(0) - _y(h):.1f}"/>'
        for a, b, h in zip(edges[:-1], edges[1:], heights, strict=True)
        if h > 0
    )


def forest(rows: Sequence[Row], *, title: str, all_: float) -> str:
    """Values and intervals along one axis; None: too few films. `all_` is the value of all films."""
    step, top, left, right = 22, 8, 225, 435
    low, high = _span([v for row in rows for v in row[2:] if v is not None] + [all_])

    def at(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    drawn = [f'<line class="mark" x1="{at(all_):.1f}" x2="{at(all_):.1f}" y1="{top}" y2="{top + step * len(rows)}"/>']
    for number, (name, n, value, below, above) in enumerate(rows):
        y = top + step * (number + 0.5)
        drawn.append(f'<text x="4" y="{y + 4:.1f}">{escape(name)}</text>')
        drawn.append(f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end" class="axis">{escape(n)}</text>')
        if value is None:
            drawn.append(f'<text x="{left}" y="{y + 4:.1f}" class="axis">too few films for a figure</text>')
            continue
        if below is not None and above is not None:
            drawn.append(f'<line class="whisker" x1="{at(below):.1f}" x2="{at(above):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<rect class="dot a" x="{at(value) - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>')
        drawn.append(f'<text x="{right + 10}" y="{y + 4:.1f}">{value:.2f}</text>')
    bottom = top + step * len(rows)
    drawn += [
        f'<text class="axis" x="{at(v):.1f}" y="{bottom + 14}" text-anchor="middle">{v:.1f}</text>'
        for v in np.arange(low, high + 0.01, 0.1)
    ]
    return _svg(480, bottom + 20, title, "".join(drawn), kind="forest")


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Whole tenths around the values."""
    return float(np.floor(min(values) * 10) / 10), float(max(np.ceil(max(values) * 10), 1 + min(values) * 10) / 10)


def _svg(width: int, height: float, title: str, content: str, kind: str = "chart") -> str:
    name = escape(title)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{name}">'
        f"<title>{name}</title>{content}</svg>"
    )


def _points(x: Floats | Sequence[float], y: Floats | Sequence[float]) -> str:
    return " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(x, y, strict=True))


def _x(value: float) -> float:
    return LEFT + float(value) * (WIDTH - LEFT - RIGHT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - float(value) * (HEIGHT - BOTTOM - TOP)


def _number(value: float) -> str:
    return f"{value:.3g}"
