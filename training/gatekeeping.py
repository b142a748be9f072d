"""What a gate knows and where that ends, and what it therefore refuses: known films that it should take, images of
the kinds that it was trained to refuse, and images of which it was never shown the like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import preprocess
from models.pixels import read
from models.preprocess import resize
from models.scores import Reference
from training import reference
from training.accepted import CHEST_GATE
from training.cache import unit
from training.calibrate import Calibration
from training.learning.answers import Whole
from training.learning.augment import rough_film
from training.learning.learner import Learner
from training.manifest import Item
from training.recipe import Known
from training.reference import Due, Refusal
from training.run import Run

SIDE = 384
TRAINED: Due = "refused, of a trained kind"
STRANGE: Due = "refused, never shown the like"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gatekeeper:
    """A network with its calibration and what it knows; `first`: the label that a chest bundle asks for."""

    whole: Whole
    calibration: Calibration
    reference: Reference
    run: Run

    def refusal(self, group: str, films: Sequence[Floats] | Iterator[Floats], total: int, due: Due) -> Refusal:
        """How many of some films are turned away by distance alone, and by distance or the first label's score."""
        seen = self.whole.see(films, total=total, what=group, console=self.run.console)
        table = self.calibration.scores(seen.logits)
        unlike = self.reference.distance(seen.features, table.argmax(axis=1)) > 1
        refused = unlike | (table[:, 0] < CHEST_GATE.at_least)
        return Refusal(group, len(table), float(unlike.mean()), float(refused.mean()), due)


def learned(run: Run, whole: Whole, known: Known, rows: NDArray[np.intp]) -> Reference:
    """What a network knows of some rows: each class's films, the same at 64 px, and the recipe's further ones.

    The limit of a class comes from films that were left out, fold by fold.
    """
    targets, pixels = run.manifest.targets, run.films.pixels
    classes = []
    for k, label in enumerate(run.manifest.labels):
        some = rows[targets[rows, k] == 1]
        films = [
            whole.see((kind(pixels[i]) for i in some), total=len(some), what=f"known: {label}", console=run.console)
            for kind in (unit, rough_film)
        ]
        items = known.more.get(label, [])
        more = []
        if items:
            seen = whole.see(decoded(items, run), total=len(items), what=f"more of {label}", console=run.console)
            more.append(seen.features)
        held = [np.isin(some, fold.held) for fold in run.folds]
        classes.append(reference.Shown([f.features for f in films], [h for h in held if h.any()], more))
    return reference.learn(classes)


def counted(run: Run, learner: Learner, calibration: Calibration, data: Known) -> list[Refusal]:
    """One row for each group, by a network that has seen nothing of the first fold's films (its calibration is that of
    the run): films of the first label as they are, spoiled, at 64 px; the other labels; the recipe's groups; no
    images."""
    fold = run.folds[0]
    whole = learner.whole(learner.network(learner.fit(fold.train, "gate without the first fold")))
    gate = Gatekeeper(whole, calibration, learned(run, whole, data, fold.train), run)
    targets, pixels, labels = run.manifest.targets, run.films.pixels, run.manifest.labels
    own = [[int(i) for i in fold.held if targets[i, k]] for k in range(len(labels))]
    films = [unit(pixels[i]) for i in own[0]]
    groups: dict[str, list[Floats]] = {
        f"{labels[0]}": films,
        f"{labels[0]}, at 64 px": [rough_film(pixels[i]) for i in own[0]],
        f"{labels[0]}, inverted": [1 - p for p in films],
        f"{labels[0]}, turned by 90 degrees": [np.ascontiguousarray(np.rot90(p)) for p in films],
        f"{labels[0]}, upside down": [np.ascontiguousarray(p[::-1]) for p in films],
    } | {labels[k]: [unit(pixels[i]) for i in own[k]] for k in range(1, len(labels))}
    own_films = (labels[0], f"{labels[0]}, at 64 px")
    found = [
        gate.refusal(name, p, len(p), "accepted" if name in own_films else TRAINED)
        for name, p in groups.items()
        if len(p)
    ]
    kinds: tuple[tuple[Due, Mapping[str, Sequence[Item]]], ...] = (
        ("accepted", data.familiar),
        (TRAINED, data.foreign),
        (STRANGE, data.strange),
    )
    found += [
        gate.refusal(name, decoded(items, run), len(items), due)
        for due, listed in kinds
        for name, items in listed.items()
    ]
    empty = [preprocessed(p, run) for p in no_images()]
    return [*found, gate.refusal("noise, gradients, constants", empty, len(empty), STRANGE)]


def decoded(items: Iterable[Item], run: Run) -> Iterator[Floats]:
    """Each item's film as the network gets it."""
    return (preprocessed(read(item.path).pixels, run) for item in items)


def preprocessed(pixels: Floats, run: Run) -> Floats:
    return preprocess.run(run.recipe.steps, pixels)[..., 0]


def no_images() -> Iterator[Floats]:
    """Constants, ramps, white noise and smooth noise of several grains, always the same."""
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 1, SIDE, dtype=np.float32), (SIDE, 1))
    yield from (np.full((SIDE, SIDE), v, np.float32) for v in (0.0, 0.5, 1.0))
    yield from (ramp, np.ascontiguousarray(ramp.T), ramp * ramp.T)
    for grain in (3, 5, 8, 16, 32, 64, 128, 256, SIDE):
        for _ in range(6):
            noise = rng.random((grain, grain), dtype=np.float32)
            yield np.clip(resize(noise, height=SIDE, width=SIDE), 0, 1)
