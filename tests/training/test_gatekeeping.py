"""What a gate knows and refuses, on drawn films with features that a stand-in for a network computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from training import cache, gatekeeping, split
from training.accepted import CHEST_GATE
from training.calibrate import Calibration
from training.fit import Run
from training.learning.answers import Seen
from training.manifest import Item, exclusive
from training.recipe import Known, named

SIZE = 32
QUIET = Console(quiet=True)
LABELS = ("chest", "abdomen")
SHARP = Calibration("multiclass", "temperature", (40.0, 40.0), (0.0, 0.0))


class Eye:
    """Sees a film as 8 x 8 grey values; says chest where the left half is the brighter one. Counts what it saw."""

    def __init__(self) -> None:
        self.groups: list[str] = []

    def see(self, films: Iterable[Any], *, total: int, what: str, console: Console) -> Seen:
        table = np.stack([film.reshape(8, 4, 8, 4).mean(axis=(1, 3)) for film in films])
        assert len(table) == total and console
        self.groups.append(what)
        lean = table[..., :4].mean(axis=(1, 2)) - table[..., 4:].mean(axis=(1, 2))
        return Seen(np.stack([lean, -lean], axis=1).astype(np.float32), table.reshape(total, -1).astype(np.float32))


class Teacher:
    """A learner whose every model is the same eye; remembers what it was to train on."""

    def __init__(self) -> None:
        self.eye, self.rows = Eye(), np.array([])

    def fit(self, rows: Any, _name: str) -> None:
        self.rows = rows

    def network(self, _fitted: None) -> None:
        pass

    def whole(self, _network: None) -> Eye:
        return self.eye


def drawn(folder: Path, name: str, turned: int, seed: int) -> Item:
    """A film with a bright patch at the upper left, turned by quarters."""
    grey = np.random.default_rng(seed).normal(60, 6, (48, 48))
    grey[4:30, 2:20] += 120
    Image.fromarray(np.rot90(grey, turned).clip(0, 255).astype(np.uint8)).save(folder / name)
    label = "chest" if turned == 0 else "abdomen"
    return Item(folder / name, "made", frozenset({label}), patient=name)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    items = [drawn(tmp_path, f"{k}.png", 2 * (k % 2), k) for k in range(60)]
    manifest = exclusive(LABELS, items)
    films = cache.films(items, SIZE, tmp_path, QUIET)
    recipe = named("chest_abdomen", {"size": str(SIZE)})
    return Run(recipe, manifest, films, split.plan(manifest, 5, seed=0), tmp_path, QUIET, start="none")


def test_a_gate_takes_what_it_knows_and_refuses_the_rest(run: Run, tmp_path: Path) -> None:
    other = [drawn(tmp_path, f"o{k}.png", 1, 100 + k) for k in range(5)]
    familiar = [drawn(tmp_path, f"f{k}.png", 0, 200 + k) for k in range(5)]
    teacher: Any = Teacher()
    rows = gatekeeping.counted(run, teacher, SHARP, Known(familiar={"more": familiar}, foreign={"turned": other}))
    found = {row.group: row for row in rows}
    assert found["chest"].gate < 0.35 and found["more"].gate < 0.35
    assert found["chest, turned by 90 degrees"].unlike == found["turned"].unlike == 1
    assert found["chest, inverted"].gate == found["abdomen"].gate == 1
    assert found["abdomen"].unlike < 0.35, "it is known, and is no chest"
    assert found["noise, gradients, constants"].images == 60
    assert found["noise, gradients, constants"].gate > 0.9
    assert set(teacher.rows) == set(run.folds[0].train), "the films that are counted taught it nothing"
    assert found["chest"].images + found["abdomen"].images == len(run.folds[0].held)


def test_a_class_without_further_images_is_learned_from_its_films(run: Run) -> None:
    eye: Any = Eye()
    reference = gatekeeping.learned(run, eye, Known(), np.arange(60))
    assert reference.mean.shape == (2, 64)
    assert eye.groups == ["known: chest", "known: chest", "known: abdomen", "known: abdomen"]


def test_further_images_widen_what_is_known(run: Run, tmp_path: Path) -> None:
    more = [drawn(tmp_path, f"m{k}.png", 1, 300 + k) for k in range(30)]
    eye: Any = Eye()
    seen = eye.see(gatekeeping.decoded(more[:10], run), total=10, what="", console=QUIET)
    narrow, wide = (
        gatekeeping.learned(run, eye, Known(more=given), np.arange(60)) for given in ({}, {"chest": more[10:]})
    )
    chest = np.zeros(10, np.intp)
    assert (wide.distance(seen.features, chest) < narrow.distance(seen.features, chest)).all()


def test_a_decoded_film_is_the_cached_one(run: Run) -> None:
    (film,) = gatekeeping.decoded(run.manifest.items[:1], run)
    assert np.array_equal(film, run.films.pixels[0].astype(np.float32) / np.float32(255))


def test_no_images_are_always_the_same_and_in_range() -> None:
    one, two = list(gatekeeping.no_images()), list(gatekeeping.no_images())
    assert len(one) == 60 and all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(p.shape == (384, 384) and p.dtype == np.float32 and 0 <= p.min() <= p.max() <= 1 for p in one)


def test_a_film_must_be_clearly_of_the_first_label(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    eye: Any = Eye()
    unsure = replace(SHARP, slope=(0.1, 0.1))
    strict = CHEST_GATE.model_copy(update={"at_least": 0.9})
    monkeypatch.setattr(gatekeeping, "CHEST_GATE", strict)
    known = gatekeeping.learned(run, eye, Known(), np.arange(60))
    gate = gatekeeping.Gatekeeper(eye, unsure, known, run)
    films = [run.films.pixels[i].astype(np.float32) / 255 for i in range(0, 20, 2)]
    found = gate.refusal("chest", films, 10, "accepted")
    assert found.unlike < 0.2 and found.gate == 1
