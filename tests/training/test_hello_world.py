"""The notebook of the first exercise: it can be read without having been run, and it leads to an answer in DICOM."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from pydicom import dcmread

from models.bundle import Bundle
from node.storage import roles

NOTEBOOK = Path(__file__).resolve().parents[2] / "training" / "hello_world.ipynb"
CELL_SECONDS = 600
SEEN = """
import json
seen = {
    "accuracy": accuracy,
    "verdict": audit["verdict"],
    "examples": len(examples),
    "page": str(report_page),
    "bundle": str(path),
    "entries": report_entries,
    "capture": str(capture.filename),
    "pid": node.pid,
    "code": node.returncode,
    "from_png": from_png,
    "from_dicom": from_dicom,
}
Path("seen.json").write_text(json.dumps(seen))
"""
"""A last cell of ours: what the notebook leaves in its namespace."""


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def code() -> list[str]:
    return [cell.source for cell in notebook().cells if cell.cell_type == "code"]


def prose() -> str:
    return "\n".join(cell.source for cell in notebook().cells if cell.cell_type == "markdown")


def test_it_is_committed_without_outputs() -> None:
    nbformat.validate(notebook())
    for cell in notebook().cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.source


def test_it_names_no_folder_of_any_machine() -> None:
    found = re.findall(r"/(?:work|tmp|home|root|Users|mnt|opt)\b|\b[A-Z]:\\\\", NOTEBOOK.read_text("utf-8"))
    assert found == []


@pytest.mark.parametrize("number", range(len(code())))
def test_every_code_cell_is_plain_python(number: int) -> None:
    ast.parse(code()[number])


def test_a_sentence_before_each_code_cell_says_why() -> None:
    kinds = [cell.cell_type for cell in notebook().cells]
    for before, kind in pairwise(kinds):
        assert kind == "markdown" or before == "markdown"
    assert kinds[0] == "markdown"
    assert all(len(cell.source) > 60 for cell in notebook().cells if cell.cell_type == "markdown")


def test_research_use_only_is_said_first_and_last() -> None:
    first, *_, last = (cell.source for cell in notebook().cells)
    assert "Research use only. Not a medical device." in first
    assert "Research use only." in last


def test_lines_are_no_wider_than_those_of_the_modules() -> None:
    assert max(len(line) for text in [*code(), prose()] for line in text.splitlines()) <= 120


def namespace_of(tag: str, **given: Any) -> dict[str, Any]:
    """What the one cell with this tag defines."""
    (source,) = (cell.source for cell in notebook().cells if tag in cell.metadata.get("tags", []))
    exec(source, given)
    return given


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_missing_folder_is_named_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERREAD_TEST_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"OVERREAD_TEST_DATA must name .* hello_world/labels\.csv"):
        exec(code()[0], {})


@pytest.fixture
def idle(tmp_path: Path) -> dict[str, Any]:
    """The cell that starts and stops the node, with a program that does nothing in the node's place."""
    program = tmp_path / "overread"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    answered = subprocess.CompletedProcess([], 0)
    return namespace_of(
        "node", OVERREAD=program, runs=tmp_path, ask=lambda *_: answered, subprocess=subprocess, time=time
    )


def test_the_node_is_stopped_when_the_exercise_fails_half_way(idle: dict[str, Any]) -> None:
    with pytest.raises(ZeroDivisionError), idle["running_node"]() as node:
        assert not gone(node.pid)
        raise ZeroDivisionError
    assert node.returncode == -signal.SIGTERM and gone(node.pid)


def test_a_node_that_does_nothing_is_not_waited_for_for_ever(idle: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="Its log"), idle["running_node"]() as node:
        idle["wait_until"](lambda: False, node, seconds=0.1)
    assert gone(node.pid)


@dataclass(frozen=True)
class Run:
    """The notebook after it was run in `folder`; `seen` is what `SEEN` keeps."""

    folder: Path
    seen: dict[str, Any]
    printed: str


@pytest.fixture(scope="module")
def run(data_dir: Path, weights_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, book = tmp_path_factory.mktemp("hello"), notebook()
    book.cells.append(nbformat.v4.new_code_cell(SEEN))
    given = {"OVERREAD_TEST_DATA": str(data_dir), "OVERREAD_TEST_WEIGHTS": str(weights_dir)}
    client = NotebookClient(book, timeout=CELL_SECONDS, resources={"metadata": {"path": str(folder)}})
    client.execute(env=os.environ | given)
    outputs = [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]
    return Run(
        folder,
        json.loads((folder / "seen.json").read_text()),
        "".join(o.text for o in outputs if o.output_type == "stream"),
    )


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.data
class TestTheWholeNotebook:
    def test_it_says_how_good_the_model_is_and_what_the_audit_holds_of_it(self, run: Run) -> None:
        accuracy = run.seen["accuracy"]
        assert accuracy["images"] == 65
        assert 0.9 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
        assert f"Accuracy {accuracy['value']:.3f}" in run.printed
        assert f"Verdict: {run.seen['verdict']}" in run.printed
        assert "No patient is known" in run.printed

    def test_it_leaves_a_sealed_bundle_with_its_report(self, run: Run) -> None:
        bundle = Bundle.load(Path(run.seen["bundle"]))
        assert bundle.ref == "chest-abdomen@2.0.0" and bundle.audit_verdict == run.seen["verdict"]
        assert "<html" in Path(run.seen["page"]).read_text("utf-8")
        assert run.seen["examples"] >= 4

    def test_the_report_that_is_read_back_holds_the_label_and_the_bundle(self, run: Run) -> None:
        said = {(name, value) for _, name, value in run.seen["entries"]}
        assert ("Algorithm Name", "chest-abdomen") in said and ("Algorithm Version", "2.0.0") in said
        assert ("Tracking Identifier", "chest") in said and ("Presence of property", "Present") in said
        assert any(name == "Comment" and value.startswith("RESEARCH USE ONLY") for name, value in said)

    def test_the_picture_is_of_the_study_that_was_sent(self, run: Run) -> None:
        picture, film = dcmread(run.seen["capture"]), dcmread(run.folder / "runs" / "hello_world" / "film.dcm")
        assert picture.StudyInstanceUID == film.StudyInstanceUID and picture.PatientName == film.PatientName
        assert picture.pixel_array.ndim == 3 and picture.pixel_array.std() > 0

    def test_the_film_as_dicom_gets_the_score_that_it_has_as_png(self, run: Run) -> None:
        assert run.seen["from_png"].keys() == run.seen["from_dicom"].keys() == {"chest", "abdomen"}
        for label, score in run.seen["from_png"].items():
            assert run.seen["from_dicom"][label] == pytest.approx(score, abs=0.01)
        assert run.seen["from_dicom"]["chest"] > 0.9

    def test_no_process_of_the_node_is_left(self, run: Run) -> None:
        assert run.seen["code"] == 0 and gone(run.seen["pid"])
        said = roles.status(run.folder / "runs" / "hello_world" / "node")
        assert said and not any(role["running"] for role in said.values())
