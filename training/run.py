"""A recipe's films, decoded and split: what every step of a run goes by."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from training import audit, cache, split
from training.learning.backbones import Start
from training.manifest import Manifest
from training.recipe import Recipe
from training.split import Fold


@dataclass(frozen=True)
class Run:
    """A recipe's films, decoded and split."""

    recipe: Recipe
    manifest: Manifest
    films: cache.Films
    folds: list[Fold]
    folder: Path
    console: Console

    @property
    def on(self) -> str:
        """What the figures are made on, in words."""
        if len(self.folds) == 1:
            return "test patients"
        return f"{len(self.folds)}-fold cross-validation by patient"


def started(recipe: Recipe, data: Path, *, weights: Start, work: Path, console: Console) -> Run:
    """Read the manifest, decode the films, split the patients."""
    manifest = recipe.read(data, work)
    patients = len(set(manifest.groups))
    console.print(f"{recipe.bundle}: {len(manifest.items)} images of {patients} patients or single films")
    films = cache.films(manifest.items, recipe.settings.size, work, console)
    manifest = audit.joined(replace(manifest, digests=films.digests), films.pixels)
    facts = repr((manifest.digest(), asdict(recipe.settings), dict(recipe.choices), str(weights)))
    folder = work / f"{recipe.bundle}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    folds = split.plan(manifest, recipe.settings.folds, seed=recipe.settings.seed)
    return Run(recipe, manifest, films, folds, folder, console)
