import numpy as np
import pytest

from training import calibrate, evaluate
from training.train import Head


def overconfident(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits three times as large as the truth warrants, and off by one."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-honest))).astype(np.int64)
    return (3 * honest + 1).astype(np.float32), truth


def test_platt_finds_the_line_that_was_bent() -> None:
    logits, truth = overconfident()
    slope, intercept = calibrate.platt(logits, truth)
    assert slope == pytest.approx(1 / 3, abs=0.03)
    assert intercept == pytest.approx(-1 / 3, abs=0.1)


def test_calibration_lowers_the_calibration_error() -> None:
    logits, truth = overconfident()
    head = Head(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    model = calibrate.classifier(head, logits[:2000], truth[:2000], task="binary")
    raw, better = 1 / (1 + np.exp(-logits[2000:])), model.scores(logits[2000:, None])[:, 0]
    assert evaluate.calibration_error(better, truth[2000:]) < 0.04 < evaluate.calibration_error(raw, truth[2000:])


def test_separable_data_keeps_a_finite_slope() -> None:
    truth = np.repeat([0, 1], 20)
    slope, _ = calibrate.platt(np.where(truth == 1, 2.0, -2.0).astype(np.float32), truth)
    assert 0.5 < slope < 5
    assert 0 < calibrate.temperature(np.where(truth == 1, 2.0, -2.0).astype(np.float32), truth) < 5


def test_the_band_ends_where_the_sensitivity_is_reached() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    truth = np.array([0, 0, 1, 0, 0, 0, 1, 1, 1])
    threshold, lower = calibrate.operating_point(scores, truth, sensitivity=0.95)
    assert (threshold, lower) == (pytest.approx(0.7), pytest.approx(0.3))
    threshold, lower = calibrate.operating_point(scores, truth, sensitivity=0.5)
    assert lower == threshold, "nothing is undetermined when the threshold is sensitive enough"
