"""NIH ChestX-ray14 (Wang et al., CVPR 2017), the real download and two copies of parts of it.

A patient has the same eight digits in all of them, so that no split tears them apart. Reads tables and names, never
pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from training.errors import SourceError
from training.manifest import NO_FINDING, Box, Item
from training.sources import table
from training.sources.table import Row

SIDE = 1024
"""Boxes are given in pixels of 1024 x 1024 films."""

TABLE, BOXES = "Data_Entry_2017*.csv*", "BBox_List_2017.csv*"
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
SPELLED = {"Infiltrate": "Infiltration"}
"""The tables of boxes write it otherwise than NIH's table of labels."""


@dataclass(frozen=True)
class Mined:
    """A row of NIH's table: labels mined from the report's text, and the patient (eight digits)."""

    labels: frozenset[str]
    patient: str
    view: str
    age: float | None
    sex: str


def nih_table(folder: Path) -> dict[str, Mined]:
    """`Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv` (also .gz; v2020 where both are there): by image name
    without suffix.

    Raises:
        SourceError: the table or a column is missing.
    """
    found = sorted(folder.glob(TABLE))
    if not found:
        raise SourceError(
            f"{folder}: has no Data_Entry_2017.csv, nor Data_Entry_2017_v2020.csv, nor one of them as .gz"
        )
    path = found[-1]
    lines = table.rows(path, ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position"])
    column = table.one_of(path, lines, "Patient Gender", "Patient Sex")
    return {Path(line["Image Index"]).stem: _mined(line, column, path) for line in lines}


def _mined(line: Row, column: str, path: Path) -> Mined:
    where = f"{path.name}, {line['Image Index']}"
    return Mined(
        labels=table.labels(line["Finding Labels"], where=where),
        patient=line["Patient ID"].zfill(8),
        view=table.view(line["View Position"]),
        age=table.age(line["Patient Age"], where=where),
        sex=table.sex(line[column], where=where),
    )


def nih(folder: Path) -> list[Item]:
    """The real download: images/ or images_001/ to images_012/ (as unpacked or as Kaggle nests them), and the table.

    `part` is train (train_val_list.txt) or test (test_list.txt) where these lists are there, boxes come from
    BBox_List_2017.csv where it is there. A partial download is fine: films that are not on the disk are left out.

    Raises:
        SourceError: no film, no table, a film without a row, or a film in neither or both of the lists.
    """
    found = {p.stem: p for top in sorted(folder.glob("images*")) for p in sorted(top.rglob("*.png"))}
    if not found:
        raise SourceError(f"{folder}: has no PNG files below images/ or images_001/ to images_012/")
    known, boxes, parts = nih_table(folder), _boxes(folder), _parts(folder)
    strange = sorted(found.keys() - known.keys())
    if strange:
        raise SourceError(f"{folder}: {len(strange)} films have no row in NIH's table, the first is {strange[0]}.png")
    listless = sorted(found.keys() - parts.keys()) if parts else []
    if listless:
        raise SourceError(
            f"{folder}: {len(listless)} films are in no list ({', '.join(LISTS)}), such as {listless[0]}.png"
        )
    items = []
    for name, path in sorted(found.items()):
        row = known[name]
        items.append(
            _described(path, "nih", row, labels=row.labels, boxes=boxes.get(name, ()), part=parts.get(name, ""))
        )
    return items


def _described(
    path: Path,
    source: str,
    row: Mined,
    *,
    labels: frozenset[str],
    weak: frozenset[str] = frozenset(),
    boxes: tuple[Box, ...] = (),
    part: str = "",
) -> Item:
    return Item(path, source, labels, weak, row.patient, row.view, row.age, row.sex, boxes, part)


def _boxes(folder: Path) -> dict[str, tuple[Box, ...]]:
    """Boxes by image name without suffix. The header splits "Bbox [x,y,w,h]" into four columns."""
    found: dict[str, tuple[Box, ...]] = {}
    for path in sorted(folder.glob(BOXES))[:1]:
        for line in table.rows(path, ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"]):
            name = Path(line["Image Index"]).stem
            left, top, width, height = (
                table.number(line[c], where=f"{path.name}, {name}") / SIDE for c in ("Bbox [x", "y", "w", "h]")
            )
            box = Box(_spelled(line["Finding Label"]), left, top, width, height)
            found[name] = (*found.get(name, ()), box)
    return found


def _parts(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, part in LISTS.items():
        path = folder / name
        if path.is_file():
            for line in path.read_text(encoding="utf-8").split():
                if found.setdefault(Path(line).stem, part) != part:
                    raise SourceError(f"{path}: {line} is in the other list too")
    return found


def _spelled(label: str) -> str:
    return SPELLED.get(label, label)


def nih_adleberg(folder: Path, metadata: Path | None = None) -> list[Item]:
    """`nih_adleberg`: films with a finding that NIH boxed, or without any; labels.csv has a row per box.

    `labels` are those of the boxes, or "No Finding". With `metadata`, the folder of NIH's table, films get age and
    sex, and `weak`: what NIH's text mining says beyond the boxes.

    Raises:
        SourceError: a column or file is missing, or a film has no row in NIH's table.
    """
    path = folder / "labels.csv"
    films = table.grouped(table.rows(path, ["filename", "label", "xmin", "ymin", "xmax", "ymax", "view"]), "filename")
    paths = [folder / "images" / name for name in films]
    table.all_there(paths, table=path)
    known = nih_table(metadata) if metadata else None
    items = []
    for film, lines in zip(paths, films.values(), strict=True):
        where = f"{path.name}, {film.name}"
        labels = frozenset().union(*(map(_spelled, table.labels(line["label"], where=where)) for line in lines))
        row = _row_of(film, known, view=table.same(lines, "view", where=where), labels=labels)
        weak = row.labels - labels - {NO_FINDING}
        boxes = tuple(_corners(line, where) for line in lines if line["xmin"])
        items.append(_described(film, "nih_adleberg", row, labels=labels, weak=weak, boxes=boxes))
    return items


def _row_of(film: Path, known: Mapping[str, Mined] | None, *, view: str, labels: frozenset[str]) -> Mined:
    """NIH's row of a film; without NIH's table what the copy's own table and the file's name say."""
    if known is None:
        if not film.name[:8].isdecimal():
            raise SourceError(f"{film}: the name does not begin with the patient's eight digits")
        return Mined(labels, film.name[:8], table.view(view), None, "")
    if film.stem not in known:
        raise SourceError(f"{film}: has no row in NIH's table")
    return known[film.stem]


def _corners(line: Row, where: str) -> Box:
    left, top, right, bottom = (table.number(line[c], where=where) / SIDE for c in ("xmin", "ymin", "xmax", "ymax"))
    return Box(_spelled(line["label"]), left, top, right - left, bottom - top)


def nih1000(folder: Path, metadata: Path | None = None, *, skip_adleberg: bool = False) -> list[Item]:
    """`nih1000`: films of 64 px that somebody sorted into normal and abnormal.

    Labels are NIH's, of `metadata` (the folder of NIH's table, which also gives age and sex) or of the column
    nih_labels; a film of the normal folder to which NIH gives a finding bears that finding. `skip_adleberg` leaves out
    the films that `nih_adleberg` has too.
    """
    path = folder / "labels.csv"
    lines = table.rows(path, ["filename", "nih_labels", "view", "also_in_nih_adleberg"])
    table.all_there([folder / line["filename"] for line in lines], table=path)
    known = nih_table(metadata) if metadata else None
    items = []
    for line in lines:
        if not (skip_adleberg and line["also_in_nih_adleberg"] == "True"):
            film = folder / line["filename"]
            said = table.labels(line["nih_labels"], where=f"{path.name}, {film.name}")
            row = _row_of(film, known, view=line["view"], labels=said)
            items.append(_described(film, "nih1000", row, labels=row.labels))
    return items
