"""Rows of canaries: studies of the node's own that test the way. They count nowhere, and go when they have ended.

A study is a canary for as long as a row says so. Whatever calls itself a test and has no such row goes nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from node.domain import Study
from node.storage import notes, schema, trace
from node.storage.store import Store

C = schema.canary
D = schema.delivery
E = schema.event
F = schema.finding
FO = schema.form
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
R = schema.result
S = schema.study
W = schema.route_reason

PEER = "(canary)"
"""The destination of its results: a name that no [[peer]] can have."""


@dataclass(frozen=True)
class Ran:
    """One canary and how it ended."""

    id: int
    bundle: str
    route: str
    study_instance_uid: str
    at: float
    ended_at: float | None
    ok: bool | None
    reason: str
    seconds: Mapping[str, float]


def studies() -> Any:
    """The ids of the studies that are canaries just now: few, and mostly none."""
    return select(S.c.id).join(C, C.c.study_instance_uid == S.c.study_instance_uid).where(C.c.ended_at.is_(None))


def begin(store: Store, *, bundle: str, route: str, study_instance_uid: str, now: float) -> int:
    values = {"bundle": bundle, "route": route, "study_instance_uid": study_instance_uid, "at": now, "seconds": {}}
    with store.write() as connection:
        return int(connection.execute(insert(C).values(**values).returning(C.c.id)).scalar_one())


def of_study(store: Store, study: Study) -> Ran | None:
    """The canary that a study is; None for any other study."""
    query = select(C).where(C.c.study_instance_uid == study.study_instance_uid, C.c.ended_at.is_(None))
    with store.read() as connection:
        row = connection.execute(query).first()
    return _to_ran(row) if row else None


def unfinished(store: Store) -> list[Ran]:
    """Canaries that nobody ended: whoever ran them was killed."""
    with store.read() as connection:
        return [_to_ran(row) for row in connection.execute(select(C).where(C.c.ended_at.is_(None)))]


def latest(store: Store) -> list[Ran]:
    """Of each route the last canary that ended, by route."""
    with store.read() as connection:
        rows = connection.execute(select(C).where(C.c.ended_at.isnot(None)).order_by(C.c.ended_at.desc()).limit(200))
        found = [_to_ran(row) for row in rows]
    return sorted({ran.route: ran for ran in reversed(found)}.values(), key=lambda ran: ran.route)


def first_like(store: Store, likeness: str) -> dict[str, Any] | None:
    """What came of the first sound canary of this likeness: the same film, models and settings must give it again."""
    query = select(C.c.outcome).where(C.c.likeness == likeness, C.c.ok).order_by(C.c.id).limit(1)
    with store.read() as connection:
        found = connection.execute(query).scalar()
    return dict(found) if found is not None else None


def end(
    store: Store,
    ran: int,
    *,
    ok: bool,
    reason: str,
    seconds: Mapping[str, float],
    likeness: str = "",
    outcome: Mapping[str, Any] | None = None,
    now: float,
) -> None:
    """Note how a canary ended, and forget its study: rows first, then files."""
    with store.write() as connection:
        values = {"ended_at": now, "ok": ok, "reason": reason, "seconds": dict(seconds), "likeness": likeness}
        connection.execute(update(C).where(C.c.id == ran).values(outcome=outcome, **values))
        uid = connection.execute(select(C.c.study_instance_uid).where(C.c.id == ran)).scalar_one()
        study_id = connection.execute(select(S.c.id).where(S.c.study_instance_uid == uid)).scalar()
        files = _forget(store, connection, study_id) if study_id is not None else []
    for file in files:
        file.unlink(missing_ok=True)


def _forget(store: Store, connection: Connection, study_id: int) -> list[Path]:
    """Delete the rows of a study; the files that they speak of."""
    jobs = list(connection.execute(select(J.c.id).where(J.c.study_id == study_id)).scalars())
    results = list(connection.execute(select(R.c.id).where(R.c.job_id.in_(jobs))).scalars())
    paths = [
        *connection.execute(select(I.c.path).where(I.c.study_id == study_id)).scalars(),
        *connection.execute(select(R.c.path).where(R.c.job_id.in_(jobs))).scalars(),
        *connection.execute(select(FO.c.path).where(FO.c.result_id.in_(results))).scalars(),
    ]
    files = [store.spool_root / path for path in paths]
    # why a result was put aside
    files += [file.with_suffix(".txt") for file in files]
    files += [notes.place(store, connection, job_id) for job_id in jobs]
    connection.execute(delete(D).where(D.c.result_id.in_(results)))
    connection.execute(delete(FO).where(FO.c.result_id.in_(results)))
    for table in (R, F, JI):
        connection.execute(delete(table).where(table.c.job_id.in_(jobs)))
    for table in (J, W, E, I):
        connection.execute(delete(table).where(table.c.study_id == study_id))
    connection.execute(delete(S).where(S.c.id == study_id))
    trace.rewind(connection)
    return files


def purge(store: Store, *, before: float) -> int:
    """Forget canaries that are older, except what others are compared with."""
    with store.write() as connection:
        rows = connection.execute(select(C.c.id, C.c.likeness).where(C.c.ok).order_by(C.c.id))
        compared = {row.likeness: row.id for row in reversed(rows.all())}
        old = delete(C).where(C.c.ended_at < before, C.c.id.not_in(list(compared.values())))
        return connection.execute(old).rowcount


def _to_ran(row: Any) -> Ran:
    return Ran(
        row.id, row.bundle, row.route, row.study_instance_uid, row.at, row.ended_at, row.ok, row.reason, row.seconds
    )
