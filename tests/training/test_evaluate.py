import numpy as np
import pytest

from training import evaluate


def test_known_figures() -> None:
    scores, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    assert evaluate.auc(scores, truth) == 0.75
    assert evaluate.sensitivity_at(0.5)(scores, truth) == 0.5
    assert evaluate.specificity_at(0.4)(scores, truth) == 0.5


def test_the_area_agrees_with_scikit_learn_also_with_ties() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    for levels in (3, 50, 10_000):
        scores, truth = rng.integers(0, levels, 500).astype(float), rng.integers(0, 2, 500)
        assert evaluate.auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_a_score_that_is_the_frequency_has_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    truth = (rng.random(20_000) < scores).astype(np.int64)
    assert evaluate.calibration_error(scores, truth) < 0.02
    assert evaluate.calibration_error(scores**3, truth) > 0.15


def test_films_of_one_patient_do_not_narrow_the_interval() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.integers(0, 2, 40), 10)
    scores = np.repeat(rng.normal(size=40), 10) + truth
    patients = np.repeat(np.arange(40), 10).astype(str)
    wide = evaluate.bootstrap(evaluate.auc, scores, truth, groups=patients)
    narrow = evaluate.bootstrap(evaluate.auc, scores, truth, groups=np.arange(400).astype(str))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_a_figure_says_on_what_it_stands() -> None:
    scores, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    found = evaluate.figure("AUC", evaluate.auc, scores, truth=truth, groups=np.array(list("aabb")), on="films")
    assert (found.images, found.patients, found.value) == (4, 2, 0.75)
    assert found.low is not None and found.high is not None and found.low <= 0.75 <= found.high
    assert (
        found.as_row()["name"] == "AUC" and "0.750" in str(found) and found.as_row()["low"] == pytest.approx(found.low)
    )
