"""One training run, from a recipe to a sealed bundle: read, decode, train each fold, judge, train the last model on
all patients, audit, export. Repeating a command that was killed goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models.bundle import Bundle
from models.pixels import read
from models.predictor import Predictor
from training import audit, cache, export, gatekeeping, report, told
from training.errors import RecipeError
from training.figures import evaluate, localise
from training.figures.evaluate import Figure
from training.judge import Judgement, judged
from training.learning import answers, augment
from training.learning.answers import HIDDEN, PLAIN, ROUGH, Answers, Variant, Whole
from training.learning.backbones import Start
from training.learning.learner import Learner
from training.learning.together import see_possible
from training.learning.tune import Fitted
from training.manifest import Manifest
from training.recipe import EXACT, Recipe
from training.run import Run, started
from training.split import Fold
from training.workers import WAIT, Workers, joined
from training.workers import told as told_workers

LAST = "last.npz"
REPLAYED = 8
REPLAY_TOLERANCE = 0.01
"""Training keeps activations in half precision; the bundle computes them anew."""

Floats = NDArray[np.float32]


def run(
    recipe: Recipe, data: Path, *, out: Path, weights: Start, work: Path, console: Console, wait: float = WAIT
) -> Path | None:
    """Train a recipe on a data folder; gives the bundle's folder, made below `out` with `report.html` beside it;
    nothing on a worker that is not the chief.

    `work` keeps decoded films and finished folds; `wait`: seconds for which other workers may take to come.

    Raises:
        RecipeError: images without a known patient, in a recipe that does not say so.
        SourceError: the data folder is not as its source describes it.
        ManifestError: files that cannot be decoded, or too few patients.
        WorkerError: TF_CONFIG is wrong, or workers do not come, do not agree, or are gone.
    """
    workers = _joined(recipe, console, wait)
    found = started(recipe, data, weights=weights, work=work, console=console, workers=workers)
    origin = export.provenance(found.manifest, recipe, found.start)
    export.see_place(out, recipe, origin)
    learner = Learner(
        recipe, found.manifest, found.films, start=weights, folder=found.folder, console=console, workers=workers
    )
    if not workers.chief:
        _helped(found, learner)
        return None
    said = _crossed(found, learner)
    judgement = judged(said, found.manifest, recipe)
    fitted = _last(found, learner, said, judgement)
    network = learner.network(fitted)
    whole = learner.whole(network)
    known = recipe.known(data) if recipe.known else None
    every = np.arange(len(found.manifest.items))
    knows = gatekeeping.learned(found, whole, known, every) if known else None
    refusals = gatekeeping.counted(found, learner, judgement.calibration, known) if known else []
    story = told.story(
        found,
        said,
        judgement,
        figures=figures(found, said, judgement),
        verdict=_audited(found, said, judgement),
        refusals=refusals,
        provenance=origin,
    )
    assert story.audit
    verdict = f"Audit: {story.audit.verdict}. {story.audit.summary}"
    for line in (verdict, *map(str, story.figures), *map(str, refusals)):
        console.print(line, highlight=False, soft_wrap=True)
    product = export.Product(recipe, network, judgement, knows, story, refusals)
    bundle = export.write(product, out, check=lambda path: _replay(found, whole, judgement, path))
    report.write(story, out / f"{bundle.name}.report.html")
    found.manifest.write(out / f"{bundle.name}.manifest.csv")
    return bundle


def _joined(recipe: Recipe, console: Console, wait: float) -> Workers:
    settings = recipe.settings
    if told_workers().several and (settings.folds > 1 or not settings.live):
        raise RecipeError(
            f"{recipe.bundle}: several workers train only a single split whose copies are drawn anew; folds = 1, "
            "copies = 0 and train_from other than exact are needed"
        )
    workers = joined(console, within=wait)
    if workers.parts > 1 and settings.train_from != EXACT:
        see_possible(settings.batch, workers)
        console.print(f"{recipe.bundle}: every batch is divided between {workers}")
    return workers


def _helped(found: Run, learner: Learner) -> None:
    """What a worker does that is not the chief: its part of the steps."""
    if not (found.folder / LAST).exists():
        (fold,) = found.folds
        learner.fit(fold.train, "fold 1 of 1", validation=fold.validation)
    found.console.print("This worker's part is done; the chief, worker 0, writes the bundle")


def figures(found: Run, said: Answers, judgement: Judgement) -> list[Figure]:
    """Every figure of the run, those on where the maps point last."""
    held, recipe = judgement.held, found.recipe
    rows = evaluate.figures(held, on=found.on, exclusive=recipe.task == "multiclass", seed=recipe.settings.seed)
    for k, label in enumerate(held.labels):
        boxed = {
            i: [b for b in found.manifest.items[i].boxes if b.label == label]
            for i in said.maps
            if found.manifest.targets[i, k]
        }
        films = [i for i, boxes in boxed.items() if boxes]
        if films:
            rows += localise.localisation(
                [said.maps[i][..., k] for i in films],
                [boxed[i] for i in films],
                groups=found.manifest.groups[films],
                label=label,
                on=found.on,
            )
    return rows


def _crossed(found: Run, learner: Learner) -> Answers:
    def train(fold: Fold, name: str) -> tuple[Whole, list[dict[str, float]]]:
        if found.workers.several and (found.folder / LAST).exists():
            fitted = _kept(found)  # the other workers have nothing left to do
        else:
            fitted = learner.fit(fold.train, name, validation=fold.validation)
        if len(found.folds) == 1:
            _keep_last(found, fitted)
        return learner.whole(learner.network(fitted)), fitted.history

    variants: Mapping[str, Variant] = {
        PLAIN: cache.unit,
        HIDDEN: lambda film: cache.unit(audit.hide(film)),
        ROUGH: augment.rough_film,
    }
    return answers.cross(
        found.manifest,
        found.films.pixels,
        found.folds,
        variants=variants,
        train=train,
        folder=found.folder,
        console=found.console,
    )


def _last(found: Run, learner: Learner, said: Answers, judgement: Judgement) -> Fitted:
    """The model that is shipped: of all patients; of a single split the very one that the figures are of."""
    path = found.folder / LAST
    if not path.exists():
        goal = distilled(found.manifest, judgement, found.recipe.settings.distil)
        _keep_last(found, learner.fit(np.arange(len(found.manifest.items)), "last model", targets=goal))
    return _kept(found)


def _kept(found: Run) -> Fitted:
    with np.load(found.folder / LAST) as kept:
        weights = [kept[name] for name in sorted(kept.files) if name.startswith("weights_")]
        return Fitted(weights, kept["kernel"], kept["bias"], json.loads(str(kept["history"])))


def _keep_last(found: Run, fitted: Fitted) -> None:
    path = found.folder / LAST
    named: dict[str, Any] = {f"weights_{i:04}": w for i, w in enumerate(fitted.weights)}
    part = path.with_suffix(".part.npz")
    np.savez(part, kernel=fitted.kernel, bias=fitted.bias, history=json.dumps(fitted.history), **named)
    part.replace(path)


def distilled(manifest: Manifest, judgement: Judgement, part: float) -> NDArray[np.float64]:
    """Targets of which `part` is what the models of the other folds said (Hinton et al. 2015): a label that no other
    patient's films bear out counts less."""
    goal = manifest.targets.astype(np.float64)
    goal[judgement.rows] = (1 - part) * goal[judgement.rows] + part * judgement.held.scores
    return goal


