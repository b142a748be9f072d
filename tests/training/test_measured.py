import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from reader_made import Bright, bundle, films
from rich.console import Console
from typer.testing import CliRunner

from models.registry import Registry
from training import cli, measured, reading
from training.errors import ManifestError
from training.report import Story
from training.sources import SOURCES

QUIET = Console(quiet=True)


def told(reader: Any, items: Any, **options: Any) -> Story:
    return measured.story(reader, items, console=QUIET, **options)


def test_a_story_says_how_many_films_its_figures_stand_on_and_why_others_were_refused(tmp_path: Path) -> None:
    some = films(tmp_path)
    found = told(Bright(bundle(tmp_path)), [*some, replace(some[0], path=tmp_path / "gone.png")])
    assert found.on == "made: 61 films, 59 read by cardiomegaly@1.0.0 without a gate, 59 counted"
    first = found.figures[0]
    assert (first.name, first.images, first.patients) == ("AUC", 59, 30) and 0.7 < first.value < 1
    assert found.refusals[0].why == "1 refused: gate, 1 failed: unreadable"
    assert found.refusals[1].group == "films with Cardiomegaly" and found.refusals[1].refused == 1


def test_films_that_are_read_but_have_another_finding_are_not_said_to_be_counted(tmp_path: Path) -> None:
    some = films(tmp_path)
    some[-1] = replace(some[-1], labels=frozenset({"Mass"}))
    assert told(Bright(bundle(tmp_path)), some).on.endswith("59 read by cardiomegaly@1.0.0 without a gate, 58 counted")


def test_thresholds_and_audit_are_those_of_the_bundle(tmp_path: Path) -> None:
    found = told(Bright(bundle(tmp_path)), films(tmp_path), prevalence=0.05)
    assert found.thresholds == [0.5] and (found.held.flagged == (found.held.scores >= 0.5)).all()
    assert found.audit and (found.audit.verdict, found.audit.checks[0].text) == ("warn", "No patient is known.")
    assert any(f.name == "PPV at prevalence 5.0%" for f in found.figures)
    unaudited = replace(bundle(tmp_path), audit_verdict="absent")
    assert told(Bright(unaudited), films(tmp_path)).audit is None


def test_maps_are_held_against_the_boxes_and_shown_with_the_films(tmp_path: Path) -> None:
    found = told(Bright(bundle(tmp_path)), films(tmp_path))
    pointing = next(f for f in found.figures if f.name == "pointing game")
    assert pointing.value == 1 and pointing.images == 20
    assert {e.kind for e in found.examples} == {"true positive", "false negative", "false positive"}
    assert all(e.pixels.dtype == "uint8" and e.saliency is not None for e in found.examples)
    assert [bool(e.boxes) for e in found.examples] == [e.kind != "false positive" for e in found.examples]


def test_what_could_not_be_measured_is_said(tmp_path: Path) -> None:
    some = [replace(i, patient="") for i in films(tmp_path)]
    notes = " ".join(told(Bright(bundle(tmp_path, "Cardiomegaly", "Hernia")), some).notes)
    assert "Not measured" in notes and "Hernia" in notes and "Of 60 films no patient is known" in notes
    assert "trained on some of these films is not known" in notes


def test_films_that_are_all_refused_are_an_error_that_says_why(tmp_path: Path) -> None:
    some = [replace(i, path=tmp_path / "002.png") for i in films(tmp_path)]
    with pytest.raises(ManifestError, match=r"0 of 60 read; refused: 60 refused: gate"):
        told(Bright(bundle(tmp_path)), some)


def test_films_that_the_model_was_trained_on_are_counted(tmp_path: Path) -> None:
    made, some = bundle(tmp_path), films(tmp_path)
    listed = [hashlib.sha256(i.path.read_bytes()).hexdigest() for i in some[:7]]
    beside = made.path.with_name(f"{made.path.name}.manifest.csv")
    beside.write_text("path,digest\n" + "".join(f"x,{digest}\n" for digest in listed))
    copies = sum(hashlib.sha256(i.path.read_bytes()).hexdigest() in listed for i in some)
    assert f"{copies} of these 60 films were trained on" in " ".join(told(Bright(made), some).notes)
    beside.write_text("path,digest\nx,0\n")
    assert "None of these files was trained on" in " ".join(told(Bright(made), some).notes)


