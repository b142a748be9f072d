"""`python -m tests.bench.engines`: what each engine adds to one image and to eight, and what a second replica brings.

Starts a Ray cluster of this host. Both engines take turns, so that what else the machine does hits both alike. The
curve of replicas is of a network that only sleeps, as two replicas that compute share this host's processors. Prints
medians with minimum and maximum, and the median of the ratios of each turn; nothing is asserted.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measured import spread
from ray_made import Cluster
from running import STUBBED

from models.bundle import Bundle
from models.predictor import Predictor
from models.registry import Registry

TURNS, WARM = 20, 3
SLEEP_SECONDS = 0.05


def in_turns(ways: dict[str, Callable[[], Any]], turns: int = TURNS) -> dict[str, list[float]]:
    """Milliseconds of each way, turn by turn."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(WARM + turns):
        for way, call in ways.items():
            start = time.perf_counter()
            call()
            if turn >= WARM:
                times[way].append(1000 * (time.perf_counter() - start))
    return times


def show(times: dict[str, list[float]], reference: str) -> None:
    for way, taken in times.items():
        ratios = sorted(a / b for a, b in zip(taken, times[reference], strict=True))
        told = f"{ratios[0]:.2f}-{statistics.median(ratios):.2f}-{ratios[-1]:.2f}"
        print(f"  {way:<12} {spread(taken)}   {told} x {reference}", flush=True)


def latency(cluster: Cluster, bundle: Bundle) -> None:
    local = Predictor(bundle, device="cpu", threads=1)
    pool = cluster.pool(cpus=1.0)
    there = pool.predictor(bundle)
    there.verify()
    rng = np.random.default_rng(1)
    for count in (1, 8):
        images = [rng.random((512, 512), np.float32) for _ in range(count)]
        ways: dict[str, Callable[[], Any]] = {
            "local": lambda images=images: local.predict(images),
            "ray": lambda images=images: there.predict(images),
        }
        print(f"{bundle.ref}, {count} image(s), 1 replica, ms: median, min, max; ratio min-median-max")
        show(in_turns(ways), "local")
    pool.end(there.name)
    pool.close()


def replicas(cluster: Cluster, bundle: Bundle, what: str, images: int, turns: int) -> None:
    """The same images by one replica and by two, which take turns."""
    pools = {n: cluster.pool(cpus=0.5, replicas_min=n, replicas_max=n, batch=1) for n in (1, 2)}
    for pool in pools.values():
        pool.start(bundle)
    given = [np.random.default_rng(2).random((256, 256), np.float32) for _ in range(images)]
    ways: dict[str, Callable[[], Any]] = {
        f"{n} replica(s)": lambda pool=pool: pool.predictor(bundle).predict(given) for n, pool in pools.items()
    }
    times = in_turns(ways, turns)
    rates = {way: statistics.median(images / (ms / 1000) for ms in taken) for way, taken in times.items()}
    print(f"{what}, {images} images at once, ms; {json.dumps({w: round(r, 1) for w, r in rates.items()})} images/s")
    show(times, "1 replica(s)")
    for pool in pools.values():
        pool.end(pool.predictor(bundle).name)
        pool.close()


def main() -> None:
    bundle = Registry().find("chest-abnormal")
    cluster = Cluster(cpus=4)
    try:
        cluster.start()
        latency(cluster, bundle)
        replicas(cluster, bundle, bundle.ref, 32, 10)
    finally:
        cluster.end()
    cluster = Cluster(cpus=4, path=STUBBED, OVERREAD_TEST_STUB_SECONDS=str(SLEEP_SECONDS))
    try:
        cluster.start()
        replicas(cluster, bundle, f"sleeping {1000 * SLEEP_SECONDS:g} ms an image", 32, 10)
    finally:
        cluster.end()


if __name__ == "__main__":
    main()
