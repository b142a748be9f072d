"""Held-out answers, fold by fold, and the folds that are already there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from models.predictor import HEAD, POOL
from training.cache import unit
from training.learning import answers
from training.learning.answers import PLAIN, ROUGH, Answers, Seen, Whole
from training.learning.augment import rough
from training.manifest import Box, Item, Manifest
from training.split import Fold

QUIET = Console(quiet=True)
N = 24


class Said:
    """A model that says of a film its mean, and the number of the fold that trained it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def see(self, films: Iterable[Any], *, total: int, what: str, console: Console) -> Seen:
        table = np.array([[film.mean(), self.number] for film in films], np.float32).reshape(-1, 2)
        assert len(table) == total
        return Seen(table, table)

    def maps(self, films: list[Any]) -> list[Any]:
        return [np.full((2, 2, 2), film.mean(), np.float32) for film in films]


def manifest() -> Manifest:
    boxed = {3: (Box("one", 0, 0, 1, 1),)}
    items = tuple(Item(Path(f"{i}.png"), "made", patient=str(i), boxes=boxed.get(i, ())) for i in range(N))
    return Manifest(("one", "two"), items, np.zeros((N, 2), np.int64), np.ones((N, 2), bool))


PIXELS = np.repeat(np.arange(N, dtype=np.uint8) * 10, 64).reshape(N, 8, 8)
"""Each film is its number times 10."""


def crossed(folder: Path, folds: list[Fold], trained: list[str]) -> Answers:
    def train(fold: Fold, name: str) -> tuple[Any, list[dict[str, float]]]:
        trained.append(name)
        number = next(k for k, f in enumerate(folds) if f is fold)
        return Said(number), [{"loss": float(number)}]

    variants = {PLAIN: unit, ROUGH: lambda film: rough(unit(film))}
    return answers.cross(manifest(), PIXELS, folds, variants=variants, train=train, folder=folder, console=QUIET)


def parts() -> list[Fold]:
    every = np.arange(N)
    return [Fold(every[every % 4 != k], every[every % 4 == k]) for k in range(3)]


def test_each_film_is_answered_by_the_fold_that_held_it_out(tmp_path: Path) -> None:
    found = crossed(tmp_path, parts(), [])
    expected = np.where(np.arange(N) % 4 == 3, -1, np.arange(N) % 4)
    assert np.array_equal(found.fold, expected)
    held = expected >= 0
    assert np.array_equal(found.logits[PLAIN][held, 1], expected[held])
    assert np.allclose(found.logits[PLAIN][held, 0], np.arange(N)[held] * 10 / 255)
    assert np.isnan(found.logits[PLAIN][~held]).all() and np.isnan(found.logits[ROUGH][~held]).all()
    assert np.isnan(found.validation).all()
    assert [h[0]["loss"] for h in found.histories] == [0, 1, 2]


def test_held_out_films_get_a_map_those_with_a_box_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = crossed(tmp_path, parts(), [])
    assert sorted(found.maps) == np.flatnonzero(found.fold >= 0).tolist()
    assert found.maps[8].shape == (2, 2, 2) and np.allclose(found.maps[8], 80 / 255)
    monkeypatch.setattr(answers, "MAPPED", 2)
    (tmp_path / "few").mkdir()
    every = np.arange(N)
    few = crossed(tmp_path / "few", [Fold(every[every % 4 != 3], every[every % 4 == 3])], [])
    assert sorted(few.maps) == [3, 7]
    monkeypatch.setattr(answers, "MAPPED", 1)
    (tmp_path / "one").mkdir()
    assert list(crossed(tmp_path / "one", [Fold(every[every > 12], every[:5])], []).maps) == [3]


def test_the_validation_part_of_a_single_split_is_answered_apart(tmp_path: Path) -> None:
    single = [Fold(np.arange(12), np.arange(12, 18), np.arange(18, N))]
    found = crossed(tmp_path, single, [])
    assert np.isfinite(found.validation[18:]).all() and np.isnan(found.validation[:18]).all()
    assert np.isfinite(found.logits[PLAIN][12:18]).all() and np.isnan(found.logits[PLAIN][18:]).all()
    assert found.fold.tolist() == [-1] * 12 + [0] * 6 + [-1] * 6


def test_a_finished_fold_is_not_trained_again(tmp_path: Path) -> None:
    trained: list[str] = []
    whole = crossed(tmp_path, parts(), trained)
    assert trained == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    (tmp_path / "fold-2.npz").unlink()
    (tmp_path / "fold-3.npz").rename(tmp_path / "fold-3.part.npz")  # killed while it was written
    again = crossed(tmp_path, parts(), trained)
    assert trained[3:] == ["fold 2 of 3", "fold 3 of 3"]
    for name in whole.logits:
        assert np.array_equal(whole.logits[name], again.logits[name], equal_nan=True)
    assert whole.histories == again.histories and whole.maps.keys() == again.maps.keys()


def test_a_rough_film_has_lost_what_64_pixels_cannot_show() -> None:
    lines = np.zeros((256, 256), np.uint8)
    lines[::2] = 255
    film = unit(lines)
    assert film.dtype == np.float32 and film.max() == 1
    assert rough(film).shape == (256, 256) and rough(film).std() < 0.1 < film.std()


def network(labels: int) -> Any:
    """Two channels: the film and what it lacks; a dense layer with known weights."""
    import keras

    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 1, name="both")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOL)(x)
    model = keras.Model(inputs, keras.layers.Dense(labels, name=HEAD)(pooled))
    model.get_layer("both").set_weights([np.array([[[[1.0, -1.0]]]]), np.array([0.0, 1.0])])
    kernel = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 1.0]])[:, :labels]
    model.get_layer(HEAD).set_weights([kernel, np.zeros(labels)])
    return model


@pytest.mark.model
def test_a_whole_network_gives_logits_features_and_maps() -> None:
    whole = Whole(network(2), exclusive=False)
    films = [np.full((8, 8), v, np.float32) for v in np.linspace(0, 1, 19)]
    seen = whole.see(iter(films), total=19, what="", console=QUIET)
    means = np.array([f.mean() for f in films])
    assert np.allclose(seen.features, np.stack([means, 1 - means], axis=1), atol=1e-5)
    assert np.allclose(seen.logits, np.stack([2 * means, 1 - means], axis=1), atol=1e-5)
    half = np.zeros((8, 8), np.float32)
    half[:, 4:] = 1
    (found,) = whole.maps([half])
    assert found.shape == (8, 8, 2)
    assert np.allclose(found[..., 0], half) and np.allclose(found[..., 1], 1 - half)


@pytest.mark.model
def test_exclusive_maps_show_what_tells_a_class_from_the_others() -> None:
    half = np.zeros((8, 8), np.float32)
    half[:, 4:] = 1
    (plain,), (contrast,) = (Whole(network(3), exclusive=e).maps([half]) for e in (False, True))
    assert np.allclose(plain[..., 2], 1), "both channels speak for it"
    assert np.allclose(contrast[:, 4:, 0], 1) and np.allclose(contrast[:, :4, 0], 0)
    assert np.allclose(contrast[:, :4, 2], 1) and np.allclose(contrast[:, 4:, 2], 0)
