"""What a node said of studies, as it was exported, joined with what is true of them: `evaluate --predictions`.

Reads two tables, no images, and no network. Nothing is left out in silence: what has no partner, what was not read and
what is there twice is counted and told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.findings import Reading
from training.errors import ManifestError, SourceError
from training.manifest import Item, Manifest
from training.reading import plain, truth
from training.sources import table
from training.sources.table import Row

KEYS: Mapping[str, tuple[str, ...]] = {
    "StudyInstanceUID": ("study_instance_uid", "StudyInstanceUID"),
    "accession": ("accession_number", "AccessionNumber", "accession"),
    "study": ("study",),
}
"""What a study may be joined by, and how its column may be called; the first is the export's own."""
NEEDED = ("study", "status", "reason", "bundle", "label", "score", "threshold")
PATIENT = ("patient", "patient_id", "PatientID")
LABEL = ("label", "labels")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""In front of these a node's CSV has an apostrophe."""
KNOWN: Mapping[str, int | None] = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "": None}
_STATUSES: Mapping[str, Literal["refused", "failed"]] = {"DEAD": "failed", "FAILED": "failed", "WAITING": "failed"}
"""Whatever else is not ANALYSED counts as refused."""


@dataclass
class Study:
    """What the export says of one key: the score of each label of each of its jobs, and why where there is none."""

    patient: str = ""
    status: str = ""
    jobs: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """One model's rows of an export. `thresholds`: of each of its labels, in the model's order."""

    bundle: str
    digest: str
    key: str
    thresholds: Mapping[str, float]
    studies: Mapping[str, Study]


@dataclass(frozen=True)
class Joined:
    """The labels' rows, each with what was said of it, as `measured` wants them."""

    wanted: Manifest
    said: tuple[Reading, ...]
    notes: tuple[str, ...]


def read(path: Path, *, key: str, bundle: str = "") -> Predictions:
    """The rows of one model in an export, CSV or JSON lines; `bundle` chooses it where there are several.

    Raises:
        SourceError: the file is no export, or holds several models, or a threshold is missing.
    """
    column = KEYS[key][0]
    lines = _lines(path, column)
    models = dict.fromkeys(line["bundle"] for line in lines if line["bundle"])
    wanted = [name for name in models if bundle in ("", name, name.partition("@")[0])]
    if len(wanted) != 1:
        what = f"no {bundle}" if bundle and not wanted else "several models" if wanted else "no model"
        raise SourceError(f"{path}: holds {what} (has: {', '.join(models) or 'none'}); name one: evaluate NAME@VERSION")
    mine = [line for line in lines if line["bundle"] in (wanted[0], "")]
    studies: dict[str, Study] = {}
    for line in mine:
        if line[column]:
            _add(studies.setdefault(line[column], Study()), line)
    thresholds = _thresholds(path, mine)
    digest = next((line.get("model_digest", "") for line in mine if line.get("model_digest")), "")
    return Predictions(wanted[0], digest, key, thresholds, studies)


def joined(said: Predictions, labels: Path, *, label: str = "") -> Joined:
    """Every row of a table of labels, with what was said of its study.

    Raises:
        SourceError: a column is missing, a value is neither 1 nor 0, or rows contradict each other.
        ManifestError: no label is one of the model's.
    """
    names = [name for name in said.thresholds if not label or plain(name) == plain(label)]
    if not names:
        raise ManifestError(f"--label {label}: {said.bundle} has no such label (has: {', '.join(said.thresholds)})")
    lines = table.rows(labels, [])
    column = table.one_of(labels, lines, *KEYS[said.key])
    films = table.grouped(lines, column)
    if "" in films:
        raise SourceError(f"{labels}: a row has no {column}")
    patients = {key: _patient(labels, some, said.studies.get(key)) for key, some in films.items()}
    listed = next((name for name in LABEL if name in lines[0]), "")
    wanted = (_by_name if listed else _by_column)(labels, films, listed, names, patients)
    readings = tuple(_reading(said.studies.get(key), wanted.labels) for key in films)
    return Joined(wanted, readings, tuple(_notes(said, list(films), readings)))


def key_of(labels: Path, key: str) -> str:
    """What a table of labels is joined by: what is asked for, else the only key that it has.

    Raises:
        SourceError: it has none, or several, or there is no such key.
    """
    if key:
        if key not in KEYS:
            raise SourceError(f"--key {key}: no such key (have: {', '.join(KEYS)})")
        return key
    lines = table.rows(labels, [])
    found = [name for name, columns in KEYS.items() if any(column in lines[0] for column in columns)]
    if len(found) != 1:
        wanted = " or ".join(names[-1] for names in KEYS.values())
        raise SourceError(f"{labels}: {'several keys: give --key' if found else f'a column {wanted} is needed'}")
    return found[0]