def test_films_of_one_kind_are_not_read_at_all(tmp_path: Path) -> None:
    sick = [i for i in films(tmp_path) if "Cardiomegaly" in i.labels]
    reader: Any = SimpleNamespace(bundle=bundle(tmp_path))
    with pytest.raises(ManifestError, match="Cardiomegaly: films with and without it are needed; only one kind"):
        measured.story(reader, sick, console=QUIET)


def test_two_bundles_are_compared_on_the_films_that_both_read(tmp_path: Path) -> None:
    readers: Any = Bright(bundle(tmp_path)), Bright(bundle(tmp_path, "CARDIOMEGALY"), wrong=True)
    (found,) = measured.comparison(readers, films(tmp_path), console=QUIET)
    assert found.images == 59 and found.auc_a == pytest.approx(1 - found.auc_b)
    assert "a is better by" in found.words("a", "b")


def test_bundles_without_a_shared_label_are_an_error_that_names_both_lists(tmp_path: Path) -> None:
    readers: Any = Bright(bundle(tmp_path)), Bright(bundle(tmp_path, "Mass"))
    with pytest.raises(ManifestError, match=r"share no label \(Cardiomegaly and Mass\)"):
        measured.comparison(readers, films(tmp_path), console=QUIET)


def test_the_commands_print_json_write_the_report_and_say_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    films(data, folders=True)
    made = bundle(tmp_path)
    monkeypatch.setattr(reading, "opened", lambda ref, gate: Bright(made, wrong=ref == "b"))
    run = CliRunner().invoke
    told = run(cli.app, ["evaluate", "a", "--data", str(data), "--json", "--out", str(out)])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["figures"][0]["name"] == "AUC" and found["refusals"][0]["refused"] == 1
    assert "<h1>cardiomegaly@1.0.0</h1>" in (out / "report.html").read_text()
    table = run(cli.app, ["evaluate", "a", "--data", str(data), "--source", "folders"])
    assert table.exit_code == 0 and "sensitivity" in table.stdout and "Audit: warn" in table.stdout
    assert json.loads((out / "report.json").read_text()) == found
    both = run(cli.app, ["compare", "a", "b", "--data", str(data), "--out", str(tmp_path / "both")])
    assert both.exit_code == 0 and "is better by" in both.stdout and "Report: " in both.stderr
    page = (tmp_path / "both" / "report.html").read_text()
    assert "AUC of A" in page and both.stdout.splitlines()[0].split(" (")[0] in page
    assert json.loads((tmp_path / "both" / "report.json").read_text())[0]["label"] == "Cardiomegaly"
    wrong = run(cli.app, ["evaluate", "a", "--data", str(data), "--source", "nihh"])
    assert wrong.exit_code == 2 and "nihh: no such source (have: folders" in wrong.output


@pytest.mark.data
@pytest.mark.model
def test_a_shipped_bundle_is_measured_on_real_films_as_the_node_reads_them(data_dir: Path) -> None:
    shipped = next(b for b in Registry().findings() if "Cardiomegaly" in [x.name for x in b.spec.labels])
    films = SOURCES["nih_adleberg"](data_dir / "nih_adleberg")
    parts = [[i for i in films if i.labels == {name}][:20] for name in ("Cardiomegaly", "No Finding")]
    found = measured.story(reading.opened(shipped.ref), [*parts[0], *parts[1]], console=QUIET)
    figures = {f.name: f for f in found.figures if f.label == "Cardiomegaly"}
    assert figures["AUC"].value > 0.7 and figures["AUC"].images >= 36
    assert figures["pointing game"].images >= 18 and found.examples[0].saliency is not None


def test_films_that_a_node_received_are_measured_by_a_table_of_labels(tmp_path: Path) -> None:
    ask = CliRunner().invoke
    said = ask(cli.app, ["audit", "--data", str(tmp_path), "--from-node", str(tmp_path)])
    assert said.exit_code == 2 and "--data FOLDER or --from-node FOLDER is needed, and not both" in said.stderr
    said = ask(cli.app, ["evaluate", "chest-findings"])
    assert said.exit_code == 2 and "--data FOLDER or --from-node FOLDER is needed" in said.stderr
    said = ask(cli.app, ["audit", "--from-node", str(tmp_path)])
    assert said.exit_code == 2 and "is no data folder of a node" in said.stderr
    (tmp_path / "labels.csv").touch()
    said = ask(cli.app, ["audit", "--data", str(tmp_path), "--labels", str(tmp_path / "labels.csv")])
    assert said.exit_code == 2 and "--labels goes with --from-node" in said.stderr
