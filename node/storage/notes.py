"""Notes: of each finished job one file beside its results, from which its rows can be made again.

A note is written inside the transaction that it speaks of, under the database's write lock: no worker that lost its
lease leaves one, and none ever falls behind the rows. Columns are taken as they are, so that a new one needs nothing
here. `adoption` reads what is written here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3
from sqlalchemy import Connection, Row, Table, or_, select

from node.domain import JobState
from node.storage import schema
from node.storage.store import Store

D = schema.delivery
F = schema.finding
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
P = schema.pulled
R = schema.result
S = schema.study
W = schema.route_reason

ENDED = (JobState.DONE, JobState.REFUSED)


def keep(store: Store, connection: Connection, job_id: int) -> None:
    """Write, or write again, the note of a finished job as its rows stand in this transaction.

    Raises:
        OSError: it could not be made durable; the transaction must not be committed.
    """
    content = _content(connection, job_id)
    body = json.dumps(content, sort_keys=True).encode()
    path = _path(store, connection, job_id)
    store.spool.write(f"note-{path.stem}", body + b"\n" + blake3(body).hexdigest().encode() + b"\n", path)


def keep_all(store: Store, connection: Connection, study_id: int) -> None:
    """The notes of all finished jobs of a study: a person decided something about it."""
    for job_id in connection.execute(select(J.c.id).where(J.c.study_id == study_id, J.c.state.in_(ENDED))).scalars():
        keep(store, connection, job_id)


def about(connection: Connection, *, instances: Sequence[int], results: Sequence[int]) -> list[int]:
    """The finished jobs that read these instances or made these results."""
    reading = select(JI.c.job_id).where(JI.c.instance_id.in_(instances))
    making = select(R.c.job_id).where(R.c.id.in_(results))
    found = select(J.c.id).where(or_(J.c.id.in_(reading), J.c.id.in_(making)), J.c.state.in_(ENDED))
    return list(connection.execute(found.order_by(J.c.id)).scalars())


def refresh(store: Store, jobs: Iterable[int]) -> None:
    """After a purge: a note says what became of files, and goes with the last of its job's results.

    One transaction each: whoever receives need not wait for all of them.
    """
    for job_id in jobs:
        with store.write() as connection:
            if connection.execute(select(R.c.id).where(R.c.job_id == job_id, R.c.purged.is_(False))).first():
                keep(store, connection, job_id)
            else:
                store.spool.shelf.remove(_path(store, connection, job_id))


def read(store: Store, path: Path) -> dict[str, Any]:
    """What a note says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    body, _, rest = store.spool.shelf.read(path).partition(b"\n")
    if rest.strip().decode(errors="replace") != blake3(body).hexdigest():
        raise ValueError("the note is damaged: its digest differs")
    return dict(json.loads(body))


def expected(store: Store, connection: Connection, *states: JobState) -> dict[Path, int]:
    """Where the notes of all jobs in these states would be (of all jobs, if none is named), with the jobs' ids."""
    query = select(J.c.id, S.c.study_instance_uid, J.c.route, J.c.series_instance_uid, J.c.revision)
    query = query.join(S, S.c.id == J.c.study_id)
    rows = connection.execute(query.where(J.c.state.in_(states)) if states else query)
    return {store.spool.note_path(uid, route, series, revision): i for i, uid, route, series, revision in rows}


def _path(store: Store, connection: Connection, job_id: int) -> Path:
    row = connection.execute(select(J, S.c.study_instance_uid).join(S, S.c.id == J.c.study_id).where(J.c.id == job_id))
    job = row.one()
    return store.spool.note_path(job.study_instance_uid, job.route, job.series_instance_uid, job.revision)


def _content(connection: Connection, job_id: int) -> dict[str, Any]:
    job = connection.execute(select(J).where(J.c.id == job_id)).one()
    study = connection.execute(select(S).where(S.c.id == job.study_id)).one()
    reasons = select(W).where(W.c.study_id == study.id, W.c.revision == job.revision, W.c.route == job.route)
    instances = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == job_id).order_by(I.c.id)
    results = connection.execute(select(R).where(R.c.job_id == job_id).order_by(R.c.id)).all()
    return {
        "study": values(study, S, without=("id", "log_id", "state", "reason", "settled_digest")),
        "pulled": [
            values(r, P, without=("study_id",))
            for r in connection.execute(select(P).where(P.c.study_id == study.id).order_by(P.c.pull))
        ],
        "job": values(job, J, without=("id", "study_id", "fence", "lease_until", "worker")),
        "reasons": [values(r, W, without=("id", "study_id")) for r in connection.execute(reasons)],
        "instances": [values(r, I, without=("study_id",)) for r in connection.execute(instances)],
        "findings": [
            values(r, F, without=("id", "job_id"))
            for r in connection.execute(select(F).where(F.c.job_id == job_id).order_by(F.c.id))
        ],
        "results": [
            values(r, R, without=("id", "job_id")) | {"deliveries": _deliveries(connection, r.id)} for r in results
        ],
    }


def _deliveries(connection: Connection, result_id: int) -> list[dict[str, Any]]:
    rows = connection.execute(select(D).where(D.c.result_id == result_id).order_by(D.c.id))
    return [values(r, D, without=("id", "result_id", "form_id", "fence", "lease_until")) for r in rows]


def values(row: Row[Any], table: Table, *, without: Sequence[str]) -> dict[str, Any]:
    return {c.name: getattr(row, c.name) for c in table.columns if c.name not in without}
