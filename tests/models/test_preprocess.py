import numpy as np
import pytest
from films_made import film

from models import preprocess
from models.preprocess import STEPS, Step

FILM = film(90).astype(np.float32) / 4095


def test_the_steps_of_shipped_bundles_stay() -> None:
    assert set(STEPS) >= {"resize", "stretch", "repeat", "standardise", "scale"}, "STEPS is append-only"


def test_steps_run_in_their_order_and_end_with_channels() -> None:
    steps = (
        Step("resize", {"height": 20, "width": 30}),
        Step("stretch", {"low": 0, "high": 100}),
        Step("repeat", {"channels": 3}),
        Step("standardise", {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}),
    )
    got = preprocess.run(steps, FILM)
    assert got.shape == (20, 30, 3) and got.dtype == np.float32
    assert got.min() == pytest.approx(-1) and got.max() == pytest.approx(1)
    assert preprocess.run(steps[:1], FILM).shape == (20, 30, 1)


def test_resizing_averages_and_drops_no_pixel() -> None:
    lines = np.zeros((256, 256), np.float32)
    lines[::2] = 1
    small = preprocess.resize(lines, height=16, width=16)
    assert np.abs(small - 0.5).max() < 0.1


def test_resizing_commutes_with_brightness_and_contrast() -> None:
    small = preprocess.resize(FILM, height=24, width=24)
    assert np.allclose(preprocess.resize(FILM * 0.5 + 0.2, height=24, width=24), small * 0.5 + 0.2, atol=1e-5)


def test_stretching_takes_out_brightness_and_contrast() -> None:
    first = preprocess.stretch(FILM, low=0.5, high=99.5)
    assert np.allclose(first, preprocess.stretch(FILM * 0.3 + 0.4, low=0.5, high=99.5), atol=1e-4)
    assert first.min() == 0 and first.max() == 1


def test_no_contrast_stretches_to_zeros() -> None:
    assert (preprocess.stretch(np.full((9, 9), 0.7, np.float32), low=0.5, high=99.5) == 0).all()


def test_a_step_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError, match="sharpen"):
        preprocess.run((Step("sharpen"),), FILM)


def test_a_scale_is_factor_then_offset() -> None:
    got = STEPS["scale"](np.array([[0.0, 0.5, 1.0]], np.float32), factor=2, offset=-1)
    assert got.tolist() == [[-1, 0, 1]] and got.dtype == np.float32
