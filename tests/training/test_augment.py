import numpy as np
import pytest

from training import augment

Y, X = np.mgrid[0:96, 0:96] / 95
FILM = (0.2 + 0.6 * np.exp(-(((X - 0.7) / 0.2) ** 2) - ((Y - 0.4) / 0.3) ** 2)).astype(np.float32)


def centre(pixels: np.ndarray) -> float:
    weights = np.clip(pixels - 0.4, 0, None)
    return float((weights * np.arange(pixels.shape[1])).sum() / weights.sum() / pixels.shape[1])


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_keeps_its_side_size_and_range(seed: int) -> None:
    copy = augment.varied(FILM, np.random.default_rng(seed))
    assert copy.shape == FILM.shape and copy.dtype == np.float32
    assert copy.min() >= 0 and copy.max() <= 1
    assert centre(copy) > 0.55, "the heart stays on its side"


def test_copies_differ_and_follow_from_the_seed() -> None:
    a, b, c = (augment.varied(FILM, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.allclose(a, c)


def test_a_coarse_copy_has_64_pixels_a_side() -> None:
    assert augment.coarse(FILM).shape == (64, 64)
