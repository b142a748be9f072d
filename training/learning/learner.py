"""One recipe's way of training: which part of which network, from what it is fed, by steps or exactly.

The same learner trains each fold and the last model, so that a figure speaks of what is shipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.cache import Films
from training.learning import backbones, frozen
from training.learning.answers import Whole
from training.learning.backbones import Backbone, Start
from training.learning.feed import Feed, Live, Stored
from training.learning.order import Lesson
from training.learning.tune import Fitted, tune
from training.manifest import Manifest
from training.recipe import EXACT, Recipe
from training.workers import ALONE, Workers

Indices = NDArray[np.intp]


class Learner:
    """Trains on any rows of a manifest. `folder` keeps what a killed run needs to go on."""

    def __init__(
        self,
        recipe: Recipe,
        manifest: Manifest,
        films: Films,
        *,
        start: Start,
        folder: Path,
        console: Console,
        workers: Workers = ALONE,
    ) -> None:
        self._workers = workers
        self._recipe, self._manifest, self._start = recipe, manifest, start
        self._folder, self._console = folder, console
        with _precision(mixed=self._workers.parts == 1):
            self._backbone, self._feed = self._built(films)

    def fit(
        self, rows: Indices, name: str, *, validation: Indices | None = None, targets: NDArray[np.float64] | None = None
    ) -> Fitted:
        """A model of these rows; `targets` (all items, labels) replace the manifest's."""
        settings, manifest = self._recipe.settings, self._manifest
        goal = manifest.targets.astype(np.float64) if targets is None else targets
        if settings.train_from == EXACT:
            return self._exact(rows, goal)
        lesson = Lesson(self._recipe.task, manifest.labels, manifest.items, rows, goal, validation)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with _precision(mixed=self._workers.parts == 1), Progress(*columns, console=self._console) as progress:
            return tune(
                lesson,
                self._backbone,
                self._feed,
                settings=settings,
                folder=self._folder,
                name=name.replace(" ", "-"),
                progress=progress,
                workers=self._workers,
            )

    def network(self, fitted: Fitted) -> Any:
        """The whole Keras model in single precision, as a bundle holds it."""
        with _precision(mixed=False):
            fresh = self._parts()
            fresh.trained.set_weights(fitted.weights)
            return backbones.with_head(fresh, fresh.trained, fitted.kernel, fitted.bias)

    def whole(self, network: Any) -> Whole:
        """The same, as it is asked about films."""
        return Whole(network, exclusive=self._recipe.task == "multiclass")

    def _built(self, films: Films) -> tuple[Backbone, Feed]:
        settings = self._recipe.settings
        found = self._parts()
        if settings.live:
            return found, Live(films.pixels, seed=settings.seed)
        kept = _pooled(found.frozen) if settings.train_from == EXACT else found.frozen
        path = self._folder / "activations.npy"
        feed = Stored(films.pixels, kept, copies=settings.copies, seed=settings.seed, path=path, console=self._console)
        return found, feed

    def _parts(self) -> Backbone:
        import keras

        settings = self._recipe.settings
        # weights that start by chance must be the same ones when the network is built anew for the bundle
        keras.utils.set_random_seed(settings.seed)
        found = backbones.build(settings.backbone, settings.size, weights=self._start, train_from=settings.train_from)
        return backbones.joined(found) if settings.live else found

    def _exact(self, rows: Indices, goal: NDArray[np.float64]) -> Fitted:
        settings, recipe = self._recipe.settings, self._recipe
        assert isinstance(self._feed, Stored)
        table = self._feed.table[rows].astype(np.float32)
        copies = table.shape[1]
        sources = [self._manifest.items[i].source for i in rows]
        kernel, bias = frozen.head(
            table.transpose(1, 0, 2).reshape(copies * len(rows), -1),
            np.tile(goal[rows], (copies, 1)),
            exclusive=recipe.task == "multiclass",
            strength=settings.strength,
            # a body part's sources differ in size by chance; findings come from one source, and patients count alike
            balance=sources * copies if recipe.question == "anatomy" else [""] * (copies * len(rows)),
        )
        return Fitted([], kernel, bias, [])


def _pooled(network: Any) -> Any:
    import keras

    return keras.Model(network.input, keras.layers.GlobalAveragePooling2D()(network.output))


@contextmanager
def _precision(*, mixed: bool) -> Iterator[None]:
    """Half precision on a GPU, where it is faster; single precision for what is kept, and on a CPU."""
    import keras
    import tensorflow as tf

    before = keras.mixed_precision.dtype_policy()
    gpu = bool(tf.config.list_logical_devices("GPU"))
    keras.mixed_precision.set_dtype_policy("mixed_float16" if mixed and gpu else "float32")
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)
