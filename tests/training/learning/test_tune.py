"""Training by gradient steps: the order of batches, the losses, early stopping, and a run that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import SIZE, films, network
from rich.console import Console
from rich.progress import Progress

from training import cache
from training.errors import RecipeError
from training.learning import backbones, tune
from training.learning.feed import Live
from training.learning.order import Lesson, Order
from training.learning.tune import Fitted
from training.manifest import Box, Manifest, findings
from training.recipe import Settings
from training.workers import ALONE, Workers

pytestmark = pytest.mark.model
QUIET = Console(quiet=True)
SETTINGS = Settings(size=SIZE, train_from="middle", copies=0, epochs=4, batch=16, rate=5e-3, seed=3)
ROWS = np.arange(60)


class Recorder:
    """A feed that remembers which rows it was asked for in which epoch, and how many."""

    def __init__(self, feed: Live) -> None:
        self.feed, self.shape = feed, feed.shape
        self.asked: list[tuple[int | None, list[int]]] = []

    def draw(self, rows: Any, epoch: int | None) -> Any:
        self.asked.append((epoch, [int(r) for r in rows]))
        return self.feed.draw(rows, epoch)


def prepared(folder: Path) -> tuple[Manifest, Live]:
    pictures = folder / "films"
    pictures.mkdir(exist_ok=True)
    manifest = findings(("Spot",), films(pictures))
    return manifest, Live(cache.films(manifest.items, SIZE, folder, QUIET).pixels, seed=3)


def tuned(
    folder: Path, settings: Settings, *, validation: Any = None, workers: Workers = ALONE
) -> tuple[Fitted, Recorder]:
    manifest, live = prepared(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "BACKBONES", {"drawn": network})
        cut = backbones.joined(backbones.build("drawn", SIZE, weights=None, train_from=settings.train_from))
    feed = Recorder(live)
    lesson = Lesson("binary", manifest.labels, manifest.items, ROWS, manifest.targets.astype(float), validation)
    with Progress(console=QUIET) as progress:
        found = tune.tune(
            lesson, cut, feed, settings=settings, folder=folder, name="fold-1", progress=progress, workers=workers
        )
    return found, feed


def test_every_epoch_shows_every_row_in_an_order_of_its_own(tmp_path: Path) -> None:
    found, feed = tuned(tmp_path, replace(SETTINGS, epochs=3, batch=20))
    for epoch in range(3):
        orders = [rows for asked, rows in feed.asked if asked == epoch]
        assert sorted(row for rows in orders[-3:] for row in rows) == ROWS.tolist()
    first, second = ([rows for asked, rows in feed.asked if asked == e][-3:] for e in (0, 1))
    assert first != second
    assert len(found.history) == 3 and found.kernel.shape == (48, 1) and found.bias.shape == (1,)


def test_validation_films_are_shown_as_they_are(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=2, folds=1)
    found, feed = tuned(tmp_path, settings, validation=np.arange(60, 90))
    assert {row for asked, rows in feed.asked if asked is None for row in rows} == set(range(60, 90))
    assert not any(row >= 60 for asked, rows in feed.asked if asked is not None for row in rows)
    assert all("val_loss" in row for row in found.history)


def test_patience_ends_the_training_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    """A rate that only spoils: the first epochs are the best, and the weights are theirs."""
    import keras

    settings = replace(SETTINGS, epochs=12, patience=2, rate=0.5, folds=1)
    found, _ = tuned(tmp_path, settings, validation=np.arange(60, 90))
    losses = [row["val_loss"] for row in found.history]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 12
    manifest, live = prepared(tmp_path)
    x, _ = live.draw(np.arange(60, 90), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "BACKBONES", {"drawn": network})
        cut = backbones.joined(backbones.build("drawn", SIZE, weights=None, train_from="middle"))
    cut.trained.set_weights(found.weights)
    z = backbones.with_head(cut, cut.trained, found.kernel, found.bias)(x)
    y = manifest.targets[60:90].astype(np.float32)
    extra = np.clip((1 - manifest.targets[ROWS].mean()) / manifest.targets[ROWS].mean(), 1, tune.MOST_WEIGHT)
    weighted = keras.ops.convert_to_numpy(keras.ops.softplus(-z)) * y * extra
    said = (weighted + keras.ops.convert_to_numpy(keras.ops.softplus(z)) * (1 - y)).mean()
    assert said == pytest.approx(losses[best], rel=0.02)


def test_too_few_films_for_so_many_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="fold-1: 60 films to learn from are too few for 64 devices"):
        tuned(tmp_path, replace(SETTINGS, batch=64), workers=Workers(devices=64))


CHILD = """
import sys
from pathlib import Path
from dataclasses import replace
import numpy as np
import test_tune

