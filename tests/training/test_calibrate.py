from __future__ import annotations

import numpy as np
import pytest

from training import calibrate
from training.figures import metrics


def overconfident(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits three times as large as the truth warrants, and off by one."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-honest))).astype(np.int64)
    return (3 * honest + 1).astype(np.float32), truth


def overconfident_classes(n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Softmax logits of four classes, four times as large as the truth warrants."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1, (n, 4))
    p = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    classes = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1)
    return (4 * honest).astype(np.float32), np.eye(4, dtype=np.int64)[classes]


def every(targets: np.ndarray) -> np.ndarray:
    return np.ones(targets.shape, bool)


def test_platt_finds_the_line_that_was_bent() -> None:
    logits, truth = overconfident()
    slope, intercept = calibrate.platt(logits, truth)
    assert slope == pytest.approx(1 / 3, abs=0.03)
    assert intercept == pytest.approx(-1 / 3, abs=0.1)


def test_temperature_finds_the_factor() -> None:
    logits, targets = overconfident_classes()
    assert calibrate.temperature(logits, targets) == pytest.approx(1 / 4, abs=0.02)


def test_separable_data_keeps_a_finite_slope() -> None:
    truth = np.repeat([0, 1], 20)
    logits = np.where(truth == 1, 2.0, -2.0).astype(np.float32)
    slope, _ = calibrate.platt(logits, truth)
    assert 0.5 < slope < 5
    both = np.stack([1 - truth, truth], axis=1)
    assert 0.1 < calibrate.temperature(np.stack([-logits, logits], axis=1), both) < 5


def test_calibration_lowers_the_calibration_error_of_others() -> None:
    logits, truth = overconfident()
    model = calibrate.fitted(logits[:2000, None], truth[:2000, None], every(truth[:2000, None]), task="binary")
    raw, better = 1 / (1 + np.exp(-logits[2000:])), model.scores(logits[2000:, None])[:, 0]

    def error(scores: np.ndarray) -> float:
        return float(metrics.calibration_error(scores.astype(float), truth[2000:], np.ones((1, 2000)))[0])

    assert error(better) < 0.04 < error(raw)


def test_rows_that_nobody_scored_or_that_do_not_count_take_no_part() -> None:
    logits, truth = overconfident(400)
    table, targets = np.stack([logits, logits], axis=1), np.stack([truth, truth], axis=1)
    counted = every(targets)
    clean = calibrate.fitted(table[:300], targets[:300], counted[:300], task="multilabel")
    table[300:350] = np.nan
    targets[350:, 1] = 1 - targets[350:, 1]
    counted[350:, 1] = False
    found = calibrate.fitted(table, targets, counted, task="multilabel")
    assert found.slope[1] == pytest.approx(clean.slope[1]) and found.slope[0] != pytest.approx(clean.slope[0])
    scores = found.scores(table)
    point = calibrate.points(scores, targets, counted, task="multilabel", sensitivity=0.95)[1]
    assert point == calibrate.points(scores[:300], targets[:300], counted[:300], task="multilabel", sensitivity=0.95)[1]


def test_several_classes_share_one_temperature_and_sum_to_one() -> None:
    logits, targets = overconfident_classes(300)
    found = calibrate.fitted(logits, targets, every(targets), task="multiclass")
    assert (found.method, len(set(found.slope)), set(found.intercept)) == ("temperature", 1, {0.0})
    assert np.allclose(found.scores(logits).sum(axis=1), 1, atol=1e-5)
    points = calibrate.points(found.scores(logits), targets, every(targets), task="multiclass", sensitivity=0.95)
    assert [(p.threshold, round(p.lower, 6)) for p in points] == [(0.9, 0.1)] * 4


SCORES = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
TRUTH = np.array([0, 0, 1, 0, 0, 0, 1, 1, 1])


def test_the_threshold_is_youdens_and_the_band_ends_where_the_sensitivity_is_reached() -> None:
    found = calibrate.operating_point(SCORES, TRUTH, sensitivity=0.95)
    assert (found.threshold, found.lower) == (pytest.approx(0.7), pytest.approx(0.3))


def test_nothing_is_undetermined_when_the_threshold_is_sensitive_enough() -> None:
    found = calibrate.operating_point(SCORES, TRUTH, sensitivity=0.5)
    assert found.lower == found.threshold


def test_the_band_ends_at_the_highest_score_that_is_sensitive_enough() -> None:
    truth = np.r_[np.zeros(30), np.ones(20), np.zeros(30), np.ones(30)].astype(np.int64)
    scores = np.arange(110) / 110
    found = calibrate.operating_point(scores, truth, sensitivity=0.8)
    assert found.threshold == scores[80], "between these negatives and the next positives"
    assert (scores[truth == 1] >= found.lower).mean() == 0.8, "within a run of positives"


def test_scores_that_tell_nothing_flag_nothing() -> None:
    found = calibrate.operating_point(np.array([0.9, 0.8, 0.2, 0.1]), np.array([0, 0, 1, 1]), sensitivity=0.95)
    assert found.threshold == 1.0 and found.lower <= 0.2


def test_a_ranking_that_is_wrong_is_not_turned_round() -> None:
    logits = np.linspace(-2, 2, 40)
    truth = (logits < 0).astype(np.int64)
    slope, intercept = calibrate.platt(logits, truth)
    assert slope == 0 and intercept == pytest.approx(0)
