"""Films as no model should read them: turned, upside down, inverted, cut to a piece, drowned in noise.

Each is a picture of its own beside the film that it was made from, of the same patient, so that no split parts them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.pixels import read
from models.preprocess import resize, stretch
from training.manifest import Item

OTHER = "other"
SIDE = 256

Floats = NDArray[np.float32]
Spoil = Callable[[Floats, np.random.Generator], Floats]


def turned(film: Floats, rng: np.random.Generator) -> Floats:
    """By 90, 180 or 270 degrees."""
    return np.rot90(film, int(rng.integers(1, 4)))


def upside_down(film: Floats, _rng: np.random.Generator) -> Floats:
    return film[::-1]


def inverted(film: Floats, _rng: np.random.Generator) -> Floats:
    """Bones black: what a wrong photometric interpretation makes of it."""
    return 1 - film


def piece(film: Floats, rng: np.random.Generator) -> Floats:
    """A quarter to a half of each side, anywhere: a joint, a spine, one lung."""
    side = np.asarray(film.shape) * rng.uniform(0.25, 0.5)
    top, left = rng.uniform(0, 1, 2) * (np.asarray(film.shape) - side)
    return film[int(top) : int(top + side[0]), int(left) : int(left + side[1])]


def lower_half(film: Floats, rng: np.random.Generator) -> Floats:
    """Of an abdomen the pelvis."""
    return film[int(film.shape[0] * rng.uniform(0.45, 0.6)) :]


def noisy(film: Floats, rng: np.random.Generator) -> Floats:
    """Mostly smooth noise of some grain."""
    grain = int(rng.choice([4, 8, 16, 32, 64, 256]))
    noise = resize(rng.random((grain, grain), dtype=np.float32), height=film.shape[0], width=film.shape[1])
    return np.clip(0.15 * film + 0.85 * noise, 0, 1)


ANY: Mapping[str, Spoil] = {
    "turned": turned,
    "upside-down": upside_down,
    "inverted": inverted,
    "piece": piece,
    "noisy": noisy,
}


def films(items: Sequence[Item], kinds: Mapping[str, Spoil], folder: Path, *, seed: int) -> list[Item]:
    """One spoiled picture of each item, its kind drawn from `kinds`, written into `folder` as PNG unless it is there.

    The items' labels become `OTHER`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(kinds)
    found = []
    for number, item in enumerate(items):
        rng = np.random.default_rng([seed, number])
        kind = names[int(rng.integers(len(names)))]
        # the number too: it decides how the film is spoiled, and two folders may hold files of one name
        path = folder / f"{kind}-{number:05}-{item.source.replace('/', '-')}-{item.path.stem}.png"
        if not path.exists() or path.stat().st_mtime < item.path.stat().st_mtime:
            small = stretch(resize(read(item.path).pixels, height=SIDE, width=SIDE), low=0.5, high=99.5)
            grey = np.clip(kinds[kind](small, rng), 0, 1)
            part = path.with_suffix(".part")
            Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(part, "PNG")
            part.replace(path)
        patient = item.patient or item.film  # where nobody is known, the film itself is the group
        bare = replace(item, path=path, labels=frozenset({OTHER}), weak=frozenset(), boxes=(), patient=patient)
        found.append(bare)
    return found
