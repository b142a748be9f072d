"""From a folder as somebody published it to items. One function per source; labels come from its own tables.

Each function says what a patient is there. Reads tables and names, never pixels.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

from training.manifest import Item


class SourceError(Exception):
    """A data folder does not look as its source describes it."""


def hello_world(data: Path, labels: Sequence[str]) -> list[Item]:
    """`hello_world/`: chest and abdomen films of openI and of article figures. No patients are known."""
    rows = _rows(data / "hello_world" / "labels.csv")
    return [
        Item(data / "hello_world" / r["filename"], tuple(int(r["label"] == n) for n in labels), "hello_world")
        for r in rows
    ]


def nih_films(data: Path) -> dict[str, tuple[Path, str, set[str]]]:
    """`nih_adleberg/`: file name -> path, view, labels. A row per box at the source, a file per image here."""
    found: dict[str, tuple[Path, str, set[str]]] = {}
    for row in _rows(data / "nih_adleberg" / "labels.csv"):
        path = data / "nih_adleberg" / "images" / row["filename"]
        found.setdefault(path.name, (path, row["view"], set()))[2].add(row["label"])
    return found


def nih_finding(data: Path, finding: str) -> list[Item]:
    """`finding` against films labelled only "No Finding"; patient is the first eight digits of the file name.

    Films whose text-mined NIH labels name the finding, but that NIH gave no box for it, are trained on and never
    evaluated.
    """
    mined = nih_labels(data)
    items = []
    for name, (path, view, labels) in sorted(nih_films(data).items()):
        positive = finding in labels
        extra = not positive and finding in mined.get(Path(name).stem, set())
        if positive or extra or labels == {"No Finding"}:
            target = (int(positive or extra),)
            items.append(Item(path, target, "nih_adleberg", name[:8], view, evaluate=not extra))
    return items


def nih_chest(data: Path, targets: tuple[int, ...]) -> list[Item]:
    """Every film of `nih_adleberg/` as a frontal chest film of an adult or child."""
    films = sorted(nih_films(data).items())
    return [Item(path, targets, "nih_adleberg", name[:8], view) for name, (path, view, _) in films]


def nih_labels(data: Path) -> dict[str, set[str]]:
    """`nih_metadata/`: image name without suffix -> NIH's text-mined labels."""
    path = data / "nih_metadata" / "Data_Entry_2017_v2020.csv.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            return {Path(row[0]).stem: set(row[1].split("|")) for row in rows}
    except FileNotFoundError:
        raise SourceError(f"{path}: is missing") from None


def tiles(data: Path, kind: str, targets: tuple[int, ...] = ()) -> list[Item]:
    """One class of `body_parts_mnist/`: 64 px tiles without patients."""
    folder = data / "body_parts_mnist" / kind
    return [Item(p, targets, f"body_parts_mnist/{kind}") for p in _files(folder)]


def folder(path: Path, source: str, targets: tuple[int, ...] = ()) -> list[Item]:
    """Every file of a folder, one class, no patients."""
    return [Item(p, targets, source) for p in _files(path)]


def _files(path: Path) -> list[Path]:
    found = sorted(p for p in path.rglob("*") if p.is_file())
    if not found:
        raise SourceError(f"{path}: is missing or empty")
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise SourceError(f"{path}: is missing") from None
