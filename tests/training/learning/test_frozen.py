from __future__ import annotations

import numpy as np
import pytest

from training.learning.frozen import head


def clouds(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """A fifth is sick, which shows in the first of six features of different scale."""
    rng = np.random.default_rng(0)
    y = (rng.random(n) < 0.2).astype(np.int64)
    x = rng.normal(size=(n, 6)) * [1, 5, 1, 1, 1, 0.1] + 3
    x[:, 0] += 2 * y
    return x.astype(np.float32), y


def plain(x: np.ndarray, targets: np.ndarray, *, exclusive: bool = False, strength: float = 1.0) -> np.ndarray:
    """The logits of a head that counts all sources as one."""
    kernel, bias = head(x, targets, exclusive=exclusive, strength=strength, balance=[""] * len(x))
    return x @ kernel + bias


def test_a_known_linear_rule_is_found() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 3)).astype(np.float32) * np.float32([1, 10, 1]) + np.float32([0, 50, 0])
    true = 1.5 * x[:, 0] - 0.2 * (x[:, 1] - 50)
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-true))).astype(np.int64)
    kernel, bias = head(x, y[:, None], exclusive=False, strength=1e3, balance=[""] * len(x))
    assert kernel[:, 0] == pytest.approx([1.5, -0.2, 0], abs=0.08)
    assert bias[0] == pytest.approx(0.2 * 50, abs=1)


def test_classes_weigh_the_same_however_many_films_they_have() -> None:
    x, y = clouds()
    logits = plain(x, y[:, None])[:, 0]
    assert logits[y == 1].mean() - logits[y == 0].mean() > 2
    assert abs(logits.mean()) < 1.5, "a fifth of positives does not pull the cut down"


def test_two_runs_give_the_same_weights() -> None:
    x, y = clouds()
    assert np.array_equal(plain(x, y[:, None]), plain(x, y[:, None]))


def test_two_labels_that_exclude_each_other_get_two_opposite_logits() -> None:
    x, y = clouds()
    one, two = plain(x, y[:, None]), plain(x, np.stack([y, 1 - y], axis=1), exclusive=True)
    assert np.allclose(two[:, 0], -two[:, 1], atol=1e-4)
    assert np.allclose(two[:, 0] - two[:, 1], one[:, 0], atol=1e-3), "the first label's logit is the first's"


def test_many_exclusive_labels_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 400)
    x = (rng.normal(size=(400, 5)) * 0.3 + np.eye(4, 5)[classes] * 3).astype(np.float32)
    logits = plain(x, np.eye(4)[classes], exclusive=True)
    assert logits.shape == (400, 4) and (logits.argmax(axis=1) == classes).mean() > 0.99


def test_each_of_many_labels_is_its_own_regression() -> None:
    x, y = clouds()
    other = (x[:, 1] > 3).astype(np.int64)
    both = plain(x, np.stack([y, other], axis=1))
    assert np.allclose(both[:, :1], plain(x, y[:, None]), atol=1e-4)
    assert np.allclose(both[:, 1:], plain(x, other[:, None]), atol=1e-4)


def test_a_smaller_strength_gives_smaller_weights() -> None:
    x, y = clouds()
    assert plain(x, y[:, None], strength=1e-3).std() < 0.5 * plain(x, y[:, None], strength=1.0).std()


def test_soft_targets_are_rounded() -> None:
    x, y = clouds()
    assert np.array_equal(plain(x, y[:, None]), plain(x, 0.2 + 0.6 * y[:, None]))


def test_a_small_source_counts_as_much_as_a_large_one() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(3, 1, (20, 2)), rng.normal(6, 1, (100, 2))])
    x, y = x.astype(np.float32), np.r_[np.zeros(520), np.ones(100)][:, None]
    sources = ["large"] * 500 + ["small"] * 20 + ["other"] * 100
    kernel, bias = head(x, y, exclusive=False, strength=1.0, balance=sources)
    middle = np.full((1, 2), 4.0, np.float32)
    kernel_plain, bias_plain = head(x, y, exclusive=False, strength=1.0, balance=[""] * len(x))
    assert (middle @ kernel + bias)[0, 0] < (middle @ kernel_plain + bias_plain)[0, 0]
