"""`overread bundle import`: from somebody's Keras file to a prediction, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from house import SETTINGS
from networks_made import SIDE, save_as_keras_2, vgg, with_lambda
from PIL import Image
from typer.testing import CliRunner, Result

from config.settings import Settings
from models.bundle import BundleError
from node.cli import app
from node.cli.printing import guarded
from node.errors import SettingsError
from node.pipeline import plan

pytestmark = pytest.mark.model


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings whose bundles are those that a test imports."""
    path = tmp_path / "overread.toml"
    path.write_text(f'[node]\ndata_dir = "data"\nbundle_dirs = ["{tmp_path / "mine"}"]\n')
    return path


def bring(model: Path, *more: str | Path, labels: str = "covid,normal") -> Result:
    own = ["--name", "covid", "--version", "1.0.0", "--labels", labels, "--preprocessing", "unit"]
    return run("bundle", "import", model, *own, "--out", model.parent / "mine", *more)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_an_imported_network_gives_its_own_score_for_a_persons_image(suffix: str, tmp_path: Path, config: Path) -> None:
    model, path = vgg(), tmp_path / f"covid{suffix}"
    if suffix == ".h5":
        save_as_keras_2(model, path)
    else:
        model.save(path)
    done = bring(path)
    assert done.exit_code == 0 and "bundle_dirs = [" in done.stdout
    grey = np.random.default_rng(4).integers(0, 256, (SIDE, SIDE), np.uint8)
    Image.fromarray(grey).save(tmp_path / "film.png")
    said = json.loads(run("predict", tmp_path / "film.png", "--bundle", "covid", "--json", "--config", config).stdout)
    own = float(np.asarray(model(np.repeat(grey[None, ..., None], 3, axis=3).astype(np.float32) / 255))[0, 0])
    assert said["status"] == "analysed"
    assert said["scores"] == {"covid": pytest.approx(own, abs=1e-4)}, "normal is no finding"
    assert run("bundle", "verify", "covid", "--config", config).exit_code == 0


def test_a_live_route_to_an_imported_bundle_is_a_settings_error_that_shows_the_line(tmp_path: Path) -> None:
    vgg().save(tmp_path / "own.keras")
    bring(tmp_path / "own.keras")
    node = {"bundle_dirs": [tmp_path / "mine"]}

    def planned(**changes: Any) -> list[Any]:
        route = SETTINGS["route"][0] | {"bundle": "covid"} | changes
        return plan.plan(Settings(**(SETTINGS | {"node": node, "route": [route]})))

    with pytest.raises(SettingsError, match=r"covid@1\.0\.0 was not audited.*accept_unaudited = true"):
        planned(mode="live")
    assert planned(mode="live", accept_unaudited=True)[0].bundle == "covid@1.0.0"
    assert planned(mode="shadow")


def test_a_file_with_a_program_in_it_ends_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_lambda().save(tmp_path / "bad.keras")
    asked = "--name x --version 1.0.0 --labels a,b --preprocessing unit --out"
    file = str(tmp_path / "bad.keras")
    monkeypatch.setattr("sys.argv", ["overread", "bundle", "import", file, *asked.split(), str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        guarded(app)
    assert ended.value.code == 2
    assert "holds a Lambda layer 'scaling'" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.keras"]


def test_the_gate_must_be_there_and_know_its_label(tmp_path: Path, config: Path) -> None:
    vgg().save(tmp_path / "own.keras")
    assert bring(tmp_path / "own.keras", labels="chest,abdomen").exit_code == 0
    more = ("--version", "1.0.1", "--config", config)
    with pytest.raises(BundleError, match="nowhere: no such bundle"):
        bring(tmp_path / "own.keras", "--gate", "nowhere:chest:0.9", *more)
    with pytest.raises(BundleError, match=r"covid@1\.0\.0 has no label knee \(have: chest, abdomen\)"):
        bring(tmp_path / "own.keras", "--gate", "covid:knee:0.9", *more)
    made = bring(tmp_path / "own.keras", "--gate", "covid:chest:0.9", "--name", "heart", *more)
    assert made.exit_code == 0
    content = json.loads((tmp_path / "mine" / "heart-1.0.1" / "bundle.json").read_text())
    assert content["gate"] == {"bundle": "covid", "accept": ["chest"], "at_least": 0.9}


def test_age_modality_and_threshold_are_as_asked_for(tmp_path: Path) -> None:
    vgg().save(tmp_path / "own.keras")
    bring(tmp_path / "own.keras", "--min-age", "0", "--modality", "CT, MR", "--threshold", "0.7")
    content = json.loads((tmp_path / "mine" / "covid-1.0.0" / "bundle.json").read_text())
    assert content["accepts"]["modality"] == ["CT", "MR"] and "min_age_years" not in content["accepts"]
    assert content["labels"][0]["threshold"] == content["labels"][0]["lower"] == 0.7


def test_an_unknown_task_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--task guess: one of binary, multiclass, multilabel is needed"):
        bring(tmp_path / "gone.keras", "--task", "guess")
    with pytest.raises(BundleError, match=r"gone\.keras: no such file"):
        bring(tmp_path / "gone.keras")


def test_help_says_which_labels_are_not_reported() -> None:
    said = " ".join(run("bundle", "import", "--help").stdout.split())
    assert "A label that names no finding is not reported" in said and "accept_unaudited" in said
