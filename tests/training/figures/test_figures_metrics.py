from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from training.figures import metrics

SCORES, TRUTH = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
ONCE = np.ones((1, 4))


def cases() -> list[tuple[metrics.Floats, metrics.Truth]]:
    """Scores with many, some and no ties."""
    rng = np.random.default_rng(0)
    return [(rng.integers(0, levels, 500).astype(float), rng.integers(0, 2, 500)) for levels in (3, 50, 10_000)]


def test_known_figures() -> None:
    assert metrics.auc(SCORES, TRUTH, ONCE) == [0.75]
    flagged = (SCORES >= 0.4).astype(float)
    assert metrics.sensitivity(flagged, TRUTH, ONCE) == [0.5]
    assert metrics.specificity(flagged, TRUTH, ONCE) == [0.5]
    assert metrics.accuracy((SCORES >= 0.8).astype(float), TRUTH, ONCE) == [0.75]


def test_areas_agree_with_scikit_learn_also_with_ties() -> None:
    for scores, truth in cases():
        once = np.ones((1, 500))
        assert metrics.auc(scores, truth, once)[0] == pytest.approx(roc_auc_score(truth, scores))
        assert metrics.average_precision(scores, truth, once)[0] == pytest.approx(
            average_precision_score(truth, scores)
        )


def test_a_weight_is_the_row_repeated() -> None:
    rng = np.random.default_rng(1)
    for scores, truth in cases():
        scores = scores / scores.max()
        weights = rng.integers(0, 4, (3, 500)).astype(float)
        for metric, known in (
            (metrics.auc, roc_auc_score),
            (metrics.average_precision, average_precision_score),
            (metrics.brier, brier_score_loss),
        ):
            repeated = [np.repeat(np.arange(500), w.astype(int)) for w in weights]
            assert metric(scores, truth, weights) == pytest.approx([known(truth[r], scores[r]) for r in repeated])


def test_predictive_values_follow_the_stated_prevalence_not_the_data() -> None:
    flagged, truth = np.array([1, 1, 1, 0, 1, 0, 0, 0.0]), np.array([1, 1, 1, 1, 0, 0, 0, 0])
    once = np.ones((1, 8))
    assert metrics.ppv_at(0.5)(flagged, truth, once) == pytest.approx(0.75)
    assert metrics.ppv_at(0.01)(flagged, truth, once) == pytest.approx(0.0075 / (0.0075 + 0.2475))
    assert metrics.npv_at(0.01)(flagged, truth, once) == pytest.approx(0.7425 / (0.7425 + 0.0025))


def test_what_a_draw_leaves_undefined_is_not_a_number() -> None:
    only_positives = np.array([[0, 0, 1, 1.0]])
    assert np.isnan(metrics.auc(SCORES, TRUTH, only_positives)).all()
    assert np.isnan(metrics.specificity(SCORES, TRUTH, only_positives)).all()
    assert np.isnan(metrics.ppv_at(0.1)(np.zeros(4), TRUTH, ONCE)).all()


def test_a_score_that_is_the_frequency_has_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    truth, once = (rng.random(20_000) < scores).astype(np.int64), np.ones((1, 20_000))
    assert metrics.calibration_error(scores, truth, once)[0] < 0.02
    assert metrics.calibration_error(scores**3, truth, once)[0] > 0.15


def test_bins_hold_every_row_once_lowest_scores_first() -> None:
    scores = np.random.default_rng(0).random(37)
    found = metrics.bins(scores)
    assert sorted(np.concatenate(found)) == list(range(37)) and len(found) == 10
    assert all(scores[a].max() <= scores[b].min() for a, b in pairwise(found))
    assert len(metrics.bins(scores[:3])) == 3
