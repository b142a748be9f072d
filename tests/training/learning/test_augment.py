from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from training.learning import augment
from training.learning.augment import Variation, drawn
from training.manifest import Box

Y, X = np.mgrid[0:96, 0:96] / 95
FILM = (0.2 + 0.6 * np.exp(-(((X - 0.7) / 0.2) ** 2) - ((Y - 0.4) / 0.3) ** 2)).astype(np.float32)
STILL = Variation(angle=0, scale=1, right=0, down=0, gamma=1, rough=False)
BOX = Box("Mass", 0.55, 0.2, 0.2, 0.3)


def bright(box: Box, side: int = 200) -> np.ndarray:
    film = np.zeros((side, side), np.float32)
    top, left = round(box.top * side), round(box.left * side)
    film[top : top + round(box.height * side), left : left + round(box.width * side)] = 1
    return film


def centre(pixels: np.ndarray) -> float:
    weights = np.clip(pixels - 0.4, 0, None)
    return float((weights * np.arange(pixels.shape[1])).sum() / weights.sum() / pixels.shape[1])


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_keeps_its_side_size_and_range(seed: int) -> None:
    copy = drawn(np.random.default_rng(seed)).film(FILM)
    assert copy.shape == FILM.shape and copy.dtype == np.float32
    assert copy.min() >= 0 and copy.max() <= 1
    assert centre(copy) > 0.55, "the heart stays on its side"


def test_nothing_drawn_is_more_than_a_film_could_differ() -> None:
    many = [drawn(np.random.default_rng(seed)) for seed in range(400)]
    assert max(abs(v.angle) for v in many) <= math.radians(augment.DEGREES)
    assert all(0.9 <= v.scale <= 1.1 and abs(v.right) <= 0.05 and abs(v.down) <= 0.05 for v in many)
    assert 0.15 < np.mean([v.rough for v in many]) < 0.35


def test_copies_differ_and_follow_from_the_seed() -> None:
    a, b, c = (drawn(np.random.default_rng(s)) for s in (1, 1, 2))
    assert a == b != c


def test_no_variation_changes_nothing() -> None:
    assert np.array_equal(STILL.film(FILM), FILM) and STILL.box(BOX).left == pytest.approx(BOX.left)


@pytest.mark.parametrize(
    "change",
    [
        {"angle": math.radians(7)},
        {"angle": math.radians(-7)},
        {"scale": 0.9},
        {"scale": 1.1},
        {"right": 0.05},
        {"down": -0.05},
    ],
    ids=str,
)
def test_a_box_moves_as_the_film_does(change: dict[str, float]) -> None:
    box = replace(STILL, **change).box(BOX)
    rows, columns = np.nonzero(replace(STILL, **change).film(bright(BOX)) > 0.5)
    seen = (columns.min() / 200, rows.min() / 200, (columns.max() + 1) / 200, (rows.max() + 1) / 200)
    assert (box.left, box.top, box.left + box.width, box.top + box.height) == pytest.approx(seen, abs=0.012)


@pytest.mark.parametrize("seed", range(10))
def test_any_drawn_copys_box_holds_what_was_in_the_box(seed: int) -> None:
    variation = replace(drawn(np.random.default_rng(seed)), rough=False)
    rows, columns = np.nonzero(variation.film(bright(BOX)) > 0.5)
    box = variation.box(BOX)
    assert abs(columns.min() / 200 - box.left) < 0.012 and abs((columns.max() + 1) / 200 - box.left - box.width) < 0.012
    assert abs(rows.min() / 200 - box.top) < 0.012 and abs((rows.max() + 1) / 200 - box.top - box.height) < 0.012


def test_a_box_that_leaves_the_frame_is_cut_at_its_edge() -> None:
    box = replace(STILL, right=0.05).box(Box("Mass", 0.9, 0.0, 0.1, 1.0))
    assert box.left == pytest.approx(0.95) and box.left + box.width == pytest.approx(1)


def test_what_comes_in_from_outside_is_black() -> None:
    moved = replace(STILL, right=0.05).film(np.ones((40, 40), np.float32))
    assert (moved[:, :2] == 0).all() and (moved[:, 3:] == 1).all()


def test_gamma_above_1_darkens() -> None:
    assert replace(STILL, gamma=1.4).film(FILM).mean() < FILM.mean() < replace(STILL, gamma=0.7).film(FILM).mean()


def test_a_rough_copy_is_one_of_64_pixels_a_side() -> None:
    lines = np.zeros((256, 256), np.float32)
    lines[::2] = 1
    assert replace(STILL, rough=True).film(lines).std() < 0.1 < lines.std()
    assert replace(STILL, rough=True).film(lines).shape == (256, 256)
