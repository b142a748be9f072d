"""`python -m tests.bench.bulk [--studies 100000]`: time and memory of each step of a large pull.

Rows are synthetic and nothing lies behind them: a pull that has brought and read all its studies in shadow but the last
thousand, which wait. Seconds are those of the clock; megabytes by how much the most memory of the process grew.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rows import NOW, ORIGIN  # noqa: E402
from running import RunningNode  # noqa: E402

from config.settings import Retention, Settings  # noqa: E402
from node.admin.export import COLUMNS, Wish, rows, write_csv  # noqa: E402
from node.admin.flow import flow  # noqa: E402
from node.domain import Gone, JobState, Priority, StudyState  # noqa: E402
from node.pipeline import asked  # noqa: E402
from node.pipeline.asked import Rules  # noqa: E402
from node.storage import bulk, invariants, pulls, queue, readings, schema, studies, turnaround, upkeep  # noqa: E402
from node.storage.pulls import Pull, PullStudyState  # noqa: E402
from node.storage.store import Store  # noqa: E402

WAIT = 1000
BLOCK = 5000
SECONDS = 0.5
"""Between two studies."""


def uid(n: int) -> str:
    return f"1.2.826.0.1.3680043.8.498.1000000000.{n}"


def listed(folder: Path, n: int) -> Path:
    path = folder / "cohort.csv"
    path.write_text("StudyInstanceUID\n" + "".join(f"{uid(i)}\n" for i in range(1, n + 1)))
    return path


def planned(store: Store, settings: Settings, path: Path) -> Pull:
    """The list is read, kept, and answered in as many questions as in life."""
    wanted = asked.wanted(listed=path)
    peer = settings.peer[0]
    one = asked.begin(store, peer, wanted, Rules(keep_hours=1), route="trial", mode="shadow", now=NOW)
    questions = asked.questions_of(asked.wanted_of(store, one))
    for n, question in enumerate(questions, start=1):
        left = n if n < len(questions) else None
        pulls.found(store, one.id, dict.fromkeys(question.study_instance_uids, 1), missing=(), asked=left, now=NOW)
    return pulls.find(store, one.id)


def filled(store: Store, one: Pull, n: int) -> None:
    """All rows of what was brought and read, as their steps leave them."""
    kept: dict[Table, list[dict[str, Any]]] = {}
    with store.write() as connection:

        def write() -> None:
            for table in (t for t in schema.metadata.sorted_tables if t in kept):
                connection.execute(insert(table), kept.pop(table))

        for i in range(1, n + 1):
            for table, values in of_study(one, i, waits=i > n - WAIT):
                kept.setdefault(table, []).append(values)
            if i % BLOCK == 0:
                write()
        write()
        connection.exec_driver_sql(
            "UPDATE pull_study SET state = 'DONE', taken = 1, size = 8000000, seconds = 0.4, ended_at = ? + id * ? "
            f"WHERE id <= {n - 10}",
            (NOW, SECONDS),
        )
        connection.exec_driver_sql("ANALYZE")


def of_study(one: Pull, i: int, *, waits: bool) -> list[tuple[Table, dict[str, Any]]]:
    at, name = NOW + i * SECONDS, uid(i)
    study = {"id": i, "study_instance_uid": name, "log_id": f"{i:016x}", "patient_id": f"P{i}", "patient_key": f"P{i}"}
    study |= {"accession_number": f"A{i}", "state": StudyState.ROUTED, "revision": 1, "peer": "pacs"}
    study |= {"first_received_at": at, "last_received_at": at, "settled_at": at}
    image = {"id": i, "study_id": i, "association": ORIGIN.id, "sop_instance_uid": f"{name}.1", "sop_class_uid": "1.2"}
    image |= {"series_instance_uid": f"{name}.9", "transfer_syntax_uid": "1.2", "modality": "DX", "digest": f"{i:064x}"}
    image |= {"size": 8_000_000, "path": f"obj/{i}.dcm", "identification": {"PatientID": f"P{i}", "StudyDate": ""}}
    image |= {"state": "CURRENT", "differs": [], "gone": Gone.KEPT, "received_at": at}
    job = {"id": i, "study_id": i, "revision": 1, "route": "trial", "bundle": "chest-findings@1.0.0", "due_at": at}
    job |= {"priority": Priority.BULK, "input_digest": f"{i}", "state": JobState.QUEUED if waits else JobState.DONE}
    job |= {"deliver_to": {}, "created_at": at, "finished_at": None if waits else at + 1, "seconds": None}
    found: list[tuple[Table, dict[str, Any]]] = [
        (schema.study, study),
        (schema.instance, image),
        (schema.pulled, {"study_id": i, "pull": one.id, "route": "trial", "mode": "shadow", "sent_at": None}),
        (schema.job, job if waits else job | {"seconds": 0.8}),
        (schema.job_instance, {"job_id": i, "instance_id": i}),
        (schema.route_reason, {"study_id": i, "revision": 1, "route": "trial", "matched": 1, "reason": "1 of 1"}),
    ]
    for label in range(0 if waits else 8):
        finding = {"job_id": i, "instance_id": i, "status": "analysed", "reason": "", "label": f"L{label}"}
        found.append((schema.finding, finding | {"score": 0.1, "presence": "ABSENT"}))
    for kind in () if waits else ("sr", "sc"):
        result = {"job_id": i, "kind": kind, "ordinal": 1, "sop_instance_uid": f"{name}.7.{kind}", "sop_class_uid": "1"}
        result |= {"series_instance_uid": name, "path": f"res/{i}.{kind}", "digest": "d", "size": 90000}
        found.append((schema.result, result | {"created_at": at + 1}))
    return found


def steps(store: Store, settings: Settings, spool: Any, one: Pull, n: int) -> dict[str, Callable[[], object]]:
    now = NOW + n * SECONDS + 7200

    def exported() -> int:
        found = readings.accounts(store, since=0, until=1e12, pull=one.id)
        return write_csv(rows(found, lambda job: {}, Wish()), io.StringIO(), columns=COLUMNS)

    def brought() -> None:
        study = pulls.claim(store, one.id, now=now)
        assert study
        pulls.done(store, study, taken=1, expected=1, spent=pulls.Spent(1, 1.0), now=now)
        assert pulls.became(store, study) is PullStudyState.DONE

    return {
        "pull --resume: free what was leased": lambda: pulls.resume(store, one.id, now=now),
        "per study: may it go on, what is due": lambda: (pulls.state(store, one.id), pulls.next_due(store, one.id)),
        "per study: claim and end": brought,
        "per second: how much waits to be read": lambda: (bulk.ahead(store), bulk.somebody_reads(store, now=now)),
        "per 10 s: counts, rates, end": lambda: bulk.standing(store, one, now=now),
        "cost": lambda: bulk.cost(store, one),
        "pull list": lambda: [pulls.counts(store, p.id) for p in pulls.latest(store, 100)],
        "pull export": lambda: write_csv(bulk.rows(store, one), io.StringIO(), columns=bulk.COLUMNS),
        "results export --pull": exported,
        "dashboard: flow (status)": lambda: flow(settings, store, spool, now=now),
        "dashboard: turnaround of a day": lambda: turnaround.turnaround(store, since=now - 86400),
        "settle: what arrives": lambda: studies.arriving(store),
        "claim of a batch": lambda: queue.claim(store, "infer@here", 8, now=now, lease=600),
        "claim of a batch by age": lambda: queue.claim(store, "infer@here", 8, now=now, lease=600, by_age=True),
        "purge: one of what a pull keeps for hours": lambda: next(
            iter(upkeep.purge_pulled(store, Retention(), NOW + 3600 + 600 * SECONDS)), None
        ),
        "verify without reading files": lambda: len(invariants.verify(store, spool, now, deep=False)),
    }


def timed(name: str, step: Callable[[], object]) -> object:
    before, began = _most(), time.perf_counter()
    said = step()
    print(f"  {name:<46}{1000 * (time.perf_counter() - began):>12,.1f} ms{_most() - before:>8,.0f} MB", flush=True)
    return said


def _most() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=100_000)
    n = parser.parse_args().studies
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = Store(folder / "overread.db", folder / "spool")
        store.open()
        store.spool.open()
        settings = RunningNode(folder / "node", ("PACS", 104)).settings
        settings.node.data_dir.mkdir(parents=True, exist_ok=True)
        studies.begin_association(store, ORIGIN)
        print(f"A pull of {n:,} studies: time, and by how much the most memory grew")
        path = listed(folder, n)
        one = timed("plan: read the list, ask, remember", lambda: planned(store, settings, path))
        assert isinstance(one, Pull)
        filled(store, one, n)
        for name, step in steps(store, settings, store.spool, one, n).items():
            timed(name, step)
        store.close()
        print(f"  the database: {(folder / 'overread.db').stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
