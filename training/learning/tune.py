"""Trains the upper part of a network and its head by gradient steps, with Keras.

The head is a dense layer over positions whose mean is the logit, so that the map of a label is trained too: where a
reader drew a box, the map's weight is drawn into it. Resumes after a kill at the last whole epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from models.bundle import Task
from training.learning.augment import Variation
from training.learning.backbones import Backbone
from training.learning.feed import Feed
from training.learning.together import CLIP, Together, see_possible, shares
from training.manifest import Item
from training.recipe import Settings
from training.workers import Workers

HEAD_PACE = 10.0
"""How much faster the new head learns than the network below it."""
MOST_WEIGHT = 5.0
"""A rare label's positives count at most this often."""
BEST, HISTORY = "best.weights.h5", "history.json"
DROPOUT = "dropped"
ALONE = Workers()

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Fitted:
    """One trained model: weights of `Backbone.trained`, `kernel` (features, labels), `bias` (labels); one row of
    figures per epoch."""

    weights: list[NDArray[Any]]
    kernel: Floats
    bias: Floats
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Lesson:
    """What is to be learned: rows of the manifest, their targets (n, labels) in [0, 1], and where boxes are drawn."""

    task: Task
    labels: tuple[str, ...]
    items: Sequence[Item]
    rows: Indices
    targets: NDArray[np.floating[Any]]
    validation: Indices | None = None


