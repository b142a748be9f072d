from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.results.contour import MOST, Floats, outlines


def hill(cy: float, cx: float, *, size: int = 24, width: float = 0.12) -> Floats:
    yy, xx = (np.mgrid[0:size, 0:size] + 0.5) / size
    return np.exp(-(((yy - cy) ** 2 + (xx - cx) ** 2) / width**2)).astype(np.float32)


def test_a_hill_has_one_line_around_it_at_half_of_its_height() -> None:
    (loop,) = outlines(hill(0.6, 0.3), level=0.5)
    # exp(-r2 / w2) is a half where r = w * sqrt(ln 2)
    radius = np.hypot(loop[:, 0] - 0.3, loop[:, 1] - 0.6)
    assert np.allclose(radius, 0.12 * np.sqrt(np.log(2)), atol=0.01)


def test_two_hills_have_a_line_each_the_larger_one_first() -> None:
    both = np.maximum(hill(0.25, 0.25, width=0.08), hill(0.7, 0.7, width=0.15))
    first, second = outlines(both, level=0.5)
    assert np.allclose(first[:-1].mean(axis=0), 0.7, atol=0.02)
    assert np.allclose(second[:-1].mean(axis=0), 0.25, atol=0.02)


def test_a_line_that_would_leave_the_picture_follows_its_border() -> None:
    (loop,) = outlines(hill(0.0, 0.5), level=0.5)
    assert loop[:, 1].min() == pytest.approx(0, abs=0.001)


def test_a_map_that_is_high_everywhere_is_surrounded_and_a_flat_one_has_no_line() -> None:
    (loop,) = outlines(np.ones((7, 7), np.float32), level=0.5)
    assert (loop.min(), loop.max()) == (0.0, 1.0)
    assert outlines(np.zeros((7, 7), np.float32), level=0.5) == []


def test_a_ring_has_a_line_on_either_side() -> None:
    yy, xx = (np.mgrid[0:48, 0:48] + 0.5) / 48
    ring = (np.abs(np.hypot(yy - 0.5, xx - 0.5) - 0.3) < 0.08).astype(np.float32)
    outer, inner = outlines(ring, level=0.5)
    assert np.hypot(*(outer - 0.5).T).mean() == pytest.approx(0.38, abs=0.02)
    assert np.hypot(*(inner - 0.5).T).mean() == pytest.approx(0.22, abs=0.02)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20))
def test_every_line_of_any_map_is_closed_and_inside(seed: int, rows: int, columns: int) -> None:
    heat = np.random.default_rng(seed).random((rows, columns)).astype(np.float32)
    loops = outlines(heat, level=0.5)
    assert len(loops) <= MOST
    for loop in loops:
        assert np.array_equal(loop[0], loop[-1]) and len(loop) >= 4
        assert loop.min() >= 0 and loop.max() <= 1
