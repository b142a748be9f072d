"""Training of a small network on drawn films: by steps, exactly, stored and live; and what stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import SIZE, films, network
from rich.console import Console

from training import cache, split
from training.cache import unit
from training.figures import evaluate
from training.learning import backbones
from training.learning.backbones import Start, Stock
from training.learning.learner import Learner
from training.manifest import findings
from training.recipe import named

pytestmark = pytest.mark.model
QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "BACKBONES", {"mobilenet_v2": network})


def trained(folder: Path, **settings: Any) -> tuple[float, Any, Any]:
    """AUC on held-out patients, the fitted model, and the held-out films' maps and boxes."""
    chosen = {"size": SIZE, "copies": 2, "epochs": 6, "batch": 16, "rate": 5e-3, "folds": 3} | settings
    recipe = named("chest_findings", {k: str(v) for k, v in chosen.items()})
    pictures = folder / "films"
    pictures.mkdir(exist_ok=True)
    manifest = findings(("Spot",), films(pictures))
    decoded = cache.films(manifest.items, SIZE, folder, QUIET)
    fold = split.plan(manifest, 3, seed=0)[0]
    learner = Learner(recipe, manifest, decoded, start=None, folder=folder, console=QUIET)
    fitted = learner.fit(fold.train, "fold")
    whole = learner.whole(learner.network(fitted))
    seen = whole.see((unit(decoded.pixels[i]) for i in fold.held), total=len(fold.held), what="", console=QUIET)
    sick = [i for i in fold.held if manifest.targets[i, 0]]
    maps = whole.maps([unit(decoded.pixels[i]) for i in sick])
    return evaluate.auc(seen.logits[:, 0].astype(float), manifest.targets[fold.held, 0]), fitted, maps


@pytest.mark.parametrize(
    "settings",
    [
        {"train_from": "exact", "strength": 1.0},
        {"train_from": "head"},
        {"train_from": "middle"},
        {"train_from": "middle", "copies": 0},
        {"train_from": "input", "copies": 0},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_every_way_of_training_learns_what_was_drawn(tmp_path: Path, settings: dict[str, Any]) -> None:
    area, _, _ = trained(tmp_path, **settings)
    assert area > 0.9


def test_boxes_draw_the_map_to_where_the_reader_looked(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, _, without = trained(tmp_path / "a", train_from="middle", boxes=0.0, epochs=3)
    _, _, drawn = trained(tmp_path / "b", train_from="middle", boxes=1.0, epochs=3)

    def inside(maps: list[Any]) -> float:
        return float(np.mean([m[1:4, 4:7].sum() / m.sum() for m in maps]))

    assert inside(drawn) > 1.5 * inside(without)


def test_two_runs_agree(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, one, _ = trained(tmp_path / "a", train_from="middle", epochs=2)
    _, two, _ = trained(tmp_path / "b", train_from="middle", epochs=2)
    np.testing.assert_allclose(one.kernel, two.kernel, atol=1e-3)
    assert one.history[0]["loss"] > one.history[-1]["loss"]


def test_the_frozen_part_stays_as_it_was(tmp_path: Path) -> None:
    _, fitted, _ = trained(tmp_path, train_from="middle", copies=0, epochs=2)
    before = backbones.joined(backbones.build("mobilenet_v2", SIZE, weights=None, train_from="middle")).trained
    kept = [np.array_equal(a, b) for a, b in zip(before.get_weights(), fitted.weights, strict=True)]
    assert any(kept) and not all(kept)


def by_chance(size: int, _weights: Start) -> Stock:
    """A network without a seed of its own, as the published ones start without weights."""
    import keras

    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(32, 5, strides=2, padding="same", activation="relu")(inputs)
    x = keras.layers.Conv2D(48, 5, strides=2, padding="same", activation="relu", name="middle")(x)
    return Stock(keras.Model(inputs, x), (0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("train_from", ["exact", "middle"])
def test_a_frozen_part_that_starts_by_chance_is_the_one_that_the_bundle_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_from: str
) -> None:
    monkeypatch.setattr(backbones, "BACKBONES", {"mobilenet_v2": by_chance})
    recipe = named("chest_findings", {"size": str(SIZE), "copies": "1", "train_from": train_from, "strength": "1"})
    manifest = findings(("Spot",), films(tmp_path, patients=12))
    decoded = cache.films(manifest.items, SIZE, tmp_path, QUIET)
    learner = Learner(recipe, manifest, decoded, start=None, folder=tmp_path, console=QUIET)
    kept = learner._feed.table[0, 0].astype(np.float32)  # type: ignore[attr-defined]
    fresh = learner._parts().frozen(unit(decoded.pixels[0])[None, ..., None])
    fresh = np.asarray(fresh)[0].mean(axis=(0, 1)) if train_from == "exact" else np.asarray(fresh)[0]
    np.testing.assert_allclose(kept, fresh, rtol=1e-2, atol=1e-2)
