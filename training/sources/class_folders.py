"""Images whose class is the name of their folder. No patients are known, unless the publisher's own function says so.

Reads names, never pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.errors import SourceError
from training.manifest import Item

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm"})
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders of a publisher's split hold the class folders. The split itself is not kept: it is rarely one by patient."""

SARS_CT = {"COVID": "COVID-19", "sick": "COVID-19", "non-COVID": "non-COVID", "healthy": "non-COVID"}


def visible(path: Path) -> bool:
    """Whether somebody put it there: archives made on a Mac hold a shadow of each file."""
    return not path.name.startswith(".") and "__MACOSX" not in path.parts


def pictures(folder: Path) -> list[Path]:
    """Every PNG, JPEG and .dcm file below a folder, in the order of their names.

    Raises:
        SourceError: the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: is missing or no folder")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and visible(p) and p.is_file())
    if not found:
        raise SourceError(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))})")
    return found


def unlabelled(folder: Path, source: str = "") -> list[Item]:
    """Every image below a folder, without labels: such as one class, or images that a model must refuse."""
    return [Item(path, source or folder.resolve().name) for path in pictures(folder)]


def class_of(path: Path, folder: Path) -> str:
    """The topmost folder between `folder` and the image that is no part of a split (`SPLITS`).

    Raises:
        SourceError: the image lies in no class folder.
    """
    for name in path.relative_to(folder).parts[:-1]:
        if name.lower() not in SPLITS:
            return name
    raise SourceError(f"{path}: lies in no class folder; {folder} must hold a folder per class")


def folders(folder: Path, *, source: str = "") -> list[Item]:
    """A folder per class, also below train/, val/ and test/, and with folders inside it.

    Raises:
        SourceError: no image, or an image beside the class folders.
    """
    name = source or folder.resolve().name
    return [Item(p, name, labels=frozenset({class_of(p, folder)})) for p in pictures(folder)]


def tiles(folder: Path) -> list[Item]:
    """`body_parts_mnist`, "Medical MNIST": 64 px tiles; AbdomenCT, BreastMRI, ChestCT, CXR, Hand, HeadCT.

    No patients are known, and CT and MR tiles are slices: one patient can be in many.
    """
    return folders(folder, source="body_parts_mnist")


def sars_ct(folder: Path) -> list[Item]:
    """SARS-CoV-2 CT scan dataset (Soares et al., medRxiv 2020.04.24.20078584): slices, no patients.

    The folders COVID and non-COVID, or sick and healthy. The publishers' "non-COVID" is not "No Finding": these
    patients may have other diseases of the lungs.
    """
    return _named(folder, "sars_ct", SARS_CT)


def _named(folder: Path, source: str, names: Mapping[str, str]) -> list[Item]:
    """Class folders whose names are translated; any other is an error."""
    items = []
    for path in pictures(folder):
        name = class_of(path, folder)
        if name not in names:
            raise SourceError(f"{path}: the class folder {name} is not one of {', '.join(names)}")
        items.append(Item(path, source, labels=frozenset({names[name]})))
    return items
