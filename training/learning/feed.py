"""What a network is shown while it is trained: each film now as it is, now as a varied copy.

Two ways with the same meaning. `Stored`: the copies are drawn once and the activations of the part that stays frozen
are kept on disk, so that an epoch costs only the part that is trained. `Live`: copies are drawn anew for every epoch;
nothing but the decoded films is kept, however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from training.cache import unit
from training.learning.augment import Variation, drawn

CHUNK = 64
FORWARD = 16
"""Images in one call of the frozen part."""

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


class Feed(Protocol):
    """Inputs of the part of a network that is trained."""

    shape: tuple[int, ...]

    def draw(self, rows: Indices, epoch: int | None) -> tuple[NDArray[Any], list[Variation | None]]:
        """(rows, *shape), and how each was varied; the same for the same rows and epoch. Without an epoch: as it is."""
        ...


class Live:
    """Films (n, size, size) of bytes, varied as they are asked for; a part of them is shown as it is."""

    def __init__(self, pixels: NDArray[np.uint8], *, seed: int, plain_part: float = 1 / 6) -> None:
        self._pixels, self._seed, self._plain = pixels, seed, plain_part
        self.shape = (*pixels.shape[1:], 1)

    def draw(self, rows: Indices, epoch: int | None) -> tuple[NDArray[Any], list[Variation | None]]:
        x = np.empty((len(rows), *self.shape), np.float32)
        how: list[Variation | None] = []
        for place, row in enumerate(rows):
            varied = None if epoch is None else self._variation(int(row), epoch)
            x[place, ..., 0] = _varied(self._pixels[row], varied)
            how.append(varied)
        return x, how

    def _variation(self, row: int, epoch: int) -> Variation | None:
        rng = np.random.default_rng([self._seed, epoch, row])
        return None if rng.random() < self._plain else drawn(rng)


class Stored:
    """Activations of `frozen` for each film and its `copies`, half precision, in one file on disk."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        frozen: Any,
        *,
        copies: int,
        seed: int,
        path: Path,
        console: Console,
    ) -> None:
        self._seed, self._copies = seed, copies
        self.shape = tuple(frozen.output_shape[1:])
        self._variations = [
            [None, *(drawn(np.random.default_rng([seed, row, copy])) for copy in range(copies))]
            for row in range(len(pixels))
        ]
        self.table = self._computed(pixels, frozen, path, console)
        """(n, copies + 1, *shape); the first is the film as it is."""

    def draw(self, rows: Indices, epoch: int | None) -> tuple[NDArray[Any], list[Variation | None]]:
        which = [0 if epoch is None else self._copy(int(row), epoch) for row in rows]
        x = np.stack([self.table[row, copy] for row, copy in zip(rows, which, strict=True)])
        return x, [self._variations[row][copy] for row, copy in zip(rows, which, strict=True)]

    def _copy(self, row: int, epoch: int) -> int:
        return int(np.random.default_rng([self._seed, epoch, row]).integers(self._copies + 1))

    def _computed(self, pixels: NDArray[np.uint8], frozen: Any, path: Path, console: Console) -> NDArray[np.float16]:
        """Goes on behind the last row that was written, if a run was killed before."""
        shape = (len(pixels), self._copies + 1, *self.shape)
        progress = path.with_suffix(".rows")
        if not path.exists() or np.load(path, mmap_mode="r").shape != shape:
            progress.unlink(missing_ok=True)
            np.lib.format.open_memmap(path, "w+", np.float16, shape).flush()
        table = np.lib.format.open_memmap(path, "r+")
        done = int(progress.read_text()) if progress.exists() else 0
        call = compiled(frozen)
        starts = range(done, len(pixels), CHUNK)
        for start in track(starts, "films and copies through the frozen part", console=console):
            rows = range(start, min(start + CHUNK, len(pixels)))
            films = [_varied(pixels[r], v) for r in rows for v in self._variations[r]]
            table[rows.start : rows.stop] = forward(call, films)[0].reshape(len(rows), self._copies + 1, *self.shape)
            table.flush()
            part = path.with_suffix(".part")
            part.write_text(str(rows.stop))
            part.replace(progress)  # a kill while it is written must not leave an empty one
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def compiled(network: Any) -> Any:
    """A network as one traced function of (FORWARD, ...) that gives a list of outputs."""
    import tensorflow as tf

    def call(x: Any) -> Any:
        found = network(x, training=False)
        return found if isinstance(found, (list, tuple)) else [found]

    return tf.function(call, reduce_retracing=False)


def forward(call: Any, films: Sequence[Floats]) -> list[Floats]:
    """Each output of a compiled network for (size, size) films, in calls of one shape."""
    import tensorflow as tf

    parts: list[list[Floats]] = []
    for start in range(0, len(films), FORWARD):
        some = films[start : start + FORWARD]
        batch = np.zeros((FORWARD, *some[0].shape, 1), np.float32)
        batch[: len(some), ..., 0] = some
        parts.append([np.asarray(p[: len(some)], np.float32) for p in call(tf.constant(batch))])
    return [np.concatenate(p) for p in zip(*parts, strict=True)]


def _varied(pixels: NDArray[np.uint8], variation: Variation | None) -> Floats:
    film = unit(pixels)
    return variation.film(film) if variation else film
