"""DeLong against its definition and against resampling, not against itself."""

import numpy as np
import pytest

from training.errors import ManifestError
from training.figures.delong import delong


def ranked(gain: float, seed: int, n: int = 120) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two models that see partly the same; B is worse by `gain`. Rounded, so that there are ties."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(n) % 3 == 0).astype(int)
    seen = rng.normal(size=n)
    a, b = (np.round(seen + rng.normal(size=n) + truth * shift, 1) for shift in (1.5, 1.5 - gain))
    return a, b, truth


def by_definition(a: np.ndarray, b: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Difference and variance from every pair of films (DeLong 1988, equations 2 to 6)."""
    wins = []
    for scores in (a, b):
        x, y = scores[truth == 1][:, None], scores[truth == 0][None]
        wins.append((x > y) + 0.5 * (x == y))
    gap = wins[0] - wins[1]
    of_positive, of_negative = gap.mean(axis=1), gap.mean(axis=0)
    variance = of_positive.var(ddof=1) / len(of_positive) + of_negative.var(ddof=1) / len(of_negative)
    return float(gap.mean()), float(variance)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_definition_over_all_pairs_gives(seed: int) -> None:
    a, b, truth = ranked(0.5, seed)
    difference, variance = by_definition(a, b, truth)
    got, low, high, p = delong(a, b, truth)
    assert got == pytest.approx(difference)
    assert (low, high) == pytest.approx((difference - 1.959964 * variance**0.5, difference + 1.959964 * variance**0.5))
    assert (p < 0.05) == (low > 0 or high < 0)


def test_the_interval_is_as_wide_as_that_of_resampled_films() -> None:
    a, b, truth = ranked(0.6, 7, n=600)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        rows = np.concatenate([rng.choice(np.flatnonzero(truth == t), (truth == t).sum()) for t in (0, 1)])
        draws.append(by_definition(a[rows], b[rows], truth[rows])[0])
    _, low, high, _ = delong(a, b, truth)
    assert high - low == pytest.approx(2 * 1.96 * np.std(draws), rel=0.15)


def test_the_same_scores_differ_by_nothing_and_the_order_of_models_only_turns_the_sign() -> None:
    a, b, truth = ranked(0.5, 1)
    assert delong(a, a, truth) == (0.0, 0.0, 0.0, 1.0)
    one, other = delong(a, b, truth), delong(b, a, truth)
    assert other == pytest.approx((-one[0], -one[2], -one[1], one[3]))


def test_all_right_against_all_wrong_is_certain() -> None:
    truth = np.array([0, 0, 1, 1])
    assert delong(truth.astype(float), -truth.astype(float), truth) == (1.0, 1.0, 1.0, 0.0)


def test_one_film_of_a_class_or_a_missing_score_is_refused() -> None:
    scores = np.arange(4.0)
    with pytest.raises(ManifestError, match="have 1 and 3"):
        delong(scores, scores, np.array([0, 0, 0, 1]))
    with pytest.raises(ManifestError, match="finite"):
        delong(scores, np.array([0, np.nan, 1, 2]), np.array([0, 0, 1, 1]))
