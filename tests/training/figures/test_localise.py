import numpy as np
import pytest

from training.figures.localise import HIT, inside, localisation
from training.manifest import Box

BOX = Box("Mass", 0.5, 0.25, 0.25, 0.25)


def spot(row: int, column: int) -> np.ndarray:
    grid = np.full((8, 8), 0.01, np.float32)
    grid[row : row + 2, column : column + 2] = 1
    return grid


def measured(maps: list[np.ndarray], boxes: list[tuple[Box, ...]]) -> dict[str, float]:
    groups = np.arange(len(maps)).astype(str)
    return {f.name: f.value for f in localisation(maps, boxes, groups=groups, label="Mass", on="made")}


def test_a_map_on_the_box_hits_and_one_beside_it_misses() -> None:
    on = measured([spot(2, 4)], [(BOX,)])
    beside = measured([spot(6, 0)], [(BOX,)])
    assert on["pointing game"] == on[HIT] == 1 and on["localisation IoU at the boxes' area"] > 0.8
    assert beside["pointing game"] == beside[HIT] == beside["localisation IoU at the boxes' area"] == 0


def test_the_highest_part_is_as_large_as_the_boxes() -> None:
    left = np.tile(np.linspace(1, 0, 8, dtype=np.float32), (8, 1))
    found = measured([left], [(Box("Mass", 0, 0, 0.25, 1),)])
    assert found["localisation IoU at the boxes' area"] > 0.95
    assert found["area of the boxes (pointing at random)"] == 0.25


def test_two_boxes_are_one_target_and_their_overlap_counts_once() -> None:
    other = Box("Mass", 0.5, 0.25, 0.25, 0.5)
    assert inside([BOX, other]).mean() == inside([other]).mean() == 0.125


def test_a_map_that_is_empty_points_nowhere() -> None:
    assert measured([np.zeros((8, 8), np.float32)], [(Box("Mass", 0, 0, 1, 1),)])["pointing game"] == 0


def test_a_map_of_noise_points_as_often_as_the_boxes_are_large() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((16, 16)).astype(np.float32) for _ in range(400)]
    found = localisation(maps, [(BOX,)] * 400, groups=np.arange(400).astype(str), label="Mass", on="made")
    pointing, area = found[0], found[3]
    assert pointing.low is not None and pointing.high is not None
    assert pointing.low <= area.value <= pointing.high and pointing.images == 400


def test_a_box_outside_the_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="without an area inside the frame"):
        measured([spot(0, 0)], [(Box("Mass", 2, 2, 0.1, 0.1),)])
