"""A whole run on drawn films with a small network: from a recipe to a bundle that the node's code loads and replays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from models.bundle import Bundle
from models.findings import Reader
from models.pixels import read
from models.predictor import Predictor
from models.registry import Registry
from training import backbones, cli, export, fit
from training.manifest import Item, Manifest
from training.recipe import Known, Recipe, RecipeError, named

pytestmark = pytest.mark.model
SIZE = 32


def network(size: int, _weights: Path | None, *, middle: bool = False) -> Any:
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(16, 5, strides=4, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(48, 3, activation="relu")(x))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Item, ...]:
    """Two films of each of 60 patients; those of the sick have a bright spot in the middle."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:48] / 47 - 0.5
    items = []
    for patient in range(60):
        sick = patient % 3 == 0
        for number in range(2):
            grey = 0.4 + 0.3 * y + 0.5 * sick * np.exp(-(x**2 + y**2) / 0.03) + rng.normal(0, 0.08, x.shape)
            path = folder / f"{patient}_{number}.png"
            Image.fromarray(np.asarray(np.clip(grey, 0, 1) * 255, np.uint8)).save(path)
            items.append(Item(path, (int(sick),), "drawn", f"{patient:03}"))
    return tuple(items)


def recipe(items: tuple[Item, ...], **changes: Any) -> Recipe:
    found = named("cardiomegaly", {"size": str(SIZE), "copies": "1", "middle": "no"})
    return replace(found, manifest=lambda _: Manifest(("Cardiomegaly",), items), gate=None, **changes)


@pytest.fixture(scope="module")
def bundle(films: tuple[Item, ...], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "mobilenet_v2", network)
        path = fit.run(recipe(films), out, out=out, weights=None, console=Console(quiet=True))
    assert not (out / ".building").exists()
    return Bundle.load(path)


def test_a_run_ends_in_a_sealed_bundle_that_replays(bundle: Bundle) -> None:
    assert bundle.ref == "cardiomegaly@1.0.0"
    Predictor(bundle, device="cpu").verify()


def test_it_has_learned_what_was_drawn(bundle: Bundle, films: tuple[Item, ...]) -> None:
    metrics = json.loads(bundle.file("metrics.json").read_text())
    rows = {(f["name"], f["on"]): f for f in metrics["figures"]}
    across = rows["AUC", "5-fold cross-validation by patient"]
    assert across["value"] > 0.95 and across["patients"] == 60 and across["low"] <= across["value"] <= across["high"]
    assert metrics["provenance"]["patients"]["train"] + metrics["provenance"]["patients"]["test"] == 60
    reader = Reader(Registry([bundle.path.parent]), bundle, device="cpu")
    sick, well = reader.read([read(films[0].path), read(films[2].path)])
    assert sick.scores["Cardiomegaly"] > well.scores["Cardiomegaly"]


def test_what_32_pixels_can_tell_fails_the_audit_and_the_card_says_so_first(bundle: Bundle) -> None:
    audit = json.loads(bundle.file("audit.json").read_text())
    statuses = {c["name"]: c["status"] for c in audit["checks"]}
    assert audit["verdict"] == bundle.audit_verdict == "fail", "the spot is plain to see for a logistic regression"
    assert statuses["pixel baseline"] == "fail" and statuses["patients"] == statuses["exact duplicates"] == "pass"
    assert statuses["external set"] == "not run"
    card = bundle.file("MODEL_CARD.md").read_text()
    assert card.index("Not a medical device") < card.index("## Audit: fail") < card.index("## Figures")


def test_two_runs_give_the_same_weights(films: tuple[Item, ...], bundle: Bundle, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "mobilenet_v2", network)
        path = fit.run(recipe(films), tmp_path, out=tmp_path, weights=None, console=Console(quiet=True))
    with np.load(path / "golden.npz") as again, np.load(bundle.file("golden.npz")) as first:
        assert np.allclose(again["scores"], first["scores"], atol=1e-4)


def test_a_gate_knows_its_classes_and_counts_what_it_refuses(films: tuple[Item, ...], tmp_path: Path) -> None:
    items = tuple(replace(i, targets=(i.targets[0], 1 - i.targets[0])) for i in films)
    foreign = Known(more={"chest": list(films[:6])}, foreign={"other": list(films[:4])})
    gate = replace(
        named("chest_abdomen", {"size": str(SIZE), "copies": "1"}),
        manifest=lambda _: Manifest(("chest", "abdomen"), items),
        known=lambda _: foreign,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "mobilenet_v2", network)
        found = Bundle.load(fit.run(gate, tmp_path, out=tmp_path, weights=None, console=Console(quiet=True)))
    groups = {r["group"]: r for r in json.loads(found.file("metrics.json").read_text())["refusals"]}
    assert groups["other"]["images"] == 4 and groups["noise, gradients, constants"]["images"] > 50
    assert found.spec.out_of_distribution is not None
    Predictor(found, device="cpu").verify()


def test_images_without_a_patient_stop_a_run(films: tuple[Item, ...], tmp_path: Path) -> None:
    nameless = (replace(films[0], patient=""), *films[1:])
    with pytest.raises(RecipeError, match="without a known patient"):
        fit.run(recipe(nameless), tmp_path, out=tmp_path, weights=None, console=Console(quiet=True))


def test_golden_images_are_drawn_and_always_the_same() -> None:
    assert np.array_equal(export.golden_images(), export.golden_images())
    assert export.golden_images().dtype == np.uint8


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    run = CliRunner().invoke(cli.app, ["fit", "lungs", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert run.exit_code == 2 and "no such recipe (have: cardiomegaly, chest_abdomen)" in run.output
    run = CliRunner().invoke(cli.app, ["fit", "cardiomegaly", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert run.exit_code == 2 and "is missing" in run.output
    run = CliRunner().invoke(cli.app, ["recipes"])
    assert run.output.split() == ["cardiomegaly", "chest_abdomen"]


@pytest.mark.data
def test_the_backbone_is_torchvisions_with_symmetric_padding(weights_dir: Path) -> None:
    """The ImageNet head of the same weights tells a picture's class only when padding and scaling are right."""
    import keras

    weights = weights_dir / "mobilenet_v2_imagenet_notop.weights.h5"
    plain, middle = (backbones.mobilenet_v2(64, weights, middle=m) for m in (False, True))
    assert plain.output_shape == (None, 2, 2, 1280) and middle.output_shape == (None, 4, 4, 1856)
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    last, both = np.asarray(plain(x)), np.asarray(middle(x))
    assert np.allclose(both[:, ::2, ::2, 576:], last, atol=1e-5)
    (nested,) = (layer for layer in plain.layers if isinstance(layer, keras.Model))
    paddings = [layer.padding for layer in nested.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert len(paddings) == 4 and all(p == ((1, 1), (1, 1)) for p in paddings)
    assert nested.get_layer("Conv1").padding == "valid"
