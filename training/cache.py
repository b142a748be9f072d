"""Films decoded once, at the size that a network takes: a file on disk, never a list in memory.

A run that was killed goes on where it stopped; the memory does not grow with the number of films.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from models import preprocess
from models.pixels import read
from models.preprocess import Step
from models.refusal import NotAnalysable
from training.errors import ManifestError
from training.manifest import Item
from training.workers import ALONE, Workers

PIXELS, TABLE = "films.npy", "films.csv"
CHUNK = 64

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Films:
    """Decoded films: `pixels` (n, height, width) on disk, /255 is what a network gets; `shapes` (n, 2) rows and
    columns as published; `digests`: SHA-256 of each file."""

    pixels: Bytes
    shapes: NDArray[np.int32]
    digests: tuple[str, ...]


def steps(size: int) -> tuple[Step, ...]:
    """What training and the node do to each film: size x size, percentiles 0.5 and 99.5 to 0 and 1, 256 levels.

    Resize first: the percentiles of averaged pixels are as good as those of four million, and faster. The 256 levels
    make the cached bytes and what the node computes the same numbers.
    """
    return (
        Step("resize", {"height": size, "width": size}),
        Step("stretch", {"low": 0.5, "high": 99.5}),
        Step("quantise", {"levels": 256}),
    )


def films(items: Sequence[Item], size: int, folder: Path, console: Console, workers: Workers = ALONE) -> Films:
    """Decode every item through `models.pixels` and `steps(size)` into a folder below `folder`, or take what is there.

    Several workers decode a shard each into the same folder; the chief puts them together.

    Raises:
        ManifestError: files that cannot be decoded, all of them named at the end, when the others are done.
    """
    folder = folder / f"films-{key(items, size)}"
    folder.mkdir(parents=True, exist_ok=True)
    if workers.several:
        _shards(items, size, folder, console, workers)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the same films decodes them; then they are there
        return _films(items, size, folder, console)


def _films(items: Sequence[Item], size: int, folder: Path, console: Console) -> Films:
    path, table = folder / PIXELS, folder / TABLE
    if not path.exists():
        table.unlink(missing_ok=True)
        np.lib.format.open_memmap(path, "w+", np.uint8, (len(items), size, size)).flush()
    pixels = np.lib.format.open_memmap(path, "r+")
    done = _rows(table)
    rows = range(len(done), len(items))
    if rows:
        shown = track(_decoded(items, rows, size), "decoding", len(rows), console=console)
        with table.open("a", encoding="ascii") as file:
            for number, (film, line) in zip(rows, shown, strict=True):
                if film is not None:
                    pixels[number] = film
                if (number + 1) % CHUNK == 0 or number + 1 == len(items):
                    pixels.flush()
                done.append(line)
                file.write(",".join(line) + "\n")
                if (number + 1) % CHUNK == 0:
                    file.flush()
    wrong = [i for i, line in enumerate(done) if not line[2]]
    if wrong:
        # what lies before the first of them need not be decoded again when it is mended
        table.write_text("".join(",".join(line) + "\n" for line in done[: wrong[0]]), encoding="ascii")
        named = "".join(f"\n  {items[i].path}" for i in wrong)
        raise ManifestError(f"{len(wrong)} files cannot be decoded:{named}")
    shapes = np.array([[int(line[0]), int(line[1])] for line in done], np.int32).reshape(-1, 2)
    return Films(np.load(path, mmap_mode="r"), shapes, tuple(line[2] for line in done))


def shard(count: int, index: int, of: int) -> range:
    """The rows that worker `index` of `of` decodes: each row is one worker's, and numbers differ by 1 at most."""
    return range(count * index // of, count * (index + 1) // of)


def _shards(items: Sequence[Item], size: int, folder: Path, console: Console, workers: Workers) -> None:
    """Decode one worker's shard, wait for the others', and let the chief make the whole of them."""
    of = len(workers.addresses)
    own = shard(len(items), workers.index, of)
    place = folder / f"shard-{workers.index}-of-{of}"
    # all must see the same before the first of them changes it
    whole = len(_rows(folder / TABLE, mend=False)) == len(items)
    workers.wait()
    if not whole and not place.exists():
        part = place.with_suffix(".part")
        part.mkdir(exist_ok=True)
        _films(items[own.start : own.stop], size, part, console)
        part.rename(place)
    workers.wait()
    if not whole and workers.chief:
        _put_together([folder / f"shard-{i}-of-{of}" for i in range(of)], folder, (len(items), size, size))
    workers.wait()


def _put_together(shards: Sequence[Path], folder: Path, shape: tuple[int, int, int]) -> None:
    """The whole's pixels and then its table: a kill leaves the shards, or a whole that is complete."""
    part, start = folder / "films.part.npy", 0
    pixels = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    for place in shards:
        some = np.load(place / PIXELS, mmap_mode="r")
        pixels[start : start + len(some)] = some
        start += len(some)
    pixels.flush()
    (folder / TABLE).unlink(missing_ok=True)
    part.replace(folder / PIXELS)
    lines = folder / "films.part.csv"
    lines.write_text("".join((place / TABLE).read_text(encoding="ascii") for place in shards), encoding="ascii")
    lines.replace(folder / TABLE)
    for place in shards:
        shutil.rmtree(place)


def unit(film: Bytes) -> NDArray[np.float32]:
    """Bytes to [0, 1], as the node computes it."""
    return film.astype(np.float32) / np.float32(255)


def _decoded(items: Sequence[Item], rows: Sequence[int], size: int) -> Iterator[tuple[Bytes | None, list[str]]]:
    """Each row's film and its line of the table, in order, decoded by a few threads at a time."""
    work = iter(rows)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while some := list(islice(work, CHUNK)):
            yield from threads.map(lambda i: _film(items[i].path, size), some)


def _film(path: Path, size: int) -> tuple[Bytes | None, list[str]]:
    try:
        grey = read(path).pixels
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (NotAnalysable, OSError):
        return None, ["0", "0", ""]
    values = preprocess.run(steps(size), grey)[..., 0]
    return np.rint(values * 255).astype(np.uint8), [str(grey.shape[0]), str(grey.shape[1]), digest]


def key(items: Sequence[Item], size: int) -> str:
    """Names what is decoded: files with their sizes and times, and the steps."""
    total = hashlib.sha256(repr(steps(size)).encode())
    for item in items:
        stat = item.path.stat() if item.path.exists() else None
        total.update(repr((str(item.path.absolute()), stat and (stat.st_size, stat.st_mtime_ns))).encode())
    return total.hexdigest()[:16]


def _rows(table: Path, *, mend: bool = True) -> list[list[str]]:
    if not table.exists():
        return []
    text = table.read_text(encoding="ascii")
    whole = text[: text.rfind("\n") + 1]
    if mend and len(whole) < len(text):
        table.write_text(whole, encoding="ascii")  # or the next line would be written behind half a line
    return [line.split(",") for line in whole.splitlines()]
