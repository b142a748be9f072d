"""From held-out logits to scores, flags and thresholds: cross-fitted, so that no film's own answer took part in the
calibration or the threshold that it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training import calibrate
from training.calibrate import Calibration, Point
from training.figures.evaluate import Held
from training.learning.answers import PLAIN, Answers
from training.manifest import Manifest
from training.recipe import Recipe

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Judgement:
    """`held`: what figures are made from. `rows`: where its rows stand in the manifest. `calibration` and `points`
    (one per label) are what the bundle gets: fitted to every held-out answer."""

    held: Held
    rows: NDArray[np.intp]
    calibration: Calibration
    points: list[Point]


def judged(answers: Answers, manifest: Manifest, recipe: Recipe) -> Judgement:
    """Scores and flags of each held-out film, by a calibration and thresholds from the films of the other folds.

    With a single split they come from its validation part.
    """
    logits, fold = answers.logits[PLAIN], answers.fold
    single = bool(np.isfinite(answers.validation).any())
    learned = answers.validation if single else logits
    scores = np.full(logits.shape, np.nan, np.float32)
    flagged = np.zeros(logits.shape, bool)
    for number in range(fold.max() + 1):
        own = fold == number
        others = learned if single else np.where(own[:, None], np.nan, learned)
        calibration, points = _fit(others, manifest, recipe)
        scores[own] = calibration.scores(logits[own])
        flagged[own] = scores[own] >= np.array([p.threshold for p in points])
    rows = np.flatnonzero(fold >= 0)
    held = Held(
        manifest.labels,
        manifest.targets[rows],
        manifest.counted[rows],
        scores[rows].astype(np.float64),
        flagged[rows],
        manifest.groups[rows],
    )
    return Judgement(held, rows, *_fit(learned, manifest, recipe))


def _fit(logits: Floats, manifest: Manifest, recipe: Recipe) -> tuple[Calibration, list[Point]]:
    calibration = calibrate.fitted(logits, manifest.targets, manifest.counted, task=recipe.task)
    scores = np.full(logits.shape, np.nan, np.float32)
    rows = np.isfinite(logits).all(axis=1)
    scores[rows] = calibration.scores(logits[rows])
    points = calibrate.points(
        scores, manifest.targets, manifest.counted, task=recipe.task, sensitivity=recipe.settings.lower_sensitivity
    )
    return calibration, points
