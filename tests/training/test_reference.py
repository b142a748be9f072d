from __future__ import annotations

import numpy as np
import pytest

from training.reference import Refusal, Shown, fit, learn


def cloud(n: int, seed: int, direction: int, channels: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(0, 0.05, (n, channels)))
    x[:, direction] += 1
    return x.astype(np.float32)


def classes() -> list[Shown]:
    held = [np.arange(200) % 4 == k for k in range(4)]
    return [Shown([cloud(200, 10 * d, d)], held) for d in (0, 1)]


def test_new_films_of_a_known_class_are_within_the_limit_and_others_are_not() -> None:
    known = learn(classes())
    first = np.zeros(300, np.intp)
    assert (known.distance(cloud(300, 99, 0), first) <= 1).mean() > 0.97
    assert (known.distance(cloud(300, 99, 1), first) > 1).all(), "the other class is no film of this one"
    assert (known.distance(cloud(300, 99, 5), first) > 1).all()
    assert (known.distance(cloud(300, 99, 1), first + 1) <= 1).mean() > 0.97


def test_the_limit_comes_from_films_that_were_left_out() -> None:
    (shown, _), fitted = classes(), fit([cloud(200, 0, 0)])
    inside = np.quantile(fitted.distance(shown.films[0], np.zeros(200, np.intp)), 0.995)
    ends = 1 / (learn([shown]).rest[0] / fitted.rest[0])
    assert ends > inside, "films that were fitted to look nearer than they are"


def test_a_film_is_left_out_with_its_coarse_copy() -> None:
    held = [np.arange(200) % 2 == k for k in range(2)]
    plain, coarse = cloud(200, 0, 0), cloud(200, 1, 0)
    twice, apart = learn([Shown([plain, coarse], held)]), learn([Shown([plain], held, [coarse])])
    assert twice.rest[0] != pytest.approx(apart.rest[0]), "what is always fitted to sets no limit"


@pytest.mark.parametrize("channels", [40, 128, 200])
def test_the_kept_directions_and_the_rest_agree_with_the_full_covariance(channels: int) -> None:
    x = cloud(500, 3, 0, channels)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    shrunk = 0.7 * np.cov(unit.T) + 0.3 * np.trace(np.cov(unit.T)) / channels * np.eye(channels)
    gap = unit - unit.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", gap, np.linalg.inv(shrunk), gap) / channels)
    assert np.allclose(fit([x]).distance(x, np.zeros(500, np.intp)), expected, rtol=0.05)


def test_a_film_without_any_feature_is_no_division_by_zero() -> None:
    x = cloud(50, 0, 0)
    x[0] = 0
    assert np.isfinite(fit([x]).distance(x, np.zeros(50, np.intp))).all()


def test_classes_of_different_size_share_one_table() -> None:
    found = fit([cloud(10, 0, 0), cloud(200, 1, 1)])
    assert found.basis.shape == (2, 39, 40) and (found.scale[0, 9:] == 0).all()
    assert (found.distance(cloud(30, 5, 0), np.zeros(30, np.intp)) > 0).all()


def test_a_refusal_reads_as_a_sentence() -> None:
    assert str(Refusal("hands", 40, 0.25, 0.975)) == "hands: 40 images, unlike 25.0%, refused in all 97.5%"
