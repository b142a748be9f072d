"""A sealed bundle on labelled films, run exactly as the node runs it, and the truth beside what it said.

Reads through `models.pixels` and `models.findings.Reader`, gate and header included; measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from models.bundle import Bundle
from models.findings import Reader, Reading
from models.pixels import attempted
from models.registry import BUNDLES, Registry
from training.errors import ManifestError
from training.manifest import NO_FINDING, Item, Manifest

BATCH = 16
ABNORMAL = frozenset({"abnormal", "sick"})
"""Labels that every finding of the source bears, where the source says which films are without."""


def opened(bundle: str, *, gate: bool = True) -> Reader:
    """The bundle of a folder, or of name[@version] among those that ship; its gate beside it or among those.

    Without `gate` only the header may refuse.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    folder = Path(bundle)
    if folder.is_dir():
        folder = folder.resolve()
        found, registry = Bundle.load(folder), Registry((*{BUNDLES, folder.parent},))
    else:
        registry = Registry()
        found = registry.find(bundle)
    if not gate:
        found = replace(found, spec=found.spec.model_copy(update={"gate": None}))
    return Reader(registry, found)


def readings(reader: Reader, items: Sequence[Item], *, console: Console) -> list[Reading]:
    """One reading per item, in order; activation maps are kept where the item has boxes to compare them with."""
    said: list[Reading] = []
    starts = range(0, len(items), BATCH)
    for start in track(starts, f"reading with {reader.bundle.ref}", console=console, transient=True):
        some = items[start : start + BATCH]
        films = [attempted(item.path, frames=reader.bundle.spec.accepts.frames) for item in some]
        for item, reading in zip(some, reader.read(films), strict=True):
            said.append(reading if item.boxes else replace(reading, saliency={}))
    return said


def truth(labels: Sequence[str], items: Sequence[Item]) -> Manifest:
    """The labels that the source knows too, in their order, with what it says of them.

    Labels match by name, in any case, "_" being a space. A finding is measured against the films labelled only
    `NO_FINDING` where the source has that label; otherwise against all films that do not bear it, surely or weakly.

    Raises:
        ManifestError: no label matches.
    """
    known = {name for item in items for name in item.labels}
    healthy = {name for name in known if plain(name) == plain(NO_FINDING)}
    matching = {label: _meant(label, known, healthy) for label in labels}
    used = tuple(label for label in labels if matching[label])
    if not used:
        raise ManifestError(
            f"no label of the bundle ({', '.join(labels)}) is one of the source ({', '.join(sorted(known)) or 'none'})"
        )
    sure = np.array([[bool(item.labels & matching[n]) for n in used] for item in items], bool)
    weak = np.array([[bool(item.weak & matching[n]) for n in used] for item in items], bool)
    without = np.array([bool(item.labels) and item.labels <= healthy for item in items], bool)
    rest = [~weak[:, k] if not healthy or matching[n] & healthy else without for k, n in enumerate(used)]
    return Manifest(used, tuple(items), sure.astype(np.int64), sure | np.stack(rest, axis=1))


def plain(label: str) -> str:
    """A label's name as it is compared."""
    return label.casefold().replace("_", " ")


def _meant(label: str, known: Iterable[str], healthy: set[str]) -> set[str]:
    """The source's names of a bundle's label; nothing when it has none."""
    same = {name for name in known if plain(name) == plain(label)}
    if not same and healthy and plain(label) in ABNORMAL:
        return set(known) - healthy
    return same
