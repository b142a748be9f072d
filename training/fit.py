"""One training run from a recipe to a sealed bundle: read, split, features, head, calibration, figures, audit, export."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from training import backbones, export, limits
from training.manifest import Manifest
from training.recipe import Recipe, RecipeError
from training.split import Indices, Split, by_group, folds
from training.train import Head, fit_head

Floats = NDArray[np.float32]


@dataclass
class Run:
    """A run in progress. `varied` is (items, copies, channels); copy 0 is the plain film at 64 px when coarse."""

    recipe: Recipe
    manifest: Manifest
    split: Split
    parts: list[tuple[Indices, Indices]]
    plain: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    varied: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    thumbnails: Floats = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def truth(self) -> NDArray[np.int64]:
        """1 where the first label is present."""
        first: NDArray[np.int64] = self.manifest.targets[:, 0]
        return first

    def head(self, train: Indices) -> Head:
        """A head from the plain and the varied copies of these items."""
        copies = self.varied.shape[1]
        x = np.concatenate([self.plain[train], *(self.varied[train, k] for k in range(copies))])
        targets = np.tile(self.manifest.targets[train], (copies + 1, 1))
        sources = [self.manifest.items[i].source for i in train] * (copies + 1)
        balance = sources if self.recipe.question == "anatomy" else None
        return fit_head(x, targets, strength=self.recipe.settings.strength, balance=balance)


def run(recipe: Recipe, data: Path, out: Path, *, weights: Path | None, console: Console) -> Path:
    """Train a recipe on a data folder; gives the bundle's folder below `out`.

    Raises:
        RecipeError: images without a known patient, in a recipe that does not say so.
        SourceError: the data folder is not as its source describes it.
    """
    manifest = recipe.manifest(data)
    if not recipe.patients_unknown and not all(item.patient for item in manifest.items):
        raise RecipeError(f"{recipe.name}: images without a known patient cannot be split by patient")
    seed = recipe.settings.seed
    state = Run(recipe, manifest, by_group(manifest, seed=seed), folds(manifest, recipe.settings.folds, seed=seed))
    console.print(f"{recipe.name}: {len(manifest.items)} images, {len(set(manifest.groups))} patients or single films")
    backbone = backbones.mobilenet_v2(recipe.settings.size, weights)
    _measure(state, backbone, console)
    held = cross_validated(state)
    audited = _audited(state, held)
    head = state.head(state.split.train)
    calibration = _calibration(state, head)
    figures = _figures(state, held, head, calibration)
    reference, refusals = None, []
    if recipe.known:
        spent = limits.Backed(backbone, recipe, head, calibration, console)
        reference = limits.reference(state.manifest, state.split, state.parts, plain=state.plain, varied=state.varied,
                                     more=spent.features_of(recipe.known(data).more))
        refusals = limits.refusals(spent, reference, recipe.known(data), test=[manifest.items[i] for i in state.split.test])
    for line in (*map(str, figures), *map(str, refusals), audited.summary):
        console.print(line)
    product = export.Product(
        recipe=recipe,
        model=backbones.with_head(backbone, head.kernel, head.bias),
        calibration=calibration,
        operating=_operating(state, head, calibration),
        reference=reference,
        figures=figures,
        refusals=refusals,
        audit=audited,
        provenance=export.provenance(manifest, state.split, weights),
    )
    bundle = export.write(product, out)
    _check_replay(state, head, calibration, bundle)
    return bundle
