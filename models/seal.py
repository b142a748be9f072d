"""How every new bundle comes about: built out of sight, with its golden images and the list of what all its files
must be, and put in place when it is complete.

Whoever makes a bundle writes the other files. Never touches another file of the folder.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import GOLDEN, SUMS, Bundle
from models.predictor import Predictor

GOLDEN_SIDE = 256


@contextmanager
def built(path: Path) -> Iterator[Path]:
    """A folder of the same name to build the bundle `path` in; it takes that place when all went well, of an older
    one too, and is gone otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # a folder of its own: its name must be the bundle's, and two may be made at once
    with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as folder:
        building = Path(folder) / path.name
        building.mkdir()
        yield building
        if path.exists():
            path.rename(Path(folder) / "before")
        building.rename(path)


def seal(path: Path) -> None:
    """Write SHA256SUMS over every other file of the folder."""
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name != SUMS)
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(path).as_posix()}\n" for f in files]
    (path / SUMS).write_text("".join(lines), encoding="utf-8")


def golden_images() -> NDArray[np.uint8]:
    """Four drawn pictures (n, rows, columns): nobody's radiograph, yet with edges, shades and a bright middle."""
    y, x = np.mgrid[0:GOLDEN_SIDE, 0:GOLDEN_SIDE] / GOLDEN_SIDE - 0.5
    body = np.exp(-((x / 0.35) ** 4) - (y / 0.45) ** 4)
    lungs = sum(np.exp(-(((x - side) / 0.11) ** 2) - ((y + 0.05) / 0.25) ** 2) for side in (-0.17, 0.17))
    heart = np.exp(-(((x - 0.04) / 0.10) ** 2) - ((y - 0.12) / 0.12) ** 2)
    ribs = 0.06 * np.sin(40 * y + 12 * x**2) * body
    chest = 0.75 * body - 0.6 * lungs + 0.4 * heart + ribs
    pictures = [chest, chest[::-1], np.exp(-((x / 0.08) ** 2)) * (1 - 0.3 * y), x + y]
    scaled = [(p - p.min()) / (p.max() - p.min()) for p in pictures]
    return np.stack([np.asarray(np.rint(s * 255), np.uint8) for s in scaled])


def write_golden(path: Path) -> NDArray[np.float32]:
    """Run the bundle in `path`, complete but for its golden images, as the node would; keep what it says, and seal.

    Gives the scores (images, labels), in the bundle's order of labels.

    Raises:
        BundleError: the folder is no bundle that can be run.
    """
    pixels = golden_images()
    np.savez_compressed(path / GOLDEN, pixels=pixels)
    seal(path)
    said = Predictor(Bundle.load(path), device="cpu").predict([p.astype(np.float32) / 255 for p in pixels])
    table = np.array([list(one.scores.values()) for one in said], np.float32)
    away = np.array([-1.0 if one.distance is None else one.distance for one in said], np.float32)
    np.savez_compressed(path / GOLDEN, pixels=pixels, scores=table, distances=away)
    seal(path)
    return table
