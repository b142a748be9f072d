"""A cohort: real films through a node in shadow, its table out, and the same figures as of the films themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from house import House, make_image
from PIL import Image
from typer.testing import CliRunner

from config.settings import Settings
from node.cli import app
from node.domain import StudyState
from node.pipeline.infer import Worker
from node.pipeline.plan import plan, registry
from node.pipeline.route import route_study
from node.pipeline.settle import settle_due
from node.service import Parts, open_parts
from node.storage import studies
from training import cli
from training.sources import SOURCES

pytestmark = [pytest.mark.model, pytest.mark.data, pytest.mark.slow]
EACH = 16
SETTINGS = """
[node]
data_dir = "data"
[listener]
reserve_mb = 0
[[route]]
name = "cohort"
when = { Modality = ["CR"] }
bundle = "chest-findings"
results = ["sr"]
mode = "shadow"
"""


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    file = tmp_path / "overread.toml"
    file.write_text(SETTINGS)
    with open_parts(Settings.load(file)) as opened:
        yield opened


def cohort(data: Path, folder: Path, each: int = EACH) -> list[dict[str, str]]:
    """Films with a finding and films without any as DICOM files, one study each, and the row of labels of each."""
    films = SOURCES["nih_adleberg"](data)
    kinds = ("Cardiomegaly", "Effusion", "No Finding")
    chosen = [film for kind in kinds for film in [f for f in films if f.labels == {kind}][:each]]
    folder.mkdir()
    rows = []
    for n, film in enumerate(chosen):
        grey = np.asarray(Image.open(film.path).convert("L"), np.uint16)
        ids = {"StudyInstanceUID": f"2.25.7.{n}", "SeriesInstanceUID": f"2.25.7.{n}.1", "AccessionNumber": f"A{n}"}
        ids |= {"SOPInstanceUID": f"2.25.7.{n}.1.1", "PatientID": film.patient, "PatientBirthDate": "19500101"}
        make_image(folder / f"{n}.dcm", pixels=grey, BitsStored=8, HighBit=7, **ids)
        label = "|".join(film.labels)
        rows.append({"sop_instance_uid": ids["SOPInstanceUID"], "StudyInstanceUID": ids["StudyInstanceUID"]})
        rows[-1] |= {"patient": film.patient, "label": label}
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return rows


def run(parts: Parts, files: list[Path]) -> None:
    """All that a node does with studies that arrive, in this process."""
    settings = parts.settings
    house = House(settings, parts.store, parts.spool, parts.bell, settings.node.data_dir)
    for file in files:
        house.receive(file)
    house.now += 100
    settle_due(parts.store, settings, house.now)
    plans = plan(settings)
    for study in studies.in_state(parts.store, StudyState.SETTLED):
        route_study(parts.store, study, plans, house.now, peers=settings.peer)
    worker = Worker(
        parts.store,
        parts.spool,
        settings=settings,
        registry=registry(settings),
        bell=parts.bell,
        name="w",
        device="cpu",
        clock=lambda: house.now,
    )
    while worker.run_batch():
        continue


def told(*arguments: str) -> dict[str, Any]:
    said = CliRunner().invoke(cli.app, ["evaluate", *arguments, "--json"])
    assert said.exit_code == 0, said.output
    return dict(json.loads(said.stdout))


def test_a_cohort_in_shadow_has_the_figures_of_its_films(data_dir: Path, parts: Parts, tmp_path: Path) -> None:
    films = tmp_path / "films"
    rows = cohort(data_dir / "nih_adleberg", films)
    run(parts, sorted(films.glob("*.dcm")))
    export, config = tmp_path / "cohort.csv", str(tmp_path / "overread.toml")
    done = CliRunner().invoke(app, ["results", "export", "--csv", str(export), "--route", "cohort", "-c", config])
    assert done.exit_code == 0, done.output
    with export.open(newline="") as file:
        exported = list(csv.DictReader(file))
    assert {row["study_instance_uid"] for row in exported} == {row["StudyInstanceUID"] for row in rows}
    assert {row["mode"] for row in exported} == {"shadow"}
    of_films = told("chest-findings", "--data", str(films), "--source", "dicom")
    labels = ("--labels", str(films / "labels.csv"), "--key", "StudyInstanceUID")
    of_table = told("--predictions", str(export), *labels, "--out", str(tmp_path / "report"))
    assert (tmp_path / "report" / "report.html").is_file()
    refused = [one["refusals"][0]["refused"] for one in (of_films, of_table)]
    assert refused[0] == refused[1] < EACH
    kept = ("label", "name", "value", "low", "high", "images", "patients")
    figures = [[{k: f.get(k) for k in kept} for f in one["figures"]] for one in (of_films, of_table)]
    assert figures[0] == figures[1]
    assert {f["label"] for f in figures[0]} >= {"Cardiomegaly", "Effusion"}
    assert next(f["value"] for f in figures[0] if f["name"] == "AUC" and f["label"] == "Cardiomegaly") > 0.7
