"""A recipe's films, decoded and split: what every step of a run goes by."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from training import audit, cache, split
from training.learning import backbones
from training.learning.backbones import Start
from training.manifest import Manifest
from training.recipe import Recipe
from training.split import Fold, Indices
from training.workers import ALONE, Workers


@dataclass(frozen=True)
class Run:
    """A recipe's films, decoded and split. `copies`: patients who count as another, because a film of theirs looks like
    one of his; `start`: the SHA-256 of the starting weights, or their name."""

    recipe: Recipe
    manifest: Manifest
    films: cache.Films
    folds: list[Fold]
    folder: Path
    console: Console
    start: str
    copies: int = 0
    workers: Workers = ALONE

    @property
    def on(self) -> str:
        """What the figures are made on, in words."""
        if len(self.folds) == 1:
            return "test patients"
        return f"{len(self.folds)}-fold cross-validation by patient"


def started(
    recipe: Recipe, data: Path, *, weights: Start, work: Path, console: Console, workers: Workers = ALONE
) -> Run:
    """Read the manifest, decode the films, split the patients."""
    settings = recipe.settings
    manifest = recipe.read(data, work)
    # what is wrong with the network is better said before the films are decoded
    backbones.build(settings.backbone, settings.size, weights=weights, train_from=settings.train_from)
    patients = len(set(manifest.groups))
    console.print(f"{recipe.bundle}: {len(manifest.items)} images of {patients} patients or single films")
    start = hashlib.sha256(weights.read_bytes()).hexdigest() if isinstance(weights, Path) else str(weights)
    workers.agree(
        {
            "manifest": _digest(
                manifest.labels,
                [(i.path.name, i.patient, sorted(i.labels), sorted(i.weak)) for i in manifest.items],
                manifest.targets.tolist(),
                manifest.counted.tolist(),
            ),
            "list of films (their paths, sizes and times)": _digest(cache.key(manifest.items, settings.size)),
            "settings": _digest(asdict(settings), dict(recipe.choices), recipe.bundle, recipe.version),
            "starting weights": _digest(start),
        }
    )
    films = cache.films(manifest.items, settings.size, work, console, workers)
    manifest = audit.joined(replace(manifest, digests=films.digests), films.pixels)
    copies = patients - len(set(manifest.groups))
    if copies:
        console.print(f"{copies} of them have a film that looks like another's: they count as that one")
    # by row, not by name: what is kept of a run is known by its place alone
    facts = _digest(manifest.digest(), films.digests, asdict(settings), dict(recipe.choices), start)
    folder = work / f"{recipe.bundle}-{facts[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    folds = split.plan(manifest, settings.folds, seed=settings.seed)
    used = np.unique(np.concatenate([part for f in folds for part in (f.train, f.held, *_some(f.validation))]))
    if len(used) < len(manifest.items):
        console.print(f"{len(manifest.items) - len(used)} images take no part: they look like one of the test part's")
    return Run(recipe, manifest, films, folds, folder, console, start, copies, workers)


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _some(part: Indices | None) -> list[Indices]:
    return [] if part is None else [part]
