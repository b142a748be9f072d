"""`python -m tests.bench.database [--rounds 5]`: what rows cost in SQLite and in PostgreSQL, side by side.

Claims, each of one job, by 1, 4 and 16 processes at a time; instances by 1, 2 and 4 processes that receive, each with
four associations; jobs that end, by 1 and 4. Both databases durable, PostgreSQL on this machine with fsync: what a
network adds comes on top, once for each statement.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measured import rounds, table
from bench.queueing import BUNDLE, PEER, ROUTE, results, settled
from databases_made import Server, fresh
from rows import NOW, ORIGIN, received

from node.domain import FindingRow, JobState, Matched
from node.storage import instances, jobs, queue, routing, studies
from node.storage.store import Store

JOBS = 192
INSTANCES = 400
THREADS = 4
SPAWN = multiprocessing.get_context("spawn")
Where = Path | str


def opened(where: Where, spool: Path) -> Store:
    store = Store(where, spool)
    store.spool.open()
    store.open()
    return store


def filled(where: Where, spool: Path, count: int) -> None:
    """So many jobs that wait."""
    store = opened(where, spool)
    studies.begin_association(store, ORIGIN)
    for n in range(count):
        study = settled(store, f"1.2.{n}")
        members = tuple(i.id for i in instances.of_study(store, study.id))
        wanted = [routing.Wanted(Matched(ROUTE, members, "1 of 1"), BUNDLE, {PEER: []})]
        routing.route(store, study, wanted, now=NOW)
    store.close()


def side_by_side(work: Callable[..., None], count: int, *arguments: object) -> float:
    """Seconds from when all processes are ready until the last of them is done."""
    together = SPAWN.Barrier(count + 1)
    processes = [SPAWN.Process(target=work, args=(n, together, *arguments)) for n in range(count)]
    for process in processes:
        process.start()
    together.wait()
    began = time.perf_counter()
    together.wait()  # not until they have ended: that takes longer than their work
    took = time.perf_counter() - began
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return took


def claiming(n: int, together: threading.Barrier, where: Where, spool: Path, end: bool) -> None:
    store = opened(where, spool)
    made = [results(store, f"1.9.{n}.{k}") for k in range(JOBS)] if end else []
    together.wait()
    while works := queue.claim(store, f"infer-{n}@here", 1, now=NOW + 1, lease=600):
        if end:
            found = [FindingRow(works[0].instances[0].id, "ok", "", "Effusion", 0.5, "absent")]
            jobs.finish(store, works[0].job, JobState.DONE, found, made.pop(), reason="", now=NOW + 2)
    together.wait()
    store.close()


def receiving(n: int, together: threading.Barrier, where: Where, spool: Path, each: int) -> None:
    store = opened(where, spool)

    def associate(part: int) -> None:
        for k in range(each // THREADS):
            one = received(store, f"1.3.{n}.{part}", k + 1)
            instances.remember(store, one, ORIGIN, own_device_uid="", now=NOW)

    together.wait()
    threads = [threading.Thread(target=associate, args=[part]) for part in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together.wait()
    store.close()


class Bench:
    """Fresh databases of both kinds below one folder."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._folder, self._server, self._count = folder, server, 0

    def place(self, kind: str) -> tuple[Where, Path]:
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        return (folder / "overread.db" if kind == "SQLite" else self._server.new()), folder / "spool"

    def claims(self, kind: str, workers: int, *, end: bool) -> float:
        """Jobs a second."""
        where, spool = self.place(kind)
        filled(where, spool, JOBS)
        return JOBS / side_by_side(claiming, workers, where, spool, end)

    def rows(self, kind: str, receivers: int) -> float:
        """Instances a second."""
        where, spool = self.place(kind)
        store = opened(where, spool)
        studies.begin_association(store, ORIGIN)
        store.close()
        each = INSTANCES // receivers
        return each // THREADS * THREADS * receivers / side_by_side(receiving, receivers, where, spool, each)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    count = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="overread-bench-") as temporary:
        server = fresh({"fsync": "on", "synchronous_commit": "on"})
        server.start()
        try:
            bench = Bench(Path(temporary), server)
            kinds = ("SQLite", "PostgreSQL")
            ways = {f"{k}, {n} at a time": partial(bench.claims, k, n, end=False) for k in kinds for n in (1, 4, 16)}
            inverse("claims", rounds(count, ways))
            ways = {f"{k}, {n} at a time": partial(bench.claims, k, n, end=True) for k in kinds for n in (1, 4)}
            inverse("jobs claimed and ended", rounds(count, ways))
            ways = {f"{k}, {n} receivers": partial(bench.rows, k, n) for k in kinds for n in (1, 2, 4)}
            inverse("instances", rounds(count, ways))
        finally:
            server.end()


def inverse(title: str, found: dict[str, list[float]]) -> None:
    """A second's worth, and held against the first way: here more is better."""
    table(
        f"{title}: milliseconds each",
        "ms",
        {name: [1 / v for v in values] for name, values in found.items()},
        times=1e3,
    )
    print("  a second: " + "; ".join(f"{name} {sorted(v)[len(v) // 2]:.0f}" for name, v in found.items()))


if __name__ == "__main__":
    main()
