import numpy as np

from training.reference import Shown, fit, learn


def cloud(n: int, seed: int, direction: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.abs(rng.normal(0, 0.05, (n, 40)))
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


def test_the_kept_directions_and_the_rest_agree_with_the_full_covariance() -> None:
    x = cloud(500, 3, 0)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    covariance = np.cov(unit.T)
    shrunk = 0.7 * covariance + 0.3 * np.trace(covariance) / 40 * np.eye(40)
    gap = unit - unit.mean(axis=0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", gap, np.linalg.inv(shrunk), gap) / 40)
    assert np.allclose(fit([x]).distance(x, np.zeros(500, np.intp)), expected, rtol=0.01)
