"""DICOM files with a table of labels: a folder of files, or the data folder of an Overread node.

A node's folder is read by the layout of its spool; never its database, and nothing in it is ever changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from training.errors import SourceError
from training.manifest import Item
from training.sources import table
from training.sources.dicom_headers import Described, described, is_dicom

KEYS = ("sop_instance_uid", "accession_number")
NODE = "Overread"
"""Manufacturer of what a node makes; an archive may have sent it back to the node."""


def dicom(folder: Path, labels: Path | None = None, *, source: str = "") -> list[Item]:
    """Every DICOM image below a folder that a table labels; patient, age, sex and view are the header's.

    `labels` (labels.csv in the folder unless given) has the column sop_instance_uid, or accession_number for all
    images of a study, and label or labels (several joined by "|" or in several rows). Images that no row speaks of,
    files that are not DICOM, and objects without pixels are left out.

    Raises:
        SourceError: a .dcm file is not DICOM, the table or a column is missing, a row has no image, or two images have
            one SOP Instance UID.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: is missing or no folder")
    found = sorted(p for p in folder.rglob("*") if p.is_file() and (p.suffix.lower() == ".dcm" or is_dicom(p)))
    return _labelled(map(described, found), labels or folder / "labels.csv", source or folder.resolve().name)


def node(folder: Path, labels: Path | None = None) -> list[Item]:
    """What a node has received, with labels as `dicom` takes them.

    Files are `spool/obj/ab/<name of the instance>.<digest>.<association>.dcm`. An instance that came with different
    bytes is left out: only the node's database knows which of them holds. So are results of a node.

    Raises:
        SourceError: the folder is none of a node's, the table or a column is missing, or a row has no image.
    """
    received = folder / "spool" / "obj"
    if not received.is_dir():
        raise SourceError(f"{folder}: is no data folder of a node: {received} is missing")
    versions: dict[str, dict[str, Path]] = {}
    for path in sorted(received.rglob("*.*.*.dcm")):
        instance, digest, *_ = path.name.split(".")
        versions.setdefault(instance, {}).setdefault(digest, path)
    sole = (path for files in versions.values() if len(files) == 1 for path in files.values())
    return _labelled(map(described, sole), labels or folder / "labels.csv", "node")


def _labelled(films: Iterable[Described], path: Path, source: str) -> list[Item]:
    if not path.is_file():
        raise SourceError(f"{path}: is missing; it must have the columns {' or '.join(KEYS)}, and label")
    lines = table.rows(path, [])
    key, column = table.one_of(path, lines, *KEYS), table.one_of(path, lines, "label", "labels")
    wanted: dict[str, frozenset[str]] = {}
    for line in lines:
        named = line[key]
        if not named:
            raise SourceError(f"{path}: a row has no {key}")
        said = table.labels(line[column], where=f"{path.name}, {named}")
        wanted[named] = wanted.get(named, frozenset()) | said
    items, seen = [], set()
    files: dict[str, Path] = {}
    for film in films:
        named = film.sop_instance_uid if key == KEYS[0] else film.accession_number
        if named in wanted and film.rows and film.manufacturer != NODE:
            first = files.setdefault(film.sop_instance_uid, film.path)
            if first != film.path:
                raise SourceError(f"{film.path}: has the SOP Instance UID of {first}; keep one of them")
            seen.add(named)
            items.append(_item(film, source, wanted[named]))
    if missing := [named for named in wanted if named not in seen]:
        raise SourceError(f"{path}: {len(missing)} of {len(wanted)} have no image, the first is {key} {missing[0]}")
    return items


def _item(film: Described, source: str, labels: frozenset[str]) -> Item:
    return Item(film.path, source, labels, patient=film.patient, view=film.view, age=film.age, sex=film.sex)
