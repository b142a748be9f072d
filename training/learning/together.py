"""Several devices train one network, of one process or of several workers: each takes its part of every batch, and
gradients are summed by TensorFlow. Keras's own loop does not take data that is spread over several workers, and clips
each device's gradients by themselves.

A step is that of one device for the same batch: gradients are summed before they are clipped, and normalisations see
the whole batch. The last whole epoch is kept by the chief in the folder that all see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import RecipeError
from training.workers import Workers

KEPT = "epoch.npz"
CLIP = 1.0

Batch = tuple[int, NDArray[Any], dict[str, Any]]
"""Rows of all workers; this worker's inputs and targets."""
Row = dict[str, float]


class Together:
    """A model's epochs by several devices. `losses`: output -> (targets, outputs) to (batch,)."""

    def __init__(
        self, workers: Workers, model: Any, optimiser: Any, losses: Mapping[str, Any], weights: Mapping[str, float]
    ) -> None:
        self._workers, self._model, self._optimiser = workers, model, optimiser
        self._losses, self._weights = losses, weights
        self._steps = self._compiled()

    def taught(self, batches: Iterator[Batch]) -> Row:
        """One epoch of steps; the mean losses."""
        return self._epoch(batches, learn=True)

    def judged(self, batches: Iterator[Batch]) -> Row:
        """The mean losses, with nothing learned."""
        return {f"val_{name}": value for name, value in self._epoch(batches, learn=False).items()}

    def keep(self, folder: Path, history: list[Row]) -> None:
        """The chief writes all that the next epoch follows from, and for TensorBoard; the others wait for it."""
        if self._workers.chief:
            self._show(folder / "tensorboard", len(history) - 1, history[-1])
            part = folder / f"part-{KEPT}"
            named: dict[str, Any] = {f"{i:05}": np.asarray(v) for i, v in enumerate(self._variables())}
            np.savez(part, history=json.dumps(history), **named)
            part.replace(folder / KEPT)
        self._workers.wait()

    def resumed(self, folder: Path) -> list[Row]:
        """The rows of the whole epochs that were kept, and their state put back."""
        path = folder / KEPT
        history: list[Row] = []
        if path.exists():
            with np.load(path) as kept:
                history = json.loads(str(kept["history"]))
                for i, variable in enumerate(self._variables()):
                    variable.assign(kept[f"{i:05}"])
        return history

    def _show(self, folder: Path, epoch: int, row: Row) -> None:
        import tensorflow as tf

        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default(step=epoch):
            for name, value in row.items():
                tf.summary.scalar(f"epoch_{name}", value)
        writer.close()

    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._optimiser.variables]

    def _epoch(self, batches: Iterator[Batch], *, learn: bool) -> Row:
        import tensorflow as tf

        step = self._steps[learn]
        sums, count = dict.fromkeys(["loss", *self._losses], 0.0), 0
        with self._workers.heard():
            for size, x, y in _ahead(batches):
                each = -(-size // self._workers.parts)
                targets = {name: self._dealt(values, each) for name, values in y.items()}
                mask = self._dealt(np.ones(len(x)), each)
                said = step(self._dealt(x, each), targets, mask, tf.constant(size, tf.float32))
                for name, value in said.items():
                    sums[name] += float(value) * size
                count += size
        found = {name: value / max(count, 1) for name, value in sums.items()}
        if len(self._losses) == 1:
            return {"loss": found["loss"]}
        return {"loss": found["loss"]} | {f"{name}_loss": found[name] for name in self._losses}

    def _dealt(self, values: Any, each: int) -> Any:
        """This process's rows, `each` of them to each of its devices."""
        import tensorflow as tf

        devices = self._workers.devices
        parts = np.split(_padded(values, each * devices), devices)
        return self._workers.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group % devices])
        )

    def _compiled(self) -> dict[bool, Callable[..., Any]]:
        import tensorflow as tf

        strategy, model, optimiser = self._workers.strategy, self._model, self._optimiser

        def measured(x: Any, y: Any, mask: Any, size: Any, training: bool) -> Any:
            said = model(x, training=training)
            parts = {k: tf.reduce_sum(loss(y[k], said[k]) * mask) / size for k, loss in self._losses.items()}
            return {"loss": tf.add_n([self._weights[k] * v for k, v in parts.items()]), **parts}

        def summed(values: Any) -> Any:
            return tf.distribute.get_replica_context().all_reduce("SUM", values)

        def learn(x: Any, y: Any, mask: Any, size: Any) -> Any:
            with tf.GradientTape() as tape:
                found = measured(x, y, mask, size, True)
            variables = model.trainable_variables
            whole = summed(tape.gradient(found["loss"], [v.value for v in variables]))
            clipped, _ = tf.clip_by_global_norm(whole, CLIP)
            # the optimiser sums what the devices give it
            optimiser.apply([g / strategy.num_replicas_in_sync for g in clipped], variables)
            return summed(found)

        def judge(x: Any, y: Any, mask: Any, size: Any) -> Any:
            return summed(measured(x, y, mask, size, False))

        def run(how: Callable[..., Any]) -> Callable[..., Any]:
            def call(x: Any, y: Any, mask: Any, size: Any) -> Any:
                said = strategy.run(how, args=(x, y, mask, size))
                return {k: strategy.experimental_local_results(v)[0] for k, v in said.items()}

            compiled: Callable[..., Any] = tf.function(call, reduce_retracing=True)
            return compiled

        return {True: run(learn), False: run(judge)}


def shares(size: int, workers: Workers) -> slice:
    """The rows of a batch that are this process's; the last one's may be fewer, or none."""
    each = -(-size // workers.parts) * workers.devices
    return slice(min(size, each * workers.index), min(size, each * (workers.index + 1)))


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same; the next is drawn while one is learned."""
    with ThreadPoolExecutor(1) as thread:
        drawn = thread.submit(next, batches, None)
        while (batch := drawn.result()) is not None:
            drawn = thread.submit(next, batches, None)
            yield batch


def _padded(values: Any, rows: int) -> Any:
    """So many rows, those that are missing being zero."""
    found = np.zeros((rows, *values.shape[1:]), np.float32)
    found[: len(values)] = values
    return found


def see_possible(batch: int, workers: Workers) -> None:
    """Raises:
    RecipeError: a batch that cannot be divided equally, by which a normalisation would count rows that are not there.
    """
    if batch % workers.parts:
        raise RecipeError(
            f"batch = {batch}: it is divided between {workers}, so that a multiple of {workers.parts} is needed"
        )
