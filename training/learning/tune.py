"""Trains the upper part of a network and its head by gradient steps, with Keras.

The head is a dense layer over positions whose mean is the logit, so that the map of a label is trained too: where a
reader drew a box, the map's weight is drawn into it. Resumes after a kill at the last whole epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from training.errors import RecipeError
from training.learning.backbones import Backbone
from training.learning.feed import Feed
from training.learning.order import Lesson, Order
from training.learning.together import CLIP, Together, see_possible
from training.recipe import Settings
from training.workers import ALONE, Workers

HEAD_PACE = 10.0
"""How much faster the new head learns than the network below it."""
MOST_WEIGHT = 5.0
"""A rare label's positives count at most this often."""
BEST, HISTORY = "best.weights.h5", "history.json"
DROPOUT = "dropped"
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """One trained model: weights of `Backbone.trained`, `kernel` (features, labels), `bias` (labels); one row of
    figures per epoch."""

    weights: list[NDArray[Any]]
    kernel: Floats
    bias: Floats
    history: list[dict[str, float]]


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
    bar = progress.add_task(name, total=settings.epochs)

    def show(**said: Any) -> None:
        progress.update(bar, **said)

    if workers.parts > 1:
        return _together(lesson, backbone, feed, settings, folder / name, workers, show)
    model, trained, head = _model(lesson, backbone, settings)
    batch = min(settings.batch, len(lesson.rows))
    optimiser = _optimiser(lesson, settings, batch, clip=CLIP)
    model.compile(optimiser, loss=_losses(lesson, settings), loss_weights=_loss_weights(settings))
    order = Order(lesson, feed, batch, settings, grid=tuple(trained.output_shape[1:3]))
    history: list[dict[str, float]] = []
    watch = _callbacks(model, order, history, settings, folder / name, show)
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
    return _fitted(trained, head, history)


def _fitted(trained: Any, head: Any, history: list[dict[str, float]]) -> Fitted:
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
    lesson: Lesson,
    backbone: Backbone,
    feed: Feed,
    settings: Settings,
    folder: Path,
    workers: Workers,
    show: Callable[..., None],
) -> Fitted:
    """The same by several devices; with other workers each draws only its part of a batch."""
    see_possible(settings.batch, workers)
    batch = min(settings.batch, len(lesson.rows)) // workers.parts * workers.parts
    if not batch:
        raise RecipeError(f"{folder.name}: {len(lesson.rows)} films to learn from are too few for {workers}")
    with workers.strategy.scope():
        model, trained, head = _model(lesson, backbone, settings, synchronized=True)
        optimiser = _optimiser(lesson, settings, batch, clip=None)
        optimiser.build(model.trainable_variables)
    order = Order(lesson, feed, batch, settings, grid=tuple(trained.output_shape[1:3]), workers=workers)
    run = Together(workers, model, optimiser, _losses(lesson, settings), _loss_weights(settings))
    folder.mkdir(parents=True, exist_ok=True)
    history = run.resumed(folder)
    for epoch in range(len(history), settings.epochs):
        if _patience_over(history, settings):
            break
        order.epoch = epoch
        show(completed=epoch)
        _set_chance(model, settings.seed, epoch << 16, workers)
        row = run.taught(order.parts(None))
        if lesson.validation is not None:
            row |= run.judged(order.parts(lesson.validation))
        history.append(row)
        # before the epoch counts as whole: a kill between the two writes the same file again
        if settings.patience and _best(history) == epoch and workers.chief:
            model.save_weights(folder / f"part-{BEST}")
            (folder / f"part-{BEST}").replace(folder / BEST)
        run.keep(folder, history)
        show(completed=epoch + 1, description=f"{folder.name}: loss {row['loss']:.3f}")
    if settings.patience:
        model.load_weights(folder / BEST)
    return _fitted(trained, head, history)


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
    order: Order,
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


def _set_chance(model: Any, seed: int, place: int, workers: Workers = ALONE) -> None:
    """What is dropped next; by several devices each drops by a chance of its own."""
    layer = model.get_layer(DROPOUT)
    if layer.rate:
        state = layer.seed_generator.state
        own = workers.strategy.experimental_local_results(state.value) if workers.strategy else [state]
        for device, each in enumerate(own):
            each.assign([seed + workers.index * workers.devices + device, place])


def _best(history: list[dict[str, float]]) -> int:
    return int(np.argmin([row["val_loss"] for row in history]))


def _patience_over(history: list[dict[str, float]], settings: Settings) -> bool:
    return bool(settings.patience and history) and len(history) - 1 - _best(history) >= settings.patience
