import numpy as np
import pytest

from models import explain


def test_the_map_is_features_times_weights_between_0_and_1() -> None:
    features = np.zeros((2, 2, 2), np.float32)
    features[0, 0], features[0, 1], features[1, 0] = (1, 0), (2, 0), (0, 5)
    got = explain.activation_map(features, np.array([1, -1], np.float32))
    assert got.tolist() == [[0.5, 1.0], [0.0, 0.0]]


def test_an_image_in_which_nothing_speaks_for_the_label_has_an_empty_map() -> None:
    got = explain.activation_map(np.ones((3, 3, 2), np.float32), np.array([-1, -1], np.float32))
    assert (got == 0).all()


def test_a_softmax_label_is_explained_against_the_others() -> None:
    weights = np.array([[1, 1, 4], [2, 0, 0]], np.float32)
    assert explain.contrast(weights)[0] == pytest.approx([-1.5, -1.5, 3])
    assert explain.contrast(weights[:, :1])[:, 0] == pytest.approx([1, 2]), "one label stands by itself"
