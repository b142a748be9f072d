"""What a node said of studies, as it was exported, joined with what is true of them: `evaluate --predictions`.

Reads two tables, no images, and no network. Nothing is left out in silence: what has no partner, what was not read and
what is there twice is counted and told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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


@dataclass
class _Model:
    """What the export says of one model, by key; of none where nothing read a study."""

    digest: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)
    studies: dict[str, Study] = field(default_factory=dict)


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
    models: dict[str, _Model] = {}
    for line in _lines(path, column):
        _add(models.setdefault(line["bundle"], _Model()), line, line[column], where=path.name)
    nobodys = models.pop("", _Model())
    wanted = [name for name in models if bundle in ("", name, name.partition("@")[0])]
    if len(wanted) != 1:
        what = f"no {bundle}" if bundle and not wanted else "several models" if wanted else "no model"
        raise SourceError(f"{path}: holds {what} (has: {', '.join(models) or 'none'}); name one: evaluate NAME@VERSION")
    model = models[wanted[0]]
    if not model.thresholds:
        raise SourceError(f"{path}: has no score of {wanted[0]}")
    for name, study in nobodys.studies.items():
        known = model.studies.setdefault(name, study)
        known.jobs |= study.jobs  # another study of that accession number, which nothing read
    return Predictions(wanted[0], model.digest, key, model.thresholds, model.studies)


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


def _lines(path: Path, column: str) -> Iterator[Row]:
    """The rows as texts, whichever form they have, one after the other."""
    needed = [*dict.fromkeys((column, *NEEDED))]
    if path.suffix.lower() not in (".jsonl", ".json"):
        for line in table.each(path, []):
            _see_columns(path, line, needed)
            yield {k: _plain_cell(v) for k, v in line.items()}
        return
    try:
        with path.open(encoding="utf-8") as file:
            for text in file:
                said = {k: "" if v is None else str(v) for k, v in dict(json.loads(text)).items()}
                _see_columns(path, said, needed)
                yield said
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path}: cannot be read as JSON lines: {error}") from None


def _see_columns(path: Path, line: Row, needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in line]:
        raise SourceError(f"{path}: is no table of `overread results export`: has no column {', '.join(missing)}")


def _plain_cell(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA) else text


def _add(model: _Model, line: Row, key: str, *, where: str) -> None:
    """One row: of several images of one job the highest score counts, as in a row of the study."""
    label = line["label"]
    model.digest = model.digest or line.get("model_digest", "")
    if label and not line["threshold"]:
        raise SourceError(
            f"{where}: {label} has no threshold: the node did not have {line['bundle']} any more when it was exported; "
            "put it back there and export again"
        )
    if label:
        threshold = table.number(line["threshold"], where=f"{where}, {label}")
        if model.thresholds.setdefault(label, threshold) != threshold:
            raise SourceError(f"{where}: {label} has several thresholds: these are two models of one name")
    if not key:
        return
    study = model.studies.setdefault(key, Study())
    study.patient = study.patient or line.get("patient", "")
    job = tuple(line.get(name, "") for name in ("study", "route", "series_instance_uid", "revision"))
    scores = study.jobs.setdefault(job, {})
    if line["status"] != "ANALYSED" or not label or not line["score"]:
        # what another row of the study says weighs more
        study.status = study.status or line["status"]
        return
    scores[label] = max(table.number(line["score"], where=f"{where}, {key}"), scores.get(label, 0.0))
    study.status = "ANALYSED"


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
