"""What is to be learned, and the order in which it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Task
from training.learning.augment import Variation
from training.learning.feed import Feed
from training.learning.together import shares
from training.manifest import Item
from training.recipe import Settings
from training.workers import ALONE, Workers

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Lesson:
    """What is to be learned: rows of the manifest, their targets (n, labels) in [0, 1], and where boxes are drawn."""

    task: Task
    labels: tuple[str, ...]
    items: Sequence[Item]
    rows: Indices
    targets: NDArray[np.floating[Any]]
    validation: Indices | None = None


class Order:
    """Batches in the order that seed and epoch give, so that a resumed run sees what the killed one would have."""

    def __init__(
        self,
        lesson: Lesson,
        feed: Feed,
        batch: int,
        settings: Settings,
        *,
        grid: tuple[int, ...],
        workers: Workers = ALONE,
    ) -> None:
        self.epoch, self._workers = 0, workers
        self._lesson, self._feed, self._batch, self._settings, self._grid = lesson, feed, batch, settings, grid

    def dataset(self, fixed: Indices | None) -> Any:
        """tf.data of one epoch; of fixed rows it is the films as they are, every time."""
        import tensorflow as tf

        labels = len(self._lesson.labels)
        signature: dict[str, Any] = {"logits": tf.TensorSpec((None, labels), tf.float32)}
        if self._settings.boxes:
            signature["maps"] = tf.TensorSpec((None, *self._grid, labels), tf.float32)
        inputs = tf.TensorSpec((None, *self._feed.shape), tf.float32)
        found = tf.data.Dataset.from_generator(lambda: self.batches(fixed), output_signature=(inputs, signature))
        rows = len(self._lesson.rows) // self._batch if fixed is None else -(-len(fixed) // self._batch)
        return found.apply(tf.data.experimental.assert_cardinality(rows)).prefetch(2)

    def batches(self, fixed: Indices | None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Inputs and targets of each batch."""
        return ((x, said) for _, x, said in self.parts(fixed))

    def parts(self, fixed: Indices | None) -> Iterator[tuple[int, Any, dict[str, Any]]]:
        """How many films are in each batch, and inputs and targets of this process's part of it."""
        epoch = self.epoch if fixed is None else None
        if fixed is None:
            order = np.random.default_rng([self._settings.seed, self.epoch]).permutation(self._lesson.rows)
            order = order[: len(order) // self._batch * self._batch]
        else:
            order = fixed
        for start in range(0, len(order), self._batch):
            some = np.sort(order[start : start + self._batch])
            size = len(some)
            some = some[shares(size, self._workers)]
            x, how = self._feed.draw(some, epoch)
            said: dict[str, Any] = {"logits": self._lesson.targets[some].astype(np.float32)}
            if self._settings.boxes:
                maps = [self._boxes(int(r), v) for r, v in zip(some, how, strict=True)]
                said["maps"] = np.reshape(maps, (len(some), *self._grid, len(self._lesson.labels)))
            yield size, x.astype(np.float32), said

    def _boxes(self, row: int, variation: Variation | None) -> Floats:
        """(rows, columns, labels): the part of each position that lies in a box of the label."""
        height, width = self._grid
        found = np.zeros((height, width, len(self._lesson.labels)), np.float32)
        for box in self._lesson.items[row].boxes:
            if box.label in self._lesson.labels:
                seen = variation.box(box) if variation else box
                down = _covered(seen.top, seen.height, height)
                across = _covered(seen.left, seen.width, width)
                k = self._lesson.labels.index(box.label)
                found[..., k] = np.maximum(found[..., k], down[:, None] * across[None, :])
        return found


def _covered(start: float, length: float, cells: int) -> Floats:
    """The part of each of `cells` equal cells of [0, 1] that lies in [start, start + length]."""
    edges = np.arange(cells + 1) / cells
    inside = np.minimum(edges[1:], start + length) - np.maximum(edges[:-1], start)
    return np.asarray(np.clip(inside * cells, 0, 1), np.float32)
