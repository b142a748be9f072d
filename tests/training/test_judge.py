"""What a film is judged by comes from other patients' films."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.calibrate import CLEARLY
from training.judge import judged
from training.learning.answers import PLAIN, Answers
from training.manifest import Item, Manifest
from training.recipe import Recipe, named

N, FOLDS = 300, 3
LABELS = ("one", "two")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return named("chest_findings", {})


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    targets = np.random.default_rng(0).integers(0, 2, (N, 2))
    items = tuple(Item(Path(f"{i}.png"), "made", patient=f"{i // 2:03}") for i in range(N))
    counted = np.ones((N, 2), bool)
    counted[::7, 1] = False
    return Manifest(LABELS, items, targets, counted)


def answers(manifest: Manifest, *, single: bool = False) -> Answers:
    """Noisy logits; the last ten films are held out by nobody. With `single` fold 0 is the test, fold 1 validation."""
    logits = (3 * manifest.targets - 1 + np.random.default_rng(1).normal(0, 2, (N, 2))).astype(np.float32)
    fold = np.arange(N) // 2 % FOLDS
    fold[-10:] = -1
    logits[-10:] = np.nan
    validation = np.full((N, 2), np.nan, np.float32)
    if single:
        validation[fold == 1] = logits[fold == 1]
        logits[fold != 0] = np.nan
        fold = np.where(fold == 0, 0, -1)
    return Answers({PLAIN: logits}, fold, validation, {}, [])


def changed(said: Answers, rows: np.ndarray) -> Answers:
    logits = said.logits[PLAIN].copy()
    logits[rows] = 5 - 2 * logits[rows]
    return replace(said, logits={PLAIN: logits})


def test_a_films_own_answer_takes_no_part_in_what_judges_it(manifest: Manifest, recipe: Recipe) -> None:
    said = answers(manifest)
    row = 44
    own = said.fold == said.fold[row]
    others = own & (np.arange(N) != row)
    before, after = (judged(a, manifest, recipe).held for a in (said, changed(said, others)))
    assert np.array_equal(before.scores[row], after.scores[row]), "other films of its fold move nothing of it"
    assert np.array_equal(before.flagged[row], after.flagged[row])
    assert not np.allclose(before.scores[~own[: N - 10]], after.scores[~own[: N - 10]]), "but those of other folds do"


def test_a_film_is_judged_by_the_other_folds(manifest: Manifest, recipe: Recipe) -> None:
    said = answers(manifest)
    first = said.fold == 0
    without = replace(said, logits={PLAIN: np.where(first[:, None], np.nan, said.logits[PLAIN])})
    alone = judged(replace(without, fold=np.where(first, -1, said.fold)), manifest, recipe)
    expected = alone.calibration.scores(said.logits[PLAIN][first])
    held = judged(said, manifest, recipe).held
    assert np.allclose(held.scores[first[: N - 10]], expected, atol=1e-6)
    assert np.array_equal(held.flagged[first[: N - 10]], expected >= [p.threshold for p in alone.points])


def test_films_that_nobody_held_out_are_no_part_of_the_figures(manifest: Manifest, recipe: Recipe) -> None:
    found = judged(answers(manifest), manifest, recipe)
    assert found.rows.tolist() == list(range(N - 10)) and np.isfinite(found.held.scores).all()
    assert np.array_equal(found.held.truth, manifest.targets[: N - 10])
    assert np.array_equal(found.held.counted, manifest.counted[: N - 10])
    assert found.held.groups.tolist() == manifest.groups[: N - 10].tolist()


def test_a_single_split_is_judged_by_its_validation_part(manifest: Manifest, recipe: Recipe) -> None:
    said = answers(manifest, single=True)
    found = judged(said, manifest, recipe)
    assert found.rows.tolist() == np.flatnonzero(said.fold == 0).tolist()
    again = judged(changed(said, said.fold == 0), manifest, recipe)
    assert again.calibration == found.calibration and again.points == found.points
    other = said.validation.copy()
    other[np.isfinite(other)] *= 0.5
    assert judged(replace(said, validation=other), manifest, recipe).calibration != found.calibration


def test_the_bundle_gets_what_all_answers_give(manifest: Manifest, recipe: Recipe) -> None:
    found = judged(answers(manifest), manifest, recipe)
    assert len(found.points) == len(found.calibration.slope) == 2
    assert all(0 < p.lower <= p.threshold < 1 for p in found.points)
    assert all(0.2 < slope < 2 for slope in found.calibration.slope)


def test_classes_are_flagged_where_they_are_clear(manifest: Manifest) -> None:
    one = manifest.targets[:, 0]
    exclusive = replace(manifest, targets=np.stack([one, 1 - one], axis=1), counted=np.ones((N, 2), bool))
    held = judged(answers(exclusive), exclusive, named("chest_abdomen", {})).held
    assert np.allclose(held.scores.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(held.flagged, held.scores >= CLEARLY) and held.flagged.any()
