"""COVID-19 chest films: the ieee8023 collection, and the set of COVID and normal films that was made from it.

The COVID films are nearly all adults' and the normal ones children's: what a model learns here may be age. Reads
tables, never pixels.
"""

from __future__ import annotations

from pathlib import Path

from training.errors import SourceError
from training.manifest import NO_FINDING, Item
from training.sources import table
from training.sources.table import Row

COVID = "COVID-19"
METADATA = "metadata.csv"
COLUMNS = ("patientid", "sex", "age", "finding", "view", "modality", "folder", "filename")
UNREAD = frozenset({"", "todo", "Unknown"})
"""Findings that say that nobody has said yet."""

MPDEM = {"covid": COVID, "normal": NO_FINDING}


def covid_mpdem(folder: Path) -> list[Item]:
    """`covid_mpdem`: 126 films labelled "COVID-19" and 100 labelled normal, which is "No Finding" here.

    labels.csv says the patient; age, sex and view of the COVID films stand in metadata.csv, by file name. Nothing of
    that is known of the normal films, which are children's. The source names the origin: it parts the classes.

    Raises:
        SourceError: a column or file is missing, or a label is neither covid nor normal.
    """
    path = folder / "labels.csv"
    lines = table.rows(path, ["filename", "label", "patient_id", "origin"])
    films = {line["filename"]: line for line in table.rows(folder / METADATA, COLUMNS)}
    items = []
    for line in lines:
        film = folder / line["filename"]
        if line["label"] not in MPDEM:
            raise SourceError(f"{path}, {film.name}: label = {line['label']!r}: not one of {', '.join(MPDEM)}")
        labels = frozenset({MPDEM[line["label"]]})
        if COVID in labels and film.name not in films:
            raise SourceError(f"{folder / METADATA}: has no row for {film.name}")
        source, patient = f"covid_mpdem: {line['origin']}", line["patient_id"]
        items.append(_item(film, source, films.get(film.name), labels=labels, patient=patient))
    table.all_there([item.path for item in items], table=path)
    return items


def covid_metadata(folder: Path, *, modality: str = "X-ray") -> list[Item]:
    """github.com/ieee8023/covid-chestxray-dataset: metadata.csv with images/ (Cohen et al., arXiv 2006.11988).

    Each level of a finding such as "Pneumonia/Viral/COVID-19" is a label, and so is each of "COVID-19, ARDS"; a film
    whose finding is unknown has none. Only rows of `modality` ("X-ray" or "CT") are taken.

    Raises:
        SourceError: a column or file is missing, or no row has that modality.
    """
    path = folder / METADATA
    lines = table.rows(path, COLUMNS)
    taken = [line for line in lines if line["modality"] == modality]
    if not taken:
        have = sorted({line["modality"] for line in lines})
        raise SourceError(f"{path}: modality = {modality!r}: no row has it (have: {', '.join(have)})")
    items = [
        _item(
            folder / line["folder"] / line["filename"],
            "covid_metadata",
            line,
            labels=_findings(line["finding"]),
            patient=line["patientid"],
        )
        for line in taken
    ]
    table.all_there([item.path for item in items], table=path)
    return items


def _findings(text: str) -> frozenset[str]:
    levels = (level.strip() for finding in text.split(",") for level in finding.split("/"))
    return frozenset(level for level in levels if level not in UNREAD)


def _item(path: Path, source: str, row: Row | None, *, labels: frozenset[str], patient: str) -> Item:
    if row is None:
        return Item(path, source, labels, patient=patient)
    where = f"{METADATA}, {path.name}"
    return Item(
        path,
        source,
        labels,
        patient=patient,
        view=table.view(row["view"]),
        age=table.age(row["age"], where=where),
        sex=table.sex(row["sex"], where=where),
    )
