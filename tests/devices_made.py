"""What one process with two devices does, held against one device, in the same process: devices_made.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from drawn import network
from rich.console import Console
from workers_made import divided, recipe

from training import cache
from training.learning import backbones, tune
from training.learning.learner import Learner
from training.workers import Workers, joined

QUIET = Console(quiet=True)


def each_device_drops_by_a_chance_of_its_own(workers: Workers) -> None:
    import keras
    import tensorflow as tf

    strategy = workers.strategy
    with strategy.scope():
        dropped = keras.layers.SpatialDropout2D(0.5, name=tune.DROPOUT)
        model = keras.Sequential([keras.Input((1, 1, 64)), dropped])
    step = tf.function(lambda: strategy.run(lambda: model(tf.ones((1, 1, 1, 64)), training=True)))

    def shown() -> list[list[float]]:
        return [np.asarray(x).ravel().tolist() for x in strategy.experimental_local_results(step())]

    tune._set_chance(model, 7, 0, workers)
    first, second = shown(), shown()
    tune._set_chance(model, 7, 0, workers)
    assert first[0] != first[1] and first[0] != second[0] and first[1] != second[1], (first, second)
    assert shown() == first


def folds_are_learned_from_stored_copies_and_boxes_as_by_one(folder: Path, workers: Workers) -> None:
    changes: dict[str, Any] = {"copies": 1, "train_from": "middle", "boxes": 0.1, "patience": 0, "epochs": 2}
    found = recipe(folder, changes)
    manifest = found.read(folder, folder)
    films = cache.films(manifest.items, found.settings.size, folder, QUIET)
    rows = np.arange(len(manifest.items))

    def taught(who: Workers) -> list[tune.Fitted]:
        place = folder / f"by-{who.parts}"
        place.mkdir()
        learner = Learner(found, manifest, films, start="none", folder=place, console=QUIET, workers=who)
        return [learner.fit(rows[rows % 3 != fold], f"fold {fold + 1} of 3") for fold in range(2)]

    for one, other in zip(taught(Workers()), taught(workers), strict=True):
        assert {"loss", "logits_loss", "maps_loss"} == other.history[0].keys()
        for row, same in zip(one.history, other.history, strict=True):
            np.testing.assert_allclose([same[name] for name in row], list(row.values()), rtol=2e-3)
        for a, b in zip([*one.weights, one.kernel], [*other.weights, other.kernel], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3)


if __name__ == "__main__":
    backbones.BACKBONES = {"mobilenet_v2": network, "inception_v3": network}
    divided(2)
    both = joined(QUIET)
    assert (both.parts, both.devices, both.several, both.chief) == (2, 2, False, True)
    each_device_drops_by_a_chance_of_its_own(both)
    folds_are_learned_from_stored_copies_and_boxes_as_by_one(Path(sys.argv[1]), both)