settings = replace(test_tune.SETTINGS, **eval(sys.argv[2]))
test_tune.tuned(Path(sys.argv[1]), settings, validation=np.arange(60, 90))
"""


def killed(folder: Path, changes: dict[str, Any], *, after: int) -> None:
    """The training in a process of its own, killed as soon as it has written the history of so many epochs."""
    code = f"""
import os, signal
from training.learning import tune
whole = tune.json.dumps
tune.json.dumps = lambda rows: (os.kill(os.getpid(), signal.SIGKILL) if len(rows) > {after} else None) or whole(rows)
{CHILD}"""
    here = Path(__file__).parent
    path = os.pathsep.join(str(folder) for folder in (here.parents[2], here.parents[1], here))
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder), repr(changes)], env=os.environ | {"PYTHONPATH": path}, check=False
    )
    assert run.returncode == -signal.SIGKILL


def test_a_killed_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    changes = {"patience": 3, "folds": 1}
    settings, validation = replace(SETTINGS, **changes), np.arange(60, 90)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, _ = tuned(tmp_path / "whole", settings, validation=validation)
    killed(tmp_path / "killed", changes, after=2)
    history = tmp_path / "killed" / "fold-1" / tune.HISTORY
    assert len(json.loads(history.read_text())) == 2
    again, feed = tuned(tmp_path / "killed", settings, validation=validation)
    shown = [epoch for epoch, _ in feed.asked if epoch is not None]
    assert shown.count(0) <= 1 and shown.count(1) == 0, "epochs before the kill are not trained again"
    assert [sorted(row) for row in again.history] == [sorted(row) for row in whole.history]
    np.testing.assert_allclose(
        [row["loss"] for row in again.history], [row["loss"] for row in whole.history], rtol=1e-3
    )
    np.testing.assert_allclose(again.kernel, whole.kernel, atol=1e-3)
    for one, other in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_box_covers_the_cells_that_it_lies_in(tmp_path: Path) -> None:
    manifest, live = prepared(tmp_path)
    boxed = replace(manifest.items[0], boxes=(Box("Spot", 0.5, 0.0, 0.25, 0.375), Box("Other", 0, 0, 1, 1)))
    lesson = Lesson("binary", ("Spot",), (boxed, *manifest.items[1:]), ROWS, manifest.targets.astype(float))
    order = Order(lesson, live, 4, replace(SETTINGS, boxes=1.0), grid=(4, 4))
    found = order._boxes(0, None)
    expected = np.zeros((4, 4))
    expected[:2, 2] = [1, 0.5]
    assert np.allclose(found[..., 0], expected)
    assert order._boxes(2 * 1, None).sum() == 0, "a film of a well patient has none"


def test_the_box_loss_falls_as_the_map_moves_into_the_box() -> None:
    boxes = np.zeros((3, 4, 4, 1), np.float32)
    boxes[:2, 0, 0] = 1
    maps = np.zeros((3, 4, 4, 1), np.float32)
    maps[0, 0, 0], maps[1, 3, 3] = 8, 8
    inside, outside, without = np.asarray(tune.into_boxes(boxes, maps))
    assert inside < 0.1 and outside > 5 and without == 0
    assert np.asarray(tune.into_boxes(boxes, np.zeros_like(maps)))[0] == pytest.approx(np.log(16), abs=0.01)


def test_normalisations_inside_networks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "BACKBONES", {"drawn": network})
    cut = backbones.build("drawn", SIZE, weights=None, train_from="middle")
    names = {type(layer).__name__ for layer in tune._layers(backbones.joined(cut).trained)}
    assert {"BatchNormalization", "Conv2D", "Normalization"} <= names
