"""RSNA Pneumonia Detection Challenge 2018 (Shih et al., Radiol Artif Intell 2019;1:e180041).

Its "patientId" names a film, not a patient, and all films are NIH's. Reads tables and headers, never pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from training.errors import SourceError
from training.manifest import NO_FINDING, Box, Item
from training.sources import table
from training.sources.dicom_headers import Described, described
from training.sources.table import Row

TABLE, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
IMAGES = "stage_2_train_images"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
PNEUMONIA, NO_PNEUMONIA = "Pneumonia", "No Pneumonia"
NOT_NORMAL = "No Lung Opacity / Not Normal"
NAMED = {"Normal": NO_FINDING, "Lung Opacity": PNEUMONIA, NOT_NORMAL: NOT_NORMAL}


def rsna(folder: Path) -> list[Item]:
    """The training part: stage_2_train_labels.csv and stage_2_train_images/ with a DICOM file per film.

    Target 1 is "Pneumonia", with its boxes. Target 0 is "No Pneumonia"; where stage_2_detailed_class_info.csv is
    there, it is "No Finding" or "No Lung Opacity / Not Normal" instead. Age, sex and view are the header's.

    Patients are only known by RSNA's file that says which NIH film is which (`MAPPING`): where it is there, the source
    is "nih_rsna" and patients are NIH's.

    Raises:
        SourceError: a table, column or film is missing, a value makes no sense, or the two tables disagree.
    """
    path = folder / TABLE
    films = table.grouped(table.rows(path, ["patientId", "x", "y", "width", "height", "Target"]), "patientId")
    paths = [folder / IMAGES / f"{name}.dcm" for name in films]
    table.all_there(paths, table=path)
    classes, patients = _classes(folder), _patients(folder)
    items = []
    for name, film in zip(films, paths, strict=True):
        if patients is not None and name not in patients:
            raise SourceError(f"{folder / MAPPING}: has no entry for {name}")
        items.append(_item(described(film), films[name], _label(name, films[name], classes), patients, name))
    return items


def _item(film: Described, lines: Sequence[Row], label: str, patients: dict[str, str] | None, name: str) -> Item:
    return Item(
        film.path,
        "rsna" if patients is None else "nih_rsna",
        frozenset({label}),
        patient="" if patients is None else patients[name],
        view=film.view,
        age=film.age,
        sex=film.sex,
        boxes=tuple(_box(line, film) for line in lines if line["x"]),
    )


def _label(name: str, lines: Sequence[Row], classes: dict[str, str] | None) -> str:
    where = f"{TABLE}, {name}"
    target = table.same(lines, "Target", where=where)
    if target not in ("0", "1"):
        raise SourceError(f"{where}: Target = {target!r}: not 0 or 1")
    if classes is None:
        return PNEUMONIA if target == "1" else NO_PNEUMONIA
    if name not in classes or (NAMED[classes[name]] == PNEUMONIA) != (target == "1"):
        raise SourceError(f"{where}: Target = {target} does not agree with {CLASSES}: {classes.get(name, 'no row')}")
    return NAMED[classes[name]]


def _classes(folder: Path) -> dict[str, str] | None:
    path = folder / CLASSES
    if not path.exists():
        return None
    found = {line["patientId"]: line["class"] for line in table.rows(path, ["patientId", "class"])}
    for name, text in found.items():
        if text not in NAMED:
            raise SourceError(f"{path}, {name}: class = {text!r}: not one of {', '.join(NAMED)}")
    return found


def _patients(folder: Path) -> dict[str, str] | None:
    """Film -> NIH's patient: `img_id` is NIH's file name, such as 00000013_005.png."""
    path = folder / MAPPING
    if not path.exists():
        return None
    try:
        entries = json.loads(path.read_bytes())
        return {str(entry["subset_img_id"]): str(entry["img_id"])[:8] for entry in entries}
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{path}: is no list of subset_img_id and img_id: {error!r}") from None


def _box(line: Row, film: Described) -> Box:
    """The table counts in pixels of the film."""
    if not (film.rows and film.columns):
        raise SourceError(f"{film.path}: has no pixels")
    left, top, width, height = (
        table.number(line[c], where=f"{TABLE}, {film.path.name}") for c in ("x", "y", "width", "height")
    )
    return Box(PNEUMONIA, left / film.columns, top / film.rows, width / film.columns, height / film.rows)
