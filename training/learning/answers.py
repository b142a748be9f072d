"""What models say of films that they have not seen: fold by fold, by the whole network that a bundle would hold.

A fold that was finished before a kill is read from its file. Fits nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from models import explain
from models.predictor import HEAD, POOL
from training.cache import unit
from training.learning.feed import FORWARD, compiled, forward
from training.manifest import Manifest
from training.split import Fold

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Variant = Callable[[Bytes], Floats]

MAPPED = 2000
"""At most so many films of a fold get a map, those with a box first: enough to measure and to show."""
PLAIN, HIDDEN, ROUGH = "plain", "hidden", "64 px"


@dataclass(frozen=True)
class Seen:
    """What one network says of n films: `logits` (n, labels), pooled `features` (n, channels)."""

    logits: Floats
    features: Floats


@dataclass(frozen=True)
class Answers:
    """Held-out logits (n, labels) for each variant of the films, NaN where nobody was held out; `fold` (n): who said
    it, -1 for nobody. `maps`: activation maps (rows, columns, labels) of held-out films with a box or shown as an
    example. `histories`: per fold one row per epoch."""

    logits: Mapping[str, Floats]
    fold: NDArray[np.intp]
    validation: Floats
    maps: Mapping[int, Floats]
    histories: Sequence[Sequence[Mapping[str, float]]]


class Whole:
    """A network as the bundle holds it, compiled."""

    def __init__(self, network: Any, *, exclusive: bool) -> None:
        import keras

        pool, head = network.get_layer(POOL), network.get_layer(HEAD)
        self._call = compiled(keras.Model(network.inputs, [head.output, pool.output]))
        self._maps = compiled(keras.Model(network.inputs, pool.input))
        kernel = np.asarray(head.kernel, np.float32)
        self._weights = explain.contrast(kernel) if exclusive else kernel

    def see(self, films: Iterable[Floats], *, total: int, what: str, console: Console) -> Seen:
        """Logits and features of (size, size) films in [0, 1]."""
        shown = iter(track(films, what, total, console=console))
        parts = []
        while some := list(islice(shown, FORWARD)):
            parts.append(forward(self._call, some))
        logits, features = (np.concatenate(p) for p in zip(*parts, strict=True))
        return Seen(logits, features)

    def maps(self, films: Sequence[Floats]) -> list[Floats]:
        """(rows, columns, labels) in [0, 1] for each film."""
        found = []
        for start in range(0, len(films), FORWARD):
            for features in forward(self._maps, films[start : start + FORWARD])[0]:
                columns = [explain.activation_map(features, w) for w in self._weights.T]
                found.append(np.stack(columns, axis=-1))
        return found


def cross(
    manifest: Manifest,
    pixels: Bytes,
    folds: Sequence[Fold],
    *,
    variants: Mapping[str, Variant],
    train: Callable[[Fold, str], tuple[Whole, list[dict[str, float]]]],
    folder: Path,
    console: Console,
) -> Answers:
    """Train on each fold and ask the held-out films, plain and in every variant."""
    shape = manifest.targets.shape
    logits = {name: np.full(shape, np.nan, np.float32) for name in variants}
    validation = np.full(shape, np.nan, np.float32)
    fold_of = np.full(shape[0], -1, np.intp)
    maps: dict[int, Floats] = {}
    histories: list[list[dict[str, float]]] = []
    for number, fold in enumerate(folds):
        path = folder / f"fold-{number + 1}.npz"
        if not path.exists():
            whole, history = train(fold, f"fold {number + 1} of {len(folds)}")
            _keep(path, _asked(whole, manifest, pixels, fold, variants, console), history)
        with np.load(path) as kept:
            for name in variants:
                logits[name][fold.held] = kept[name]
            if fold.validation is not None:
                validation[fold.validation] = kept["validation"]
            maps |= dict(zip(kept["mapped"].tolist(), kept["maps"], strict=True))
            histories.append(json.loads(str(kept["history"])))
        fold_of[fold.held] = number
    return Answers(logits, fold_of, validation, maps, histories)


def _asked(
    whole: Whole, manifest: Manifest, pixels: Bytes, fold: Fold, variants: Mapping[str, Variant], console: Console
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, variant in variants.items():
        films = (variant(pixels[i]) for i in fold.held)
        found[name] = whole.see(films, total=len(fold.held), what=f"held out, {name}", console=console).logits
    if fold.validation is not None:
        films = (unit(pixels[i]) for i in fold.validation)
        found["validation"] = whole.see(films, total=len(fold.validation), what="validation", console=console).logits
    boxed_first = np.argsort([not manifest.items[i].boxes for i in fold.held], kind="stable")
    mapped = [int(i) for i in fold.held[boxed_first][:MAPPED]]
    return found | {"mapped": np.array(mapped, np.intp), "maps": whole.maps([unit(pixels[i]) for i in mapped])}


def _keep(path: Path, found: Mapping[str, Any], history: list[dict[str, float]]) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, **found, history=json.dumps(history))
    part.replace(path)
