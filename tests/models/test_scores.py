from pathlib import Path

import numpy as np
import pytest

from models.scores import Reference, calibrated, kept

ONE = np.array([1.0])


def test_a_sigmoid_of_a_line_is_platts() -> None:
    got = calibrated(np.array([[0.0], [2.0]], np.float32), task="binary", slope=ONE * 2, intercept=ONE)
    assert got[:, 0] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-5))])


def test_multiclass_scores_add_up_and_a_temperature_keeps_their_order() -> None:
    logits = np.array([[1.0, 2.0, -1.0]], np.float32)
    sharp = calibrated(logits, task="multiclass", slope=np.full(3, 3.0), intercept=np.zeros(3))
    soft = calibrated(logits, task="multiclass", slope=np.full(3, 0.3), intercept=np.zeros(3))
    assert sharp.sum() == pytest.approx(1) and soft.sum() == pytest.approx(1)
    assert sharp.argmax() == soft.argmax() == 1 and sharp.max() > soft.max()


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_extreme_logits_stay_finite(task: str) -> None:
    logits = np.array([[1e6, -1e6]], np.float32)
    got = calibrated(logits, task=task, slope=np.ones(2), intercept=np.zeros(2))
    assert np.isfinite(got).all() and got[0].tolist() == [1, 0]


def reference() -> Reference:
    mean = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    basis = np.zeros((2, 1, 3), np.float32)
    basis[:, 0, 2] = 1
    return Reference(mean, basis, np.array([[10], [1]], np.float32), np.array([2, 2], np.float32))


def test_the_distance_is_to_the_class_that_an_image_was_given() -> None:
    features = np.array([[5, 0, 0], [5, 0, 0]], np.float32)
    assert reference().distance(features, np.array([0, 1])) == pytest.approx([0, 2 * np.sqrt(2)])


def test_contrast_does_not_change_the_distance_and_direction_does() -> None:
    known = reference()
    one, ten = np.array([[1, 0, 0.5]], np.float32), np.array([[10, 0, 5]], np.float32)
    first = np.array([0])
    assert known.distance(one, first) == pytest.approx(known.distance(ten, first))
    across = np.array([[1, 0.5, 0]], np.float32)
    assert known.distance(one, first) > known.distance(across, first), "the basis has a scale of its own"


def test_features_of_zeros_have_a_finite_distance() -> None:
    assert np.isfinite(reference().distance(np.zeros((1, 3), np.float32), np.array([0]))).all()


def test_a_reference_comes_back_from_its_file(tmp_path: Path) -> None:
    reference().save(tmp_path / "reference.npz")
    again = Reference.load(tmp_path / "reference.npz")
    features = np.array([[0.2, 0.4, 0.1]], np.float32)
    first = np.array([0])
    assert again.distance(features, first) == pytest.approx(reference().distance(features, first))


def test_what_is_kept_of_a_softmax_has_its_softmax_score_as_sigmoid() -> None:
    outputs = np.random.default_rng(1).normal(0, 4, (5, 3)).astype(np.float32)
    softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    got = 1 / (1 + np.exp(-kept(outputs, [2, 0], exclusive=True)))
    assert np.allclose(got, softmax[:, [2, 0]], atol=1e-6)
    assert kept(outputs, [2, 0], exclusive=False).tolist() == outputs[:, [2, 0]].tolist()


def test_a_sure_softmax_keeps_a_finite_logit() -> None:
    assert kept(np.array([[500.0, -500.0]], np.float32), [0], exclusive=True).tolist() == [[1000.0]]