def tune(
    lesson: Lesson,
    backbone: Backbone,
    feed: Feed,
    *,
    settings: Settings,
    folder: Path,
    name: str,
    progress: Progress,
    workers: Workers = ALONE,
) -> Fitted:
    """Train a copy of `backbone.trained` and a head on some rows; `folder` keeps the last epoch until it is done."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    if workers.several:
        return _together(lesson, backbone, feed, settings, folder / name, workers)
    # under several GPUs each takes a part of every batch
    with _strategy().scope():
        model, trained, head = _model(lesson, backbone, settings)
        batch = min(settings.batch, len(lesson.rows))
        optimiser = _optimiser(lesson, settings, batch, clip=CLIP)
        model.compile(optimiser, loss=_losses(lesson, settings), loss_weights=_loss_weights(settings))
    order = _Order(lesson, feed, batch, settings, grid=tuple(trained.output_shape[1:3]))
    history: list[dict[str, float]] = []
    bar = progress.add_task(name, total=settings.epochs)
    watch = _callbacks(model, order, history, settings, folder / name, lambda **said: progress.update(bar, **said))
    validation = order.dataset(lesson.validation) if lesson.validation is not None else None
    if not _patience_over(history, settings):  # it may have been over before a kill
        model.fit(
            order.dataset(None),
            epochs=settings.epochs,
            callbacks=watch,
            validation_data=validation,
            shuffle=False,
            verbose=0,
        )
    if settings.patience:
        model.load_weights(folder / name / BEST)
    kernel, bias = (np.asarray(w) * np.float32(HEAD_PACE) for w in head.get_weights())
    return Fitted([np.asarray(w) for w in trained.get_weights()], kernel, bias, history)


def _optimiser(lesson: Lesson, settings: Settings, batch: int, *, clip: float | None) -> Any:
    import keras

    steps = settings.epochs * (len(lesson.rows) // batch)
    rate = keras.optimizers.schedules.CosineDecay(
        settings.rate / 10, steps, warmup_target=settings.rate, warmup_steps=max(1, steps // 10)
    )
    return keras.optimizers.AdamW(rate, weight_decay=settings.decay, global_clipnorm=clip)


def _together(
    lesson: Lesson, backbone: Backbone, feed: Feed, settings: Settings, folder: Path, workers: Workers
) -> Fitted:
    """The same with other workers: each draws only its part of a batch."""
    batch = min(settings.batch, len(lesson.rows)) // len(workers.addresses) * len(workers.addresses)
    see_possible(settings.batch, workers)
    with workers.strategy.scope():
        model, trained, head = _model(lesson, backbone, settings, synchronized=True)
        optimiser = _optimiser(lesson, settings, batch, clip=None)
        optimiser.build(model.trainable_variables)
    order = _Order(lesson, feed, batch, settings, grid=tuple(trained.output_shape[1:3]), workers=workers)
    run = Together(workers, model, optimiser, _losses(lesson, settings), _loss_weights(settings))
    folder.mkdir(parents=True, exist_ok=True)
    history = run.resumed(folder)
    for epoch in range(len(history), settings.epochs):
        if _patience_over(history, settings):
            break
        order.epoch = epoch
        _set_chance(model, settings.seed + workers.index, epoch << 16)
        row = run.taught(order.parts(None))
        if lesson.validation is not None:
            row |= run.judged(order.parts(lesson.validation))
        history.append(row)
        # before the epoch counts as whole: a kill between the two writes the same file again
        if settings.patience and _best(history) == epoch and workers.chief:
            model.save_weights(folder / f"part-{BEST}")
            (folder / f"part-{BEST}").replace(folder / BEST)
        run.keep(folder, history)
    if settings.patience:
        model.load_weights(folder / BEST)
    kernel, bias = (np.asarray(w) * np.float32(HEAD_PACE) for w in head.get_weights())
    return Fitted([np.asarray(w) for w in trained.get_weights()], kernel, bias, history)


class _Order:
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
        """How many films are in each batch, and inputs and targets of this worker's part of it."""
        epoch = self.epoch if fixed is None else None
        if fixed is None:
            order = np.random.default_rng([self._settings.seed, self.epoch]).permutation(self._lesson.rows)
            order = order[: len(order) // self._batch * self._batch]
        else:
            order = fixed
        for start in range(0, len(order), self._batch):
            some = np.sort(order[start : start + self._batch])
            size = len(some)
            if self._workers.several:
                some = some[shares(len(some), self._workers)]
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


def _model(
    lesson: Lesson, backbone: Backbone, settings: Settings, *, synchronized: bool = False
) -> tuple[Any, Any, Any]:
    import keras

    trained = keras.models.clone_model(backbone.trained)
    trained.set_weights(backbone.trained.get_weights())
    for layer in _layers(trained):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # small sets: the statistics must have moved to radiographs after few epochs
            layer.synchronized = synchronized
    inputs = keras.Input(backbone.trained.input_shape[1:])
    x = keras.layers.SpatialDropout2D(settings.dropout, name=DROPOUT)(trained(inputs))
    x = keras.layers.Rescaling(HEAD_PACE)(x)
    head = keras.layers.Dense(len(lesson.labels), kernel_initializer=keras.initializers.RandomNormal(stddev=0.01))
    maps = keras.layers.Activation("linear", dtype="float32", name="maps")(head(x))
    logits = keras.layers.GlobalAveragePooling2D(dtype="float32", name="logits")(maps)
    outputs = {"logits": logits} | ({"maps": maps} if settings.boxes else {})
    return keras.Model(inputs, outputs), trained, head


def _layers(network: Any) -> Iterator[Any]:
    """Every layer, also of the networks inside it."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


def _losses(lesson: Lesson, settings: Settings) -> dict[str, Any]:
    import keras
    import tensorflow as tf

    often = lesson.targets[lesson.rows].mean(axis=0)
    if lesson.task == "multiclass":
        share = (1 / np.maximum(often, 1e-6) / len(often)).astype(np.float32)

        def labels(y: Any, z: Any) -> Any:
            return tf.reduce_sum(y * share, axis=1) * keras.losses.categorical_crossentropy(y, z, from_logits=True)
    else:
        extra = np.clip((1 - often) / np.maximum(often, 1e-6), 1, MOST_WEIGHT).astype(np.float32)

        def labels(y: Any, z: Any) -> Any:
            return tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(y, z, extra), axis=1)

    return {"logits": labels} | ({"maps": into_boxes} if settings.boxes else {})


def into_boxes(boxes: Any, maps: Any) -> Any:
    """How little of a map lies in the boxes: -log of the part of its softmax over positions that is inside, mean over
    an image's labels with a box. (batch, rows, columns, labels) twice to (batch,); 0 for an image without a box."""
    import tensorflow as tf

    shape = (tf.shape(maps)[0], -1, maps.shape[-1])
    inside, flat = tf.reshape(boxes, shape), tf.nn.log_softmax(tf.reshape(maps, shape), axis=1)
    part = tf.reduce_logsumexp(flat + tf.math.log(inside + 1e-6), axis=1)
    has = tf.cast(tf.reduce_max(inside, axis=1) > 0, tf.float32)
    return -tf.reduce_sum(part * has, axis=1) / tf.maximum(tf.reduce_sum(has, axis=1), 1)


def _loss_weights(settings: Settings) -> dict[str, float]:
    return {"logits": 1.0} | ({"maps": settings.boxes} if settings.boxes else {})


def _callbacks(
    model: Any,
    order: _Order,
    history: list[dict[str, float]],
    settings: Settings,
    folder: Path,
    show: Callable[..., None],
) -> list[Any]:
    """Callbacks that fill `history` with a row per epoch, also with those from before a kill."""
    import keras

    path = folder / HISTORY
    if path.exists():
        history += json.loads(path.read_text(encoding="ascii"))

    def begin(epoch: int, _logs: Any) -> None:
        order.epoch = epoch
        # what is dropped follows from seed and epoch too; a backup does not hold where the chance stood
        _set_chance(model, settings.seed, epoch << 16)
        show(completed=epoch)

    def end(epoch: int, logs: dict[str, float]) -> None:
        history[epoch:] = [{name: float(value) for name, value in logs.items()}]
        if settings.patience:
            if _best(history) == epoch:
                model.save_weights(folder / BEST)
            model.stop_training = _patience_over(history, settings)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(history), encoding="ascii")
        part.replace(path)
        show(completed=epoch + 1, description=f"{folder.name}: loss {logs['loss']:.3f}")

    folder.mkdir(parents=True, exist_ok=True)
    return [
        # before the backup: an epoch that was backed up is in the history, and not every one there is backed up
        keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end),
        keras.callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True),
        keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False),
    ]


def _set_chance(model: Any, seed: int, place: int) -> None:
    layer = model.get_layer(DROPOUT)
    if layer.rate:
        layer.seed_generator.state.assign([seed, place])


def _best(history: list[dict[str, float]]) -> int:
    return int(np.argmin([row["val_loss"] for row in history]))


def _patience_over(history: list[dict[str, float]], settings: Settings) -> bool:
    return bool(settings.patience and history) and len(history) - 1 - _best(history) >= settings.patience


def _strategy() -> Any:
    import tensorflow as tf

    several = len(tf.config.list_logical_devices("GPU")) > 1
    return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
