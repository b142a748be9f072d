"""A whole run on drawn films with a small network: from a recipe to a bundle that the node's code loads and replays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from drawn import SIZE, films, network
from rich.console import Console
from typer.testing import CliRunner

from models.bundle import Bundle
from models.findings import Reader
from models.pixels import read
from models.predictor import Predictor
from models.registry import Registry
from training import cli, fit
from training.errors import RecipeError
from training.learning import backbones
from training.learning.learner import Learner
from training.manifest import NO_FINDING, Item, Manifest, exclusive, findings
from training.recipe import Known, Recipe, named
from training.run import started

pytestmark = pytest.mark.model
LABEL = "Cardiomegaly"
QUIET = Console(quiet=True)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "BACKBONES", {"mobilenet_v2": network, "inception_v3": network})
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    return films(tmp_path_factory.mktemp("films"), label=LABEL)


def recipe(items: list[Item], **changes: Any) -> Recipe:
    settings = {"size": SIZE, "copies": 2, "epochs": 5, "batch": 16, "rate": 5e-3, "folds": 3, "train_from": "middle"}
    found = named("chest_findings", {k: str(v) for k, v in (settings | changes).items()})
    concepts = {LABEL: found.concepts({})[LABEL]}
    manifest = lambda *_: findings((LABEL,), items)  # noqa: E731
    return replace(found, kind="binary", concepts=lambda _: concepts, manifest=manifest, gate=None)


def run(found: Recipe, folder: Path) -> Bundle:
    out = fit.run(found, folder, out=folder, weights="none", work=folder / "work", console=QUIET)
    return Bundle.load(out)


@pytest.fixture(scope="module")
def bundle(drawn: list[Item], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return run(recipe(drawn), tmp_path_factory.mktemp("out"))


def test_a_run_ends_in_a_sealed_bundle_that_replays(bundle: Bundle) -> None:
    assert bundle.ref == "chest-findings@1.0.0"
    Predictor(bundle, device="cpu").verify()
    assert not (bundle.path.parent / ".building").exists()


def test_it_has_learned_what_was_drawn_and_points_at_it(bundle: Bundle, drawn: list[Item]) -> None:
    said = json.loads(bundle.file("metrics.json").read_text())
    rows = {row["name"]: row for row in said["figures"]}
    assert said["on"] == "3-fold cross-validation by patient"
    assert rows["AUC"]["value"] > 0.9 and rows["AUC"]["patients"] == 45
    assert rows["AUC"]["low"] <= rows["AUC"]["value"] <= rows["AUC"]["high"]
    assert rows["pointing game"]["images"] == 30
    reader = Reader(Registry([bundle.path.parent]), bundle, device="cpu")
    sick, well = reader.read([read(drawn[0].path), read(drawn[2].path)])
    assert sick.scores[LABEL] > well.scores[LABEL]


def test_what_32_pixels_can_tell_fails_the_audit_and_the_card_says_so_first(bundle: Bundle) -> None:
    audit = json.loads(bundle.file("audit.json").read_text())
    statuses = {c["name"]: c["status"] for c in audit["checks"]}
    assert audit["verdict"] == bundle.audit_verdict == "fail", "the spot is plain to see for a logistic regression"
    assert statuses["pixel baseline"] == "fail" and statuses["patients"] == statuses["exact duplicates"] == "pass"
    assert "not run" not in statuses.values()
    card = bundle.file("MODEL_CARD.md").read_text()
    assert card.index("Not a medical device") < card.index("## Audit: fail") < card.index("## Figures")


def test_a_report_and_the_manifest_lie_beside_the_bundle(bundle: Bundle) -> None:
    page = bundle.path.with_name(f"{bundle.path.name}.report.html").read_text()
    assert LABEL in page and "<img" in page and 'src="http' not in page and "<link" not in page
    lines = bundle.path.with_name(f"{bundle.path.name}.manifest.csv").read_text().splitlines()
    assert len(lines) == 91 and lines[0].endswith(LABEL)


def test_the_same_command_again_trains_nothing_twice(
    bundle: Bundle, drawn: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "fit", lambda *_a, **_k: pytest.fail("a finished part was trained again"))
    with np.load(bundle.file("golden.npz")) as first:
        before = first["scores"]
    again = run(recipe(drawn), bundle.path.parent)
    with np.load(again.file("golden.npz")) as second:
        np.testing.assert_array_equal(second["scores"], before)


def test_another_model_does_not_take_the_place_of_a_bundle(bundle: Bundle, drawn: list[Item]) -> None:
    before = bundle.file("SHA256SUMS").read_bytes()
    with pytest.raises(RecipeError, match=r"is there already, made of other films or with other settings"):
        run(recipe(drawn, epochs=1), bundle.path.parent)
    assert bundle.file("SHA256SUMS").read_bytes() == before


def test_a_single_split_is_judged_on_its_test_patients(drawn: list[Item], tmp_path: Path) -> None:
    found = run(recipe(drawn, folds=1, patience=2), tmp_path)
    said = json.loads(found.file("metrics.json").read_text())
    assert said["on"] == "test patients" and {r["patients"] for r in said["figures"] if r["name"] == "AUC"} == {9}
    assert "validation patients" in " ".join(said["notes"])


def test_a_single_split_ships_the_model_that_was_judged(
    drawn: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    fit_one = Learner.fit
    monkeypatch.setattr(
        Learner, "fit", lambda self, rows, name, **more: trained.append(name) or fit_one(self, rows, name, **more)
    )
    run(recipe(drawn, folds=1, patience=2, epochs=2), tmp_path)
    assert trained == ["fold 1 of 1"]


def test_rows_in_another_order_do_not_take_each_others_answers(drawn: list[Item], tmp_path: Path) -> None:
    started_with = [
        started(recipe(items), tmp_path, weights="none", work=tmp_path / "work", console=QUIET)
        for items in (drawn, drawn[::-1], drawn)
    ]
    first, turned, again = (found.folder for found in started_with)
    assert first == again != turned
    assert started_with[0].manifest.digest() == started_with[1].manifest.digest(), "it is the same data"


def test_distilled_targets_lie_between_the_labels_and_what_the_folds_said() -> None:
    targets = np.array([[1, 0], [0, 1], [1, 1]])
    found = Manifest(("a", "b"), tuple(Item(Path(f"{i}.png"), "made") for i in range(3)), targets, targets == targets)
    held: Any = SimpleNamespace(scores=np.array([[0.5, 0.1], [0.2, 0.6]]))
    judgement: Any = SimpleNamespace(rows=np.array([2, 0]), held=held)
    np.testing.assert_allclose(
        fit.distilled(found, judgement, 0.25), [[0.75 + 0.05, 0.15], [0, 1], [0.875, 0.775]], rtol=1e-12
    )
    assert (fit.distilled(found, judgement, 0.0) == targets).all()


@pytest.mark.parametrize("settings", [{"folds": "1"}, {"train_from": "exact"}])
def test_distilling_what_nobody_said_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="otherwise distil = 0"):
        named("chest_findings", {"distil": "0.5", **settings})


def test_a_gate_knows_its_classes_and_counts_what_it_refuses(drawn: list[Item], tmp_path: Path) -> None:
    names = {LABEL: "chest", NO_FINDING: "abdomen"}
    items = [replace(i, labels=frozenset(names[x] for x in i.labels), boxes=()) for i in drawn]
    known = Known(more={"chest": items[:6]}, familiar={"more": items[:2]}, foreign={"others": items[2:6]})
    settings = {"size": SIZE, "copies": 1, "folds": 3, "train_from": "exact"}
    gate = replace(
        named("chest_abdomen", {k: str(v) for k, v in settings.items()}),
        manifest=lambda *_: exclusive(("chest", "abdomen"), items),
        known=lambda _: known,
    )
    found = run(gate, tmp_path)
    groups = {r["group"]: r for r in json.loads(found.file("metrics.json").read_text())["refusals"]}
    assert groups["others"]["images"] == 4 and groups["noise, gradients, constants"]["images"] > 50
    assert groups["abdomen"]["gate"] > groups["chest"]["gate"]
    assert found.spec.out_of_distribution is not None
    Predictor(found, device="cpu").verify()


def test_images_without_a_patient_stop_a_run(drawn: list[Item], tmp_path: Path) -> None:
    nameless = [replace(drawn[0], patient=""), *drawn[1:]]
    with pytest.raises(RecipeError, match="1 images without a known patient"):
        run(recipe(nameless), tmp_path)


def test_copies_of_one_film_stay_together_whoever_they_are_said_to_be_of(drawn: list[Item], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(drawn[0].path.read_bytes())
    items = [*drawn, replace(drawn[0], path=copy, patient="another")]
    found = started(recipe(items), tmp_path, weights="none", work=tmp_path / "work", console=QUIET)
    groups = found.manifest.groups
    assert groups[0] == groups[1] == groups[-1] and len(set(groups)) == 45
    assert isinstance(found.manifest, Manifest)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    ask = CliRunner().invoke
    said = ask(cli.app, ["fit", "lungs", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert said.exit_code == 2 and "no such recipe (have: body_part, cardiomegaly_inceptionv3" in said.output
    said = ask(cli.app, ["fit", "covid_vgg16", "--set", "negatives=all", "--data", str(tmp_path), "--out", "x"])
    assert said.exit_code == 2 and "allows published, adult" in said.output
    said = ask(cli.app, ["fit", "chest_findings", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert said.exit_code == 2 and "nih_adleberg" in said.output
    said = ask(cli.app, ["fit", "chest_findings", "--set", "size", "--data", str(tmp_path), "--out", str(tmp_path)])
    assert said.exit_code == 2 and "--set size: key=value is needed" in said.output
    listed = ask(cli.app, ["recipes"]).output
    assert "chest_abnormal: Sick or not" in listed and "--set negatives=  published, adult" in listed
