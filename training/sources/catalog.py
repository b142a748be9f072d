"""The names of all sources, and which of them a folder looks like. Reads names and header lines only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from training.errors import SourceError
from training.manifest import Item
from training.sources.class_folders import SPLITS, SUFFIXES, folders, sars_ct, tiles, visible
from training.sources.covid_films import METADATA, covid_metadata, covid_mpdem
from training.sources.dicom_files import KEYS, dicom, node
from training.sources.kermany import pediatric_pneumonia
from training.sources.label_table import NAME, hello_world, labels_csv
from training.sources.nih_films import TABLE, nih, nih1000, nih_adleberg
from training.sources.rsna_pneumonia import TABLE as RSNA
from training.sources.rsna_pneumonia import rsna
from training.sources.table import rows

Source = Callable[[Path], list[Item]]
Test = Callable[[Path], bool]

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "folders": folders,
        "labels_csv": labels_csv,
        "nih": nih,
        "nih_adleberg": nih_adleberg,
        "nih1000": nih1000,
        "hello_world": hello_world,
        "tiles": tiles,
        "covid_mpdem": covid_mpdem,
        "covid_metadata": covid_metadata,
        "pediatric_pneumonia": pediatric_pneumonia,
        "rsna": rsna,
        "sars_ct": sars_ct,
        "dicom": dicom,
        "node": node,
    }
)
"""By the name that `--source` takes."""


def _has(*patterns: str) -> Test:
    return lambda folder: all(any(folder.glob(pattern)) for pattern in patterns)


def _columns(folder: Path) -> frozenset[str]:
    path = folder / NAME
    return frozenset(rows(path, [])[0]) if path.is_file() else frozenset()


def _class_folders(folder: Path) -> bool:
    tops = [p for p in folder.iterdir() if p.is_dir()]
    tops = [p for top in tops for p in (top.iterdir() if top.name.lower() in SPLITS else [top]) if p.is_dir()]
    filled = {top.name for top in tops if any(visible(p) and p.suffix.lower() in SUFFIXES for p in top.rglob("*"))}
    return len(filled) > 1


PUBLISHED: Mapping[str, Test] = {
    "nih": _has(TABLE, "images*"),
    "nih_adleberg": _has(NAME, "images/????????_???.*"),
    "nih1000": _has(NAME, "0_normal", "1_abnormal"),
    "hello_world": _has(NAME, "abd", "chst"),
    "tiles": _has("HeadCT", "BreastMRI", "Hand"),
    "covid_mpdem": _has(METADATA, "covid", "normal"),
    "covid_metadata": _has(METADATA, "images"),
    "pediatric_pneumonia": lambda f: _has("NORMAL", "PNEUMONIA")(f) or _has("*/NORMAL", "*/PNEUMONIA")(f),
    "rsna": _has(RSNA),
    "sars_ct": lambda f: _has("COVID", "non-COVID")(f) or _has("sick", "healthy")(f),
    "node": _has("spool/obj"),
}
ANYBODYS: Mapping[str, Test] = {
    "labels_csv": lambda f: "filename" in _columns(f),
    "dicom": lambda f: not _columns(f).isdisjoint(KEYS),
    "folders": lambda f: not _columns(f) and _class_folders(f),
}
"""Layouts of no particular publisher: asked where no published one fits."""


def detect(folder: Path) -> str:
    """The name of the source that a folder looks like, by its tell-tale files.

    Raises:
        SourceError: none or several fit; it names them.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: is missing or no folder")
    for tests in (PUBLISHED, ANYBODYS):
        fit = [name for name, test in tests.items() if test(folder)]
        if len(fit) == 1:
            return fit[0]
        if fit:
            raise SourceError(f"{folder}: looks like {' and '.join(fit)}; say which one it is")
    raise SourceError(f"{folder}: {_lacking(folder)}; say with --source which one it is: {', '.join(SOURCES)}")


def _lacking(folder: Path) -> str:
    if (folder / NAME).is_file():
        needed = " or ".join(["filename", *KEYS])
        return f"its {NAME} has no column {needed} (has: {', '.join(sorted(_columns(folder)))})"
    if not any(visible(p) and p.suffix.lower() in SUFFIXES for p in folder.rglob("*")):
        return "holds no image (PNG, JPEG or DICOM)"
    return "looks like no source (two folders of images, one for each class, or a labels.csv)"
