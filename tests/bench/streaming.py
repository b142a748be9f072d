"""Does training stream? Peak memory of a run's costly steps while the manifest grows to NIH's 112,120 films.

Each length is a process of its own: films decoded into the cache, then one epoch of a small network, copies drawn
live. Rows point at a few drawn films, so that the disk holds no download; the rows themselves are as many as NIH's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

LENGTHS = (1_120, 11_212, 112_120)
SIDE = 32
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.measured import megabytes  # noqa: E402


def one(count: int, folder: Path) -> None:
    """Prints megabytes at the start, after decoding and after the epoch, and seconds for both steps."""
    import drawn
    import numpy as np
    from rich.console import Console

    from training import cache
    from training.learning import backbones
    from training.learning.learner import Learner
    from training.manifest import findings
    from training.recipe import named

    backbones.BACKBONES = {"mobilenet_v2": drawn.network}
    films = drawn.films(folder, patients=32)
    rows = [replace(films[i % len(films)], patient=f"{i // 4:05}") for i in range(count)]
    manifest = findings(("Spot",), rows)
    quiet, watch = Console(quiet=True), Watch()
    settings = {"size": SIDE, "train_from": "input", "copies": 0, "epochs": 1, "batch": 64, "boxes": 0}
    recipe = named("chest_findings", {k: str(v) for k, v in settings.items()})
    _learner(recipe, manifest, cache.films(rows[:128], SIDE, folder, quiet), folder / "warm", quiet).fit(
        np.arange(128), "warm"
    )
    sizes, times = [watch.peak], [time.perf_counter()]
    decoded = cache.films(rows, SIDE, folder, quiet)
    sizes.append(watch.peak)
    times.append(time.perf_counter())
    learner: Learner = _learner(recipe, manifest, decoded, folder / "run", quiet)
    learner.fit(np.arange(count), "epoch")
    sizes.append(watch.peak)
    times.append(time.perf_counter())
    print(*(f"{s:.0f}" for s in sizes), *(f"{b - a:.0f}" for a, b in pairwise(times)))


def _learner(recipe, manifest, films, folder, console):  # type: ignore[no-untyped-def]
    from training.learning.learner import Learner

    folder.mkdir()
    return Learner(recipe, manifest, films, start=None, folder=folder, console=console)


class Watch(threading.Thread):
    """The largest anonymous memory so far, in MB, looked at ten times a second; pages of the films' file that the
    kernel may drop at any time are not counted."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.start()

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, megabytes("self", "RssAnon"))
            time.sleep(0.1)


def main() -> None:
    print("Training on a growing manifest, films of 32 px: peak memory in MB, time in s")
    print(f"  {'films':>8} {'start':>8} {'decoded':>8} {'epoch':>8} {'decode s':>9} {'epoch s':>8}")
    for count in LENGTHS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "tests.bench.streaming", str(count), folder]
            said = subprocess.run(command, cwd=ROOT.parent, check=True, capture_output=True, text=True).stdout.split()
        print(f"  {count:>8} {said[0]:>8} {said[1]:>8} {said[2]:>8} {said[3]:>9} {said[4]:>8}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        one(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
