import numpy as np
import pytest

from training.train import fit_head


def clouds(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = (rng.random(n) < 0.2).astype(np.int64)
    x = rng.normal(size=(n, 6)) * [1, 5, 1, 1, 1, 0.1] + 3
    x[:, 0] += 2 * y
    return x.astype(np.float32), y


def test_a_head_finds_what_separates_and_ignores_scale() -> None:
    x, y = clouds()
    head = fit_head(x, y[:, None], strength=1.0)
    assert head.kernel.shape == (6, 1) and head.bias.shape == (1,)
    logits = head.logits(x)[:, 0]
    assert logits[y == 1].mean() - logits[y == 0].mean() > 2
    assert abs(logits.mean()) < 1.5, "classes weigh the same: a fifth of positives does not pull the cut down"


def test_two_runs_give_the_same_weights() -> None:
    x, y = clouds()
    a, b = (fit_head(x, y[:, None], strength=0.1) for _ in range(2))
    assert np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias)


def test_two_labels_that_exclude_each_other_get_two_opposite_logits() -> None:
    x, y = clouds()
    one, two = fit_head(x, y[:, None], strength=1.0), fit_head(x, np.stack([y, 1 - y], axis=1), strength=1.0)
    logits = two.logits(x)
    assert np.allclose(logits[:, 0], -logits[:, 1], atol=1e-4)
    assert np.allclose(logits[:, 0] - logits[:, 1], one.logits(x)[:, 0], atol=1e-3)


def test_a_small_source_counts_as_much_as_a_large_one() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (500, 2)), rng.normal(3, 1, (20, 2)), rng.normal(6, 1, (100, 2))])
    y = np.r_[np.zeros(520), np.ones(100)].astype(np.int64)[:, None]
    sources = ["large"] * 500 + ["small"] * 20 + ["other"] * 100
    plain = fit_head(x.astype(np.float32), y, strength=1.0)
    fair = fit_head(x.astype(np.float32), y, strength=1.0, balance=sources)
    middle = np.full((1, 2), 4.0, np.float32)
    assert fair.logits(middle)[0, 0] < plain.logits(middle)[0, 0]


def test_three_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="more than two"):
        fit_head(np.zeros((3, 2), np.float32), np.eye(3, dtype=np.int64), strength=1.0)
