import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve
from told_made import held

from training.figures import curves, metrics

SOME = held(400, labels=("one",))
SCORES, TRUTH = SOME.scores[:, 0], SOME.truth[:, 0]


def test_the_roc_is_that_of_scikit_learn_inside_its_band() -> None:
    found = curves.roc(SCORES, TRUTH, groups=SOME.groups)
    rates = roc_curve(TRUTH, SCORES, drop_intermediate=False)[:2]
    assert found.y == pytest.approx(np.interp(found.x, *rates))
    assert (found.low <= found.y + 0.02).all() and (found.y <= found.high + 0.02).all()
    assert (found.high - found.low).mean() > 0.02


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    recall, precision = curves.precision_recall(SCORES, TRUTH)
    theirs_p, theirs_r, _ = precision_recall_curve(TRUTH, SCORES)
    assert recall[::-1] == pytest.approx(theirs_r[:-1]) and precision[::-1] == pytest.approx(theirs_p[:-1])


def test_calibration_bins_are_those_of_the_calibration_error() -> None:
    found = curves.calibration(SCORES, TRUTH, groups=SOME.groups)
    gap = sum(abs(b.score - b.frequency) * b.images for b in found) / len(TRUTH)
    assert gap == pytest.approx(metrics.calibration_error(SCORES, TRUTH, np.ones((1, 400)))[0])
    assert sum(b.images for b in found) == 400
    assert all(b.low is not None and b.high is not None and b.low <= b.frequency <= b.high for b in found)


def test_the_sweep_flags_less_the_higher_the_threshold_and_says_nothing_of_no_films() -> None:
    found = curves.sweep(SCORES, TRUTH, (0.0, 0.3, 0.6, 1.0))
    assert [o.flagged for o in found] == sorted((o.flagged for o in found), reverse=True)
    assert (found[0].sensitivity, found[0].specificity, found[0].ppv) == (1, 0, pytest.approx(TRUTH.mean()))
    assert np.isnan(found[0].npv) and np.isnan(found[-1].ppv)


def test_confusion_counts_every_film_once() -> None:
    flagged = np.array([True, True, False, False, False])
    assert curves.confusion(flagged, np.array([1, 0, 1, 1, 0])) == (1, 1, 2, 1)


def test_exclusive_labels_are_crossed_truth_by_answer() -> None:
    truth = np.eye(3, dtype=np.int64)[[0, 0, 1, 2]]
    scores = np.eye(3)[[0, 2, 1, 2]]
    assert curves.crossed(scores, truth).tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]