def _lines(path: Path, column: str) -> list[Row]:
    """The rows as texts, whichever form they have."""
    with_apostrophe = path.suffix.lower() not in (".jsonl", ".json")
    if with_apostrophe:
        lines: Sequence[Row] = table.rows(path, [])
    else:
        try:
            read_as: list[dict[str, Any]] = [
                json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line
            ]
        except (OSError, ValueError) as error:
            raise SourceError(f"{path}: cannot be read as JSON lines: {error}") from None
        lines = [{k: "" if v is None else str(v) for k, v in one.items()} for one in read_as]
        if not lines:
            raise SourceError(f"{path}: has no rows")
    if missing := [name for name in dict.fromkeys((column, *NEEDED)) if name not in lines[0]]:
        raise SourceError(f"{path}: is no table of `overread results export`: has no column {', '.join(missing)}")
    return [{k: _plain_cell(v) for k, v in line.items()} for line in lines] if with_apostrophe else list(lines)


def _plain_cell(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _add(study: Study, line: Row) -> None:
    """One row: of several images of one job the highest score counts, as in a row of the study."""
    study.patient = study.patient or line.get("patient", "")
    if line["status"] != "ANALYSED" or not line["label"] or not line["score"]:
        # what another row of the study says weighs more
        study.status = study.status or line["status"]
        return
    job = tuple(line.get(name, "") for name in ("study", "route", "series_instance_uid", "revision"))
    scores = study.jobs.setdefault(job, {})
    scores[line["label"]] = max(float(line["score"]), scores.get(line["label"], 0.0))
    study.status = "ANALYSED"


def _thresholds(path: Path, lines: Sequence[Row]) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines:
        if not line["label"]:
            continue
        if not line["threshold"]:
            raise SourceError(
                f"{path}: {line['label']} has no threshold: the node did not have {line['bundle']} any more when it "
                "was exported; put it back there and export again"
            )
        if found.setdefault(line["label"], float(line["threshold"])) != float(line["threshold"]):
            raise SourceError(f"{path}: {line['label']} has several thresholds: these are two models of one name")
    if not found:
        raise SourceError(f"{path}: has no score at all")
    return found


def _patient(path: Path, lines: Sequence[Row], study: Study | None) -> str:
    column = next((name for name in PATIENT if name in lines[0]), "")
    return table.same(lines, column, where=path.name) if column else (study.patient if study else "")


def _item(key: str, labels: frozenset[str], patient: str) -> Item:
    return Item(Path(key), "export", labels, patient=patient)


def _by_name(
    path: Path, films: Mapping[str, Sequence[Row]], column: str, names: Sequence[str], patients: Mapping[str, str]
) -> Manifest:
    """The labels of each study by name, as the sources of `evaluate` have them."""
    items = []
    for key, lines in films.items():
        named = [table.labels(line[column], where=f"{path.name}, {key}") for line in lines]
        items.append(_item(key, frozenset().union(*named), patients[key]))
    return truth(names, items)


def _by_column(
    path: Path, films: Mapping[str, Sequence[Row]], _column: str, names: Sequence[str], patients: Mapping[str, str]
) -> Manifest:
    """A column for each label: 1, 0, or empty where nobody knows."""
    there = {plain(column): column for column in next(iter(films.values()))[0]}
    used = [name for name in names if plain(name) in there]
    if not used:
        raise ManifestError(f"{path}: no column is one of the labels {', '.join(names)} (has: {', '.join(there)})")
    values: list[list[int | None]] = []
    for key, lines in films.items():
        said = [table.same(lines, there[plain(name)], where=f"{path.name}, {key}").lower() for name in used]
        if wrong := [value for value in said if value not in KNOWN]:
            raise SourceError(f"{path}: {key}: {wrong[0]!r} is neither 1 nor 0 nor empty")
        values.append([KNOWN[value] for value in said])
    items = [
        _item(key, frozenset(name for name, v in zip(used, some, strict=True) if v), patients[key])
        for key, some in zip(films, values, strict=True)
    ]
    targets = np.array([[int(bool(v)) for v in some] for some in values], np.int64)
    counted = np.array([[v is not None for v in some] for some in values], bool)
    return Manifest(tuple(used), tuple(items), targets, counted)


def _reading(study: Study | None, labels: Sequence[str]) -> Reading:
    if study is None:
        return Reading("failed", "not in the export")
    if len(study.jobs) > 1:
        return Reading("failed", "there twice")
    if study.status != "ANALYSED":
        return Reading(_STATUSES.get(study.status, "refused"), study.status.lower())
    (scores,) = study.jobs.values()
    if not scores.keys() >= set(labels):
        return Reading("failed", "without a score")
    return Reading("analysed", scores=scores)


def _notes(said: Predictions, keys: Sequence[str], readings: Sequence[Reading]) -> list[str]:
    codes = Counter(one.code for one in readings if one.status != "analysed")
    missing, twice = codes.pop("not in the export", 0), codes.pop("there twice", 0)
    unlabelled = len(said.studies.keys() - set(keys))
    notes = []
    if missing:
        notes.append(f"{missing} of {len(keys)} labelled studies are not in the export.")
    if unlabelled:
        notes.append(f"{unlabelled} of {len(said.studies)} studies in the export have no label.")
    if twice:
        notes.append(
            f"{twice} are there twice by this key (two studies, routes, series or revisions) and were left out: no row "
            "says which one is meant."
        )
    if codes:
        notes.append(f"Not read: {', '.join(f'{n} {code}' for code, n in codes.most_common())}.")
    return notes
