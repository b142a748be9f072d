"""`python -m tests.bench.throughput [--rounds 3]`: images a second that a node reads, by its database and its engine.

Real hosts and a network that sleeps, so that the curve is that of the work's distribution: with one that computes, more
workers on the same processors are not faster. All studies wait before the first worker may take one; counted is from
then until the last of them is DONE. SQLite with one infer role; PostgreSQL with one, two and four hosts that infer; a
Ray cluster with one replica and with two, asked by one host.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measured import rounds, table
from fleet import Fleet, Host, fleet
from modality_made import Modality
from ray_made import Cluster
from running import STUBBED
from sqlalchemy import func, select, update

from node.storage import schema

STUDIES, SLEEP = 16, 1.0
SEED = 11
STUB = {"OVERREAD_TEST_STUB_SECONDS": str(SLEEP)}
RAY = """
[ray]
address = "{address}"
token_file = "{token}"
cpus = 0.5
replicas_min = {replicas}
replicas_max = {replicas}
"""


def on_sqlite(host: Host) -> None:
    """The host's data folder holds all; nothing is shared."""
    text = host.file.read_text()
    begin, end = text.index("[database]"), text.index("[listener]")
    host.file.write_text(text[:begin] + text[end:])


def on_ray(host: Host, cluster: Cluster, replicas: int) -> None:
    host.under = []  # whoever asks a cluster must be one of its hosts
    text = host.file.read_text().replace('device = ["cpu"]', 'engine = "ray"')
    text = text.replace("lease_seconds = 60", "lease_seconds = 200").replace(
        "deadline_seconds = 50", "deadline_seconds = 180"
    )
    host.file.write_text(text + RAY.format(address=cluster.address, token=cluster.token_file, replicas=replicas))


def beside(made: Fleet, front: Host) -> Host:
    """An infer role of the same host, as SQLite knows no others."""
    host = Host(front.folder, "infer", ("infer",), front.address, front.under)
    host.variables = STUB
    made.hosts.append(host)
    return host


def filled(made: Fleet, front: Host, folder: Path) -> int:
    """Send all studies and wait until each has a job; nobody may take one yet. The number of images."""
    made.start(front)
    folder.mkdir()
    sender = Modality([(front.address, front.port)], folder, 0.0, SEED, most=STUDIES)
    sender.run()
    J = schema.job

    def all_wait() -> bool:
        with made.parts.store.read() as connection:
            return connection.execute(select(func.count()).where(J.c.state == "QUEUED")).scalar_one() == STUDIES

    made.wait(all_wait, seconds=60)
    with made.parts.store.write() as connection:
        connection.execute(update(J).values(due_at=J.c.due_at + 1e6))
    return sum(sender.studies.values())


def rate(count: int, *, sqlite: bool = False, cluster: Cluster | None = None, replicas: int = 0) -> float:
    """Images a second by so many hosts that infer."""
    with tempfile.TemporaryDirectory(prefix="overread-throughput-") as temporary:
        folder = Path(temporary)
        with fleet(folder / "fleet") as made:
            front = made.host("front", "receive", "dispatch")
            if sqlite:
                on_sqlite(front)
            images = filled(made, front, folder / "sent")
            if sqlite:
                workers = [beside(made, front)]
            else:
                workers = [made.host(f"infer{n}", "infer", **STUB) for n in range(count)]
            if cluster:
                for host in workers:
                    on_ray(host, cluster, replicas)
            made.start(*workers, seconds=180)
            J, store = schema.job, made.parts.store
            began = store.now()
            with store.write() as connection:
                connection.execute(update(J).values(due_at=began))
            made.parts.bell.ring("infer")

            def last() -> tuple[int, float]:
                query = select(func.count(), func.max(J.c.finished_at)).where(J.c.state == "DONE")
                with store.read() as connection:
                    done, when = connection.execute(query).one()
                return done, when

            made.wait(lambda: last()[0] == STUDIES, seconds=180)
            took = last()[1] - began
    return images / took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true", help="leave the engine of a cluster out")
    given = parser.parse_args()
    ways: dict[str, Callable[[], float]] = {"SQLite, 1 infer": partial(rate, 1, sqlite=True)}
    ways |= {f"PostgreSQL, {n} infer": partial(rate, n) for n in (1, 2, 4)}
    cluster = None if given.without_ray else Cluster(cpus=4, path=STUBBED, **STUB)
    try:
        if cluster:
            cluster.start()
            ways |= {f"Ray, {n} replica(s), PostgreSQL": partial(rate, 1, cluster=cluster, replicas=n) for n in (1, 2)}
        began = time.monotonic()
        found = rounds(given.rounds, ways)
        table(
            f"{STUDIES} studies of one to three images, {SLEEP:g} s an image: a second at most {1 / SLEEP:g} by one",
            "images a second",
            {name: [1 / value for value in values] for name, values in found.items()},
        )
        for name, values in found.items():
            print(f"  {name:<34} {', '.join(f'{value:.2f}' for value in values)} images a second")
        print(f"\n{given.rounds} rounds, {time.monotonic() - began:.0f} s")
    finally:
        if cluster:
            cluster.end()


if __name__ == "__main__":
    main()
