"""From items to features: every film is read once, through the node's own pixels and preprocessing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from models import preprocess
from models.pixels import read
from training import augment
from training.audit import thumbnail
from training.manifest import Item
from training.recipe import Recipe
from training.train import features

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """Features of n films: `plain` (n, channels), `varied` (n, copies, channels); `thumbnails` (n, 1024) are pixels.

    Where the recipe asks for coarse copies, copy 0 is the film itself at 64 px and every other copy is coarse too.
    """

    plain: Floats
    varied: Floats
    thumbnails: Floats


class Extractor:
    """A frozen backbone behind a recipe's preprocessing."""

    def __init__(self, backbone: Any, recipe: Recipe, console: Console) -> None:
        self._backbone, self._recipe, self._console = backbone, recipe, console

    def films(self, items: Sequence[Item]) -> Measured:
        """Everything about some films, in their order. The copies follow from the seed and the order."""
        settings = self._recipe.settings
        small: list[Floats] = []

        def inputs() -> Iterator[Floats]:
            for number, item in enumerate(items):
                pixels = read(item.path).pixels
                small.append(thumbnail(pixels))
                yield pixels
                for copy in range(settings.copies):
                    rng = np.random.default_rng([settings.seed, number, copy])
                    yield self._copy(pixels, copy, rng)

        count = settings.copies + 1
        every = self.arrays(inputs(), total=len(items) * count, what="films and copies")
        table = every.reshape(len(items), count, -1)
        return Measured(table[:, 0], table[:, 1:], np.stack(small))

    def arrays(self, pixels: Iterable[Floats], *, total: int, what: str) -> Floats:
        """Features (n, channels) of grey images in [0, 1]."""
        shown = track(pixels, description=what, total=total, console=self._console)
        return features(self._backbone, (preprocess.run(self._recipe.steps, p) for p in shown))

    def _copy(self, pixels: Floats, copy: int, rng: np.random.Generator) -> Floats:
        if not self._recipe.settings.coarse:
            return augment.varied(pixels, rng)
        if copy == 0:
            return augment.coarse(pixels)
        turned = augment.varied(pixels, rng)
        return turned if copy % 2 else augment.coarse(turned)
