from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.pixels import read
from training import spoiled
from training.manifest import Box, Item

Y, X = np.mgrid[0:40, 0:30]
FILM = (0.1 + 0.7 * (X < 10) * (Y < 15) + 0.004 * Y).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_each_kind_is_what_its_name_says() -> None:
    assert np.array_equal(spoiled.upside_down(FILM, rng()), FILM[::-1])
    assert np.allclose(spoiled.inverted(FILM, rng()), 1 - FILM)
    assert {spoiled.turned(FILM, rng(s)).shape for s in range(9)} == {(40, 30), (30, 40)}
    assert not any(np.array_equal(spoiled.turned(FILM, rng(s)), FILM) for s in range(9)), "never left as it is"
    lower = spoiled.lower_half(FILM, rng())
    assert 0.4 * 40 <= len(lower) <= 0.55 * 40 + 1 and np.array_equal(lower, FILM[-len(lower) :])


@pytest.mark.parametrize("seed", range(6))
def test_a_piece_is_a_quarter_to_a_half_of_each_side(seed: int) -> None:
    numbered = np.arange(1200, dtype=np.float32).reshape(40, 30)
    piece = spoiled.piece(numbered, rng(seed))
    assert 9 <= piece.shape[0] <= 21 and 6 <= piece.shape[1] <= 16
    top, left = divmod(int(piece[0, 0]), 30)
    assert np.array_equal(piece, numbered[top : top + piece.shape[0], left : left + piece.shape[1]])


@pytest.mark.parametrize("seed", range(6))
def test_noise_drowns_the_film(seed: int) -> None:
    large = np.kron(FILM, np.ones((8, 8), np.float32))
    noisy = spoiled.noisy(large, rng(seed))
    assert noisy.shape == large.shape and noisy.min() >= 0 and noisy.max() <= 1
    assert abs(np.corrcoef(noisy.ravel(), large.ravel())[0, 1]) < 0.75


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Six films in two folders with the same names; the last two of nobody that is known."""
    found = []
    for number in range(6):
        path = tmp_path / ("one" if number % 2 else "two") / f"{number // 2}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((FILM * (200 + 9 * number)).astype(np.uint8)).save(path)
        boxes = (Box("Mass", 0, 0, 0.5, 0.5),)
        labels = frozenset({"Mass"})
        found.append(Item(path, "nih/a", labels, labels, f"{number}" if number < 4 else "", boxes=boxes))
    return found


def test_a_spoiled_film_is_another_picture_of_the_same_patient(items: list[Item], tmp_path: Path) -> None:
    found = spoiled.films(items, spoiled.ANY, tmp_path / "work", seed=1)
    assert [f.group for f in found] == [i.group for i in items]
    assert all(f.labels == {spoiled.OTHER} and not f.weak and not f.boxes for f in found)
    assert len({f.path for f in found}) == len(items), "files of the same name do not overwrite each other"
    assert all(read(f.path).pixels.std() > 0.01 for f in found)
    assert sorted(p.suffix for p in (tmp_path / "work").iterdir()) == [".png"] * 6


def test_the_same_seed_spoils_the_same_way(items: list[Item], tmp_path: Path) -> None:
    one, two, other = (
        [f.path for f in spoiled.films(items, spoiled.ANY, tmp_path / name, seed=seed)]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert [p.name for p in one] == [p.name for p in two]
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two] != [p.read_bytes() for p in other]


def test_what_is_there_is_not_made_again(items: list[Item], tmp_path: Path) -> None:
    first = spoiled.films(items, spoiled.ANY, tmp_path / "work", seed=1)
    first[0].path.write_bytes(b"kept")
    assert spoiled.films(items, spoiled.ANY, tmp_path / "work", seed=1) == first
    assert first[0].path.read_bytes() == b"kept"


def test_one_kind_is_all_there_is(items: list[Item], tmp_path: Path) -> None:
    found = spoiled.films(items, {"inverted": spoiled.inverted}, tmp_path / "work", seed=1)
    assert all(f.path.name.startswith("inverted-") for f in found)
    grey = read(found[0].path).pixels
    assert grey[10, 10] < 0.1 < 0.7 < grey[-10, -10], "the bright corner became dark"
