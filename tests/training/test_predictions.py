"""What a node exported, held against labels: the figures are those of the films, and nothing is left out unsaid."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reader_made import Bright, bundle, films
from rich.console import Console
from typer.testing import CliRunner

from training import cli, measured, predictions
from training.errors import ManifestError, SourceError
from training.predictions import Joined, Predictions

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (
    "study study_instance_uid accession_number patient route series_instance_uid revision bundle model_digest status "
    "reason label score threshold"
).split()
REF = "cardiomegaly@1.0.0"


def row(number: int, score: float | None, **changed: Any) -> dict[str, Any]:
    said = {
        "study": number,
        "study_instance_uid": f"1.2.{number}",
        "accession_number": f"A{number}",
        "patient": f"p{number // 2}",
        "route": "chest",
        "series_instance_uid": "",
        "revision": 1,
        "bundle": REF,
        "model_digest": "d" * 64,
        "status": "REFUSED" if score is None else "ANALYSED",
        "reason": "",
        "label": "" if score is None else "Cardiomegaly",
        "score": "" if score is None else score,
        "threshold": "" if score is None else 0.5,
    }
    return said | changed


def write(path: Path, lines: Sequence[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        nothing = [{k: None if v == "" else v for k, v in line.items()} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in nothing))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def some(path: Path, **changed: Any) -> Path:
    """Twenty studies of ten patients; those with the finding score higher, mostly."""
    scores = np.random.default_rng(1).uniform(0, 0.6, 20)
    return write(path, [row(n, round(float(s) + 0.3 * (n % 2), 4), **changed) for n, s in enumerate(scores)])


def truth(path: Path, **columns: Callable[[int], Any]) -> Path:
    given = columns or {"StudyInstanceUID": lambda n: f"1.2.{n}", "Cardiomegaly": lambda n: n % 2}
    return write(path, [{name: of(n) for name, of in given.items()} for n in range(20)])


def joined(file: Path, labels: Path, *, key: str = "", label: str = "") -> tuple[Predictions, Joined]:
    said = predictions.read(file, key=predictions.key_of(labels, key))
    return said, predictions.joined(said, labels, label=label)


def test_the_figures_are_those_of_the_films_themselves(tmp_path: Path) -> None:
    """One pipeline reads films, one reads what was said of them; patients, scores and labels are the same."""
    made = bundle(tmp_path)
    reader: Any = Bright(made)
    items = films(tmp_path)
    of_films = measured.story(reader, items, console=Console(quiet=True))
    from training import reading

    said = reading.readings(reader, items, console=Console(quiet=True))
    export = [row(n, r.scores.get("Cardiomegaly"), threshold=0.5 if r.scores else "") for n, r in enumerate(said)]
    labels = [{"study": n, "label": "|".join(item.labels), "patient": item.patient} for n, item in enumerate(items)]
    found = joined(write(tmp_path / "e.csv", export), write(tmp_path / "l.csv", labels))
    of_table = measured.story_of(*found)
    assert [(f.name, f.value, f.low, f.high, f.images, f.patients) for f in of_table.figures] == [
        (f.name, f.value, f.low, f.high, f.images, f.patients) for f in of_films.figures if f.name in FIGURES
    ]
    assert of_table.on == "export: 60 films, 59 read by cardiomegaly@1.0.0, 59 counted"
    assert of_table.refusals[0].why == "1 refused: refused"
    assert "Not read: 1 refused." in of_table.notes


FIGURES = {
    "AUC",
    "average precision",
    "Brier score",
    "expected calibration error",
    "sensitivity",
    "specificity",
    "accuracy",
}


@pytest.mark.parametrize("name", ["e.csv", "e.jsonl"])
@pytest.mark.parametrize(
    ("column", "of"),
    [
        ("StudyInstanceUID", lambda n: f"1.2.{n}"),
        ("study_instance_uid", lambda n: f"1.2.{n}"),
        ("AccessionNumber", lambda n: f"A{n}"),
        ("study", lambda n: n),
    ],
)
def test_each_form_and_each_key_will_do(tmp_path: Path, name: str, column: str, of: Callable[[int], Any]) -> None:
    labels = truth(tmp_path / "l.csv", **{column: of, "cardiomegaly": lambda n: n % 2})
    told = measured.story_of(*joined(some(tmp_path / name), labels))
    assert (told.figures[0].name, told.figures[0].images, told.figures[0].patients) == ("AUC", 20, 10)
    assert 0.5 < told.figures[0].value < 1


def test_what_has_no_partner_is_counted_on_either_side(tmp_path: Path) -> None:
    labels = truth(tmp_path / "l.csv", study=lambda n: n + 3, Cardiomegaly=lambda n: n % 2)
    _, found = joined(some(tmp_path / "e.csv"), labels)
    assert found.notes == (
        "3 of 20 labelled studies are not in the export.",
        "3 of 20 studies in the export have no label.",
    )
    assert [r.code for r in found.said[-3:]] == ["not in the export"] * 3


def test_what_is_there_twice_is_left_out_and_said(tmp_path: Path) -> None:
    lines = [row(n, 0.4 + 0.1 * (n % 2)) for n in range(20)] + [row(40, 0.9, accession_number="A3")]
    labels = truth(tmp_path / "l.csv", accession=lambda n: f"A{n}", Cardiomegaly=lambda n: n % 2)
    _, found = joined(write(tmp_path / "e.csv", lines), labels)
    assert found.said[3].code == "there twice" and "1 are there twice by this key" in found.notes[0]


def test_images_of_one_job_count_as_their_study(tmp_path: Path) -> None:
    lines = [row(n, score) for n in range(20) for score in (0.1, 0.2 + 0.5 * (n % 2))]
    _, found = joined(write(tmp_path / "e.csv", lines), truth(tmp_path / "l.csv"))
    assert [r.scores["Cardiomegaly"] for r in found.said[:2]] == [0.2, 0.7]


def test_studies_that_were_not_read_are_told_by_what_became_of_them(tmp_path: Path) -> None:
    lines = [row(n, 0.4 + 0.1 * (n % 2)) for n in range(16)]
    lines += [row(n, None, status=s) for n, s in zip(range(16, 20), ("DEAD", "UNROUTED", "HELD", "HELD"), strict=True)]
    lines[17] |= {"bundle": ""}  # nothing read it
    _, found = joined(write(tmp_path / "e.csv", lines), truth(tmp_path / "l.csv"))
    assert found.notes == ("Not read: 2 held, 1 dead, 1 unrouted.",)


def test_a_cell_without_an_answer_counts_nowhere(tmp_path: Path) -> None:
    labels = truth(tmp_path / "l.csv", study=lambda n: n, Cardiomegaly=lambda n: "" if n < 4 else n % 2)
    told = measured.story_of(*joined(some(tmp_path / "e.csv"), labels))
    assert told.figures[0].images == 16


def test_an_apostrophe_that_the_export_put_there_is_taken_off(tmp_path: Path) -> None:
    lines = [row(n, 0.4 + 0.1 * (n % 2), accession_number=f"'-{n}") for n in range(20)]
    labels = truth(tmp_path / "l.csv", accession=lambda n: f"-{n}", Cardiomegaly=lambda n: n % 2)
    _, found = joined(write(tmp_path / "e.csv", lines), labels)
    assert found.notes == ()


def test_patients_of_the_labels_come_before_those_of_the_export(tmp_path: Path) -> None:
    labels = truth(tmp_path / "l.csv", study=lambda n: n, Cardiomegaly=lambda n: n % 2, patient=lambda n: n // 4)
    assert measured.story_of(*joined(some(tmp_path / "e.csv"), labels)).figures[0].patients == 5


def test_wrong_tables_are_sentences(tmp_path: Path) -> None:
    good, labels = some(tmp_path / "e.csv"), truth(tmp_path / "l.csv")
    with pytest.raises(
        SourceError, match=r"is no table of `overread results export`: has no column study_instance_uid"
    ):
        predictions.read(labels, key="StudyInstanceUID")
    two = write(tmp_path / "two.csv", [row(1, 0.5), row(2, 0.5, bundle="other@2.0.0")])
    with pytest.raises(SourceError, match=r"holds several models \(has: cardiomegaly@1.0.0, other@2.0.0\); name one"):
        predictions.read(two, key="study")
    assert predictions.read(two, key="study", bundle="other").bundle == "other@2.0.0"
    with pytest.raises(SourceError, match=r"holds no gone@1 \(has: cardiomegaly"):
        predictions.read(two, key="study", bundle="gone@1")
    bare = write(tmp_path / "bare.csv", [row(1, 0.5, threshold="")])
    with pytest.raises(SourceError, match="Cardiomegaly has no threshold: the node did not have"):
        predictions.read(bare, key="study")
    both = truth(tmp_path / "k.csv", study=lambda n: n, accession=lambda n: n, Cardiomegaly=lambda n: n % 2)
    with pytest.raises(SourceError, match="several keys: give --key"):
        predictions.key_of(both, "")
    with pytest.raises(SourceError, match="--key name: no such key"):
        predictions.key_of(both, "name")
    with pytest.raises(ManifestError, match=r"--label Hernia: cardiomegaly@1.0.0 has no such label"):
        joined(good, labels, label="Hernia")
    odd = truth(tmp_path / "o.csv", study=lambda n: n, Cardiomegaly=lambda n: "maybe")
    with pytest.raises(SourceError, match="0: 'maybe' is neither 1 nor 0 nor empty"):
        joined(good, odd)
    other = truth(tmp_path / "h.csv", study=lambda n: n, Hernia=lambda n: 1)
    with pytest.raises(ManifestError, match="no column is one of the labels Cardiomegaly"):
        joined(good, other)
    one = truth(tmp_path / "a.csv", study=lambda n: n, Cardiomegaly=lambda n: 1)
    with pytest.raises(ManifestError, match="only one kind is there"):
        measured.story_of(*joined(good, one))


def test_the_command_prints_and_writes_what_evaluate_does(tmp_path: Path) -> None:
    given = ["--predictions", str(some(tmp_path / "e.csv")), "--labels", str(truth(tmp_path / "l.csv"))]
    out = tmp_path / "out"
    told = CliRunner().invoke(cli.app, ["evaluate", *given, "--json", "--out", str(out), "--label", "cardiomegaly"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["bundle"] == REF and {f["name"] for f in found["figures"]} == FIGURES
    page = (out / "report.html").read_text()
    assert f"<h1>{REF}</h1>" in page and "ROC" in page and "Calibration" in page
    table = CliRunner().invoke(cli.app, ["evaluate", *given])
    assert table.exit_code == 0 and "sensitivity" in table.stdout
    for wrong, words in (
        (["evaluate", *given[:2]], "--predictions FILE needs --labels FILE"),
        (["evaluate", *given, "--data", str(tmp_path)], "one of --data, --from-node and --predictions"),
        (["evaluate"], "which bundle? Name one, or give --predictions FILE"),
        (["evaluate", "x", "--data", str(tmp_path), "--key", "study"], "--label and --key go with --predictions"),
    ):
        said = CliRunner().invoke(cli.app, wrong)
        assert said.exit_code == 2 and words in said.output


def test_no_network_is_loaded(tmp_path: Path) -> None:
    given = ["--predictions", str(some(tmp_path / "e.csv")), "--labels", str(truth(tmp_path / "l.csv"))]
    code = (
        "import sys; from typer.testing import CliRunner; from training import cli;"
        f"said = CliRunner().invoke(cli.app, {['evaluate', *given]!r}); assert said.exit_code == 0, said.output;"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
