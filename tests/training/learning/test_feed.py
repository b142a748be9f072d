"""What is shown while training: determined by seed, epoch and row, whether stored or drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from training.learning import feed
from training.learning.feed import Live, Stored

QUIET = Console(quiet=True)
ROWS = np.arange(20)


def pixels(count: int = 20, side: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    films = [120 + 80 * np.sin(6 * x + k) * y + rng.normal(0, 5, x.shape) for k in range(count)]
    return np.clip(films, 0, 255).astype(np.uint8)


def test_a_live_film_follows_from_seed_epoch_and_row() -> None:
    one, two = Live(pixels(), seed=1), Live(pixels(), seed=1)
    (a, how), (b, _) = one.draw(ROWS, 3), two.draw(ROWS[::-1], 3)
    assert np.array_equal(a, b[::-1]), "whatever else is in the batch, and whatever was drawn before"
    assert a.shape == (20, 16, 16, 1) and a.dtype == np.float32 and 0 <= a.min() <= a.max() <= 1
    assert not np.array_equal(a, one.draw(ROWS, 4)[0])
    assert not np.array_equal(a, Live(pixels(), seed=2).draw(ROWS, 3)[0])
    assert [v is None for v in how] == [
        np.array_equal(x[..., 0], p / np.float32(255)) for x, p in zip(a, pixels(), strict=True)
    ]


def test_live_films_tell_how_they_were_varied() -> None:
    (x, how) = Live(pixels(), seed=1, plain_part=0).draw(ROWS, 0)
    for film, variation, original in zip(x, how, pixels(), strict=True):
        assert variation and np.array_equal(film[..., 0], variation.film(original.astype(np.float32) / 255))


def test_without_an_epoch_a_live_film_is_as_it_is() -> None:
    x, how = Live(pixels(), seed=1).draw(ROWS, None)
    assert how == [None] * 20 and np.array_equal(x[..., 0], pixels() / np.float32(255))


def stored(folder: Path, *, seed: int = 1, count: int = 20) -> Stored:
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 1))
    frozen = keras.Model(inputs, keras.layers.AveragePooling2D(4)(inputs))
    return Stored(pixels(count), frozen, copies=2, seed=seed, path=folder / "a.npy", console=QUIET)


@pytest.mark.model
def test_stored_activations_are_those_of_the_film_and_its_copies(tmp_path: Path) -> None:
    found = stored(tmp_path)
    assert found.table.shape == (20, 3, 4, 4, 1)
    blocks = (pixels() / 255).reshape(20, 4, 4, 4, 4).mean(axis=(2, 4))
    assert np.allclose(found.table[:, 0, ..., 0], blocks, atol=1e-3)
    assert not np.allclose(found.table[:, 1], found.table[:, 0], atol=1e-2)
    x, how = found.draw(ROWS, 5)
    for row, (said, variation) in enumerate(zip(x, how, strict=True)):
        film = pixels()[row].astype(np.float32) / 255
        shown = variation.film(film) if variation else film
        assert np.allclose(said[..., 0], shown.reshape(4, 4, 4, 4).mean(axis=(1, 3)), atol=1e-3)
    assert {v is None for v in how} == {True, False}


@pytest.mark.model
def test_a_stored_draw_follows_from_seed_epoch_and_row(tmp_path: Path) -> None:
    found = stored(tmp_path)
    (a, _), (b, _) = found.draw(ROWS, 3), stored(tmp_path).draw(ROWS[::-1], 3)
    assert np.array_equal(a, b[::-1]) and not np.array_equal(a, found.draw(ROWS, 4)[0])
    x, how = found.draw(ROWS, None)
    assert how == [None] * 20 and np.array_equal(x, found.table[:, 0])


@pytest.mark.model
@pytest.mark.parametrize("killed_at", [0, 1, 2])
def test_a_killed_pass_goes_on_behind_the_last_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr(feed, "CHUNK", 8)
    (tmp_path / "whole").mkdir()
    expected = np.array(stored(tmp_path / "whole").table)
    calls: list[int] = []
    whole = feed.forward

    def dies(call: Any, films: Any) -> Any:
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        calls.append(len(films))
        return whole(call, films)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(feed, "forward", dies)
        stored(tmp_path)
    counted: list[int] = []
    monkeypatch.setattr(feed, "forward", lambda call, films: counted.append(len(films)) or whole(call, films))
    assert np.array_equal(stored(tmp_path).table, expected)
    assert sum(counted) == 60 - sum(calls), "what was done is not done again"
    assert np.array_equal(stored(tmp_path).table, expected) and sum(counted) == 60 - sum(calls)


@pytest.mark.model
def test_activations_of_other_films_are_not_taken(tmp_path: Path) -> None:
    stored(tmp_path, count=12)
    assert stored(tmp_path).table.shape[0] == 20


@pytest.mark.model
def test_every_film_of_a_short_last_call_is_answered(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((16, 16, 1))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    films = [p.astype(np.float32) for p in pixels(feed.FORWARD + 3)]
    (means,) = feed.forward(feed.compiled(network), films)
    assert np.allclose(means[:, 0], [f.mean() for f in films], rtol=1e-4)
