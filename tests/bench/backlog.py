"""`python -m tests.bench.backlog [--jobs 1000,10000,100000]`: do the steps of the queue stay quick when it is long?

Databases with so many jobs, and ten rows of instances for each: a quarter of the jobs is done and delivered, a quarter
done and not yet delivered, half of them wait. The same few studies arrive in each. Every step is timed in each database
by turns, in processor time; the last column says how much more it takes in the largest than in the smallest. Nothing is
synced, so that the disk hides no growth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Float, func, insert, literal, select

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.measured import rounds, timed  # noqa: E402
from rows import NOW, ORIGIN, built, received  # noqa: E402
from running import RunningNode  # noqa: E402

from node.admin.overview import overview  # noqa: E402
from node.domain import JobState, Matched  # noqa: E402
from node.pipeline.settle import settle_due  # noqa: E402
from node.storage import deliveries, figures, instances, jobs, queue, routing, schema, studies  # noqa: E402
from node.storage.spool import Spool  # noqa: E402
from node.storage.store import Store  # noqa: E402

IMAGES, ARRIVING = 10, 20
LATER = NOW + 10_000_000
FRESH = ("study_instance_uid", "sop_instance_uid", "log_id", "path")
Step = Callable[[], object]


def one(store: Store, uid: str, *, done: bool = False, sent: bool = False) -> None:
    """A study with a job, by the node's own steps."""
    for number in range(1, IMAGES + 1):
        study = instances.remember(store, received(store, uid, number), ORIGIN, own_device_uid="", now=NOW).study
    settled = studies.settle(store, study, "benchmark", image_digest=uid, now=NOW)
    assert settled is not None
    members = tuple(i.id for i in instances.of_study(store, study.id))
    wanted = routing.Wanted(Matched("chest", members, "all match"), "chest-findings@1.0.0", {"pacs": []})
    routing.route(store, settled, [wanted], now=NOW)
    if done:
        work = queue.claim(store, "infer@here", 1, now=NOW, lease=600)[0]
        results = [built(store, f"{uid}.7{n}", kind) for n, kind in enumerate(("sr", "sc"))]
        assert jobs.finish(store, work.job, JobState.DONE, [], results, reason="", now=NOW)
    for delivery in deliveries.claim(store, "pacs", 10, now=NOW, lease=600) if sent else ():
        deliveries.sent(store, delivery, status=0, note="", now=NOW)


def filled(folder: Path, wanted: int) -> Store:
    """Four studies, copied with all their rows until there are so many jobs; then some that arrive."""
    store = Store(folder / "overread.db", folder / "spool", durable=False)
    store.open()
    store.spool.open()
    studies.begin_association(store, ORIGIN)
    one(store, "1.2.1", done=True, sent=True)
    one(store, "1.2.2", done=True)
    one(store, "1.2.3")
    one(store, "1.2.4")
    with store.write() as connection:
        numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
        numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < wanted // 4 - 1))
        tables = [t for t in schema.metadata.sorted_tables if t.name not in ("meta", "association")]
        rows = {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables}
        for table in tables:
            copies = [_copied(column, numbers.c.n, rows) for column in table.columns]
            connection.execute(
                insert(table).from_select(list(table.columns), select(*copies).join(numbers, literal(True)))
            )
    for number in range(ARRIVING):
        for image in range(1, IMAGES + 1):
            new = replace(received(store, f"1.3.{number}", image), received_at=LATER)
            instances.remember(store, new, ORIGIN, own_device_uid="", now=LATER)
    return store


def _copied(column: Any, n: Any, rows: dict[str, int]) -> Any:
    """The value of a copy's column: keys move on by as many rows as there are, names get a number, times pass."""
    for key in column.foreign_keys:
        return column + n * rows[key.column.table.name]
    if column.name == "id":
        return column + n * rows[column.table.name]
    if column.name in FRESH:
        return column + "." + func.printf("%d", n)
    return column + n if isinstance(column.type, Float) else column


def steps(folder: Path, store: Store) -> dict[str, Step]:
    """What the roles and `overread status` do all the time."""
    settings, spool = RunningNode(folder / "node", ("PACS", 104)).settings, Spool(folder / "spool", durable=False)
    spool.open()
    number = count(1)

    def remember() -> None:
        new = received(store, f"1.4.{next(number)}")
        instances.remember(store, new, ORIGIN, own_device_uid="", now=LATER)

    return {
        "remember an instance": remember,
        "settle_due": lambda: settle_due(store, settings, LATER),
        "queue.claim": lambda: queue.claim(store, "infer@here", 4, now=LATER, lease=600),
        "queue.next_due": lambda: queue.next_due(store),
        "deliveries.claim": lambda: deliveries.claim(store, "pacs", 32, now=LATER, lease=600),
        "studies.counts": lambda: studies.counts(store),
        "figures": lambda: figures.figures(store),
        "overview": lambda: overview(settings, store, spool, now=LATER),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    sizes = [int(size) for size in given.jobs.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        ways: dict[str, Callable[[], float]] = {}
        for size in sizes:
            folder = Path(temporary) / str(size)
            folder.mkdir()
            store = filled(folder, size)
            for name, step in steps(folder, store).items():
                ways[f"{name}/{size}"] = partial(timed, step, clock=time.process_time)
        found = rounds(given.rounds, ways)
    print("\nThe queue under a backlog, ms of processor, medians")
    print(f"  {'jobs (and ten instances each)':<30}" + "".join(f"{size:>12,}" for size in sizes) + "   last by first")
    for name in dict.fromkeys(way.split("/")[0] for way in ways):
        medians = [1000 * statistics.median(found[f"{name}/{size}"]) for size in sizes]
        print(f"  {name:<30}" + "".join(f"{m:>12.2f}" for m in medians) + f"{medians[-1] / medians[0]:>16.2f}")


if __name__ == "__main__":
    main()