def _audited(found: Run, said: Answers, judgement: Judgement) -> audit.Audit:
    return audit.audited(
        found.recipe.question,
        found.manifest,
        found.films,
        [(fold.train, fold.held) for fold in found.folds],
        scores=said.logits,
        cuts=[
            cut
            for fold in found.folds
            if fold.validation is not None
            for cut in ((fold.train, fold.validation), (fold.validation, fold.held))
        ],
        film=np.array([found.recipe.film(item) for item in found.manifest.items]),
    )


def _replay(found: Run, whole: Whole, judgement: Judgement, path: Path) -> None:
    """The sealed bundle, run from the films' files as the node runs it, must say what the trained network says of the
    decoded films.

    Raises:
        RecipeError: it does not.
    """
    some = judgement.rows[:: max(1, len(judgement.rows) // REPLAYED)][:REPLAYED]
    films = (cache.unit(found.films.pixels[i]) for i in some)
    seen = whole.see(films, total=len(some), what="replay", console=found.console)
    expected = judgement.calibration.scores(seen.logits)
    said = Predictor(Bundle.load(path)).predict([read(found.manifest.items[i].path).pixels for i in some])
    got = np.array([list(one.scores.values()) for one in said])
    gap = float(np.abs(got - expected).max())
    if not gap <= REPLAY_TOLERANCE:
        raise RecipeError(f"{path}: the bundle's scores differ by {gap:.4f} from those of the trained network")
