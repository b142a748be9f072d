"""One training run, from a recipe to a sealed bundle: read, split, measure, fit, calibrate, evaluate, audit, export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models.bundle import Bundle
from models.pixels import read
from models.predictor import Predictor
from models.scores import Reference
from training import audit, backbones, evaluate, export, reference, refusals
from training.calibrate import Classifier, classifier, operating_point
from training.evaluate import Figure
from training.manifest import Manifest
from training.measure import Extractor, Measured
from training.recipe import Known, Recipe, RecipeError
from training.split import Indices, Split, by_group, folds
from training.train import Head, fit_head

REPLAYED = 8
REPLAY_TOLERANCE = 0.002

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """A recipe's films, measured and split. `across` are the folds of the cross-validation over all of them."""

    recipe: Recipe
    manifest: Manifest
    films: Measured
    split: Split
    across: list[tuple[Indices, Indices]]

    @property
    def truth(self) -> NDArray[np.int64]:
        """1 where the first label is present."""
        return np.asarray(self.manifest.targets[:, 0])


def run(recipe: Recipe, data: Path, *, out: Path, weights: Path | None, console: Console) -> Path:
    """Train a recipe on a data folder; gives the bundle's folder, made below `out`.

    Raises:
        RecipeError: images without a known patient, in a recipe that does not say so.
        SourceError: the data folder is not as its source describes it.
    """
    manifest = recipe.manifest(data)
    if not recipe.patients_unknown and not all(item.patient for item in manifest.items):
        raise RecipeError(f"{recipe.name}: images without a known patient cannot be split by patient")
    seed = recipe.settings.seed
    console.print(f"{recipe.name}: {len(manifest.items)} images of {len(set(manifest.groups))} patients")
    backbone = backbones.mobilenet_v2(recipe.settings.size, weights, middle=recipe.settings.middle)
    extractor = Extractor(backbone, recipe, console)
    split, across = by_group(manifest, seed=seed), folds(manifest, recipe.settings.folds, seed=seed)
    found = Data(recipe, manifest, extractor.films(manifest.items), split, across)
    held, inner = held_out(found, across), held_out(found, split.parts)
    rows = np.isfinite(inner)
    model = classifier(head(found, split.train), inner[rows], found.truth[rows], task=recipe.task)
    operating = _operating(found, model, inner)
    known = recipe.known(data) if recipe.known else None
    limits = _reference(found, extractor, known) if known else None
    product = export.Product(
        recipe=recipe,
        network=backbones.with_head(backbone, model.head.kernel, model.head.bias),
        classifier=model,
        operating=operating,
        reference=limits,
        figures=figures(found, held, model=model, threshold=operating[0]),
        refusals=refusals.count(
            extractor, model, limits, known=known, test=[manifest.items[i] for i in split.test if found.truth[i]]
        )
        if known and limits
        else [],
        audit=audited(found, held),
        provenance=export.provenance(manifest, split, weights),
    )
    for line in (*product.figures, *product.refusals, product.audit.summary):
        console.print(str(line), highlight=False)
    bundle = export.write(product, out)
    _replay(found, model, bundle)
    return bundle


def head(found: Data, train: Indices) -> Head:
    """A head from the plain and the varied copies of these items."""
    copies = found.films.varied.shape[1]
    x = np.concatenate([found.films.plain[train], *(found.films.varied[train, k] for k in range(copies))])
    targets = np.tile(found.manifest.targets[train], (copies + 1, 1))
    sources = [found.manifest.items[i].source for i in train] * (copies + 1)
    balance = sources if found.recipe.question == "anatomy" else None
    return fit_head(x, targets, strength=found.recipe.settings.strength, balance=balance)


def held_out(found: Data, parts: list[tuple[Indices, Indices]]) -> Floats:
    """For each item of some folds the logit of the first label, less the second's, by the head that did not see its
    patient; NaN for the others."""
    held = np.full(len(found.manifest.items), np.nan, np.float32)
    for train, out in parts:
        logits = head(found, train).logits(found.films.plain[out])
        held[out] = logits[:, 0] - (logits[:, 1] if logits.shape[1] > 1 else 0)
    return held


def figures(found: Data, held: Floats, *, model: Classifier, threshold: float) -> list[Figure]:
    """Every figure of the card: cross-validated ranking, then the test patients with the bundle's own scores."""
    groups, truth = found.manifest.groups, found.truth
    every, test = np.flatnonzero(found.manifest.evaluated), found.split.test
    on = f"{len(found.across)}-fold cross-validation by patient"
    rows = [evaluate.figure("AUC", evaluate.auc, held[every], truth=truth[every], groups=groups[every], on=on)]
    score = model.scores(found.films.plain[test])[:, 0]
    metrics = {
        "AUC": evaluate.auc,
        f"sensitivity at {threshold:.3f}": evaluate.sensitivity_at(threshold),
        f"specificity at {threshold:.3f}": evaluate.specificity_at(threshold),
        "expected calibration error": evaluate.calibration_error,
    }
    for name, metric in metrics.items():
        rows.append(evaluate.figure(name, metric, score, truth=truth[test], groups=groups[test], on="test patients"))
    return rows


def audited(found: Data, held: Floats) -> audit.Audit:
    groups, truth = found.manifest.groups, found.truth
    every = np.flatnonzero(found.manifest.evaluated)
    baseline = audit.pixel_baseline(found.films.thumbnails, truth, found.across)
    checks = [
        audit.patients_apart(found.manifest, found.split),
        *audit.duplicates(found.manifest, found.split),
        *audit.judged_baseline(
            found.recipe.question, baseline[every], held[every], truth=truth[every], groups=groups[every]
        ),
    ]
    return audit.concluded(found.recipe.question, checks)


def _operating(found: Data, model: Classifier, inner: Floats) -> tuple[float, float]:
    """Threshold and lower end of the undetermined band. Of two body parts, what is not clearly one is undetermined."""
    if found.recipe.task == "multiclass":
        return refusals.AT_LEAST, 1 - refusals.AT_LEAST
    rows = np.isfinite(inner)
    scores = model.calibrated(inner[rows, None])[:, 0]
    return operating_point(scores, found.truth[rows], sensitivity=found.recipe.settings.lower_sensitivity)


def _reference(found: Data, extractor: Extractor, known: Known) -> Reference:
    """What the network knows, from all but the test patients: each class's films, the same at 64 px, further ones."""
    targets, train = found.manifest.targets, found.split.train
    classes = []
    for k, label in enumerate(found.recipe.labels):
        rows = train[targets[train, k] == 1]
        films = [found.films.plain[rows], found.films.varied[rows, 0]]
        items = known.more.get(label, [])
        pixels = (read(item.path).pixels for item in items)
        more = [extractor.arrays(pixels, total=len(items), what=f"more of {label}")] if items else []
        classes.append(reference.Shown(films, [np.isin(rows, out) for _, out in found.split.parts], more))
    return reference.learn(classes)


def _replay(found: Data, model: Classifier, path: Path) -> None:
    """The sealed bundle, run as the node runs it, must give the scores that the figures were made from.

    Raises:
        RecipeError: it does not.
    """
    some = found.split.test[:REPLAYED]
    expected = model.scores(found.films.plain[some])
    said = Predictor(Bundle.load(path)).predict([read(found.manifest.items[i].path).pixels for i in some])
    got = np.array([list(one.scores.values()) for one in said])
    gap = float(np.abs(got - expected).max())
    if not gap <= REPLAY_TOLERANCE:
        raise RecipeError(f"{path}: the bundle's scores differ by {gap:.4f} from those that were evaluated")
