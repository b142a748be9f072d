"""Rows of how many instances of a study its sender says that it has, and when it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, bindparam, func, insert, or_, select, union, update

from node.domain import DeliveryState, StudyState
from node.storage import schema
from node.storage.store import Store

D = schema.delivery
E = schema.expected
F = schema.form
I = schema.instance  # noqa: E741
J = schema.job
R = schema.result
S = schema.study

# Whatever we have of the study, in whatever state, and what the peer has from us: both are among what it counts
RECEIVED = select(I.c.sop_instance_uid).where(I.c.study_id == bindparam("study_id"))
STORED_BACK = (
    select(func.coalesce(F.c.sop_instance_uid, R.c.sop_instance_uid))
    .select_from(D.join(R, R.c.id == D.c.result_id).join(J, J.c.id == R.c.job_id).outerjoin(F, F.c.id == D.c.form_id))
    .where(
        J.c.study_id == bindparam("study_id"),
        D.c.peer == bindparam("peer"),
        D.c.state.in_((DeliveryState.SENT, DeliveryState.COMMITTED)),
    )
)
HERE = select(func.count()).select_from(union(RECEIVED, STORED_BACK).subquery())


@dataclass(frozen=True)
class Expected:
    """What a peer says that it has of a study, and what is here of that.

    `instances` is None where it was not told; it is the same number since `since`, and was last told at `asked_at`.
    """

    study_id: int
    instances: int | None
    since: float | None
    asked_at: float | None
    here: int
    reason: str
    """Why it could not be asked, the last time; empty when it could."""


@dataclass(frozen=True)
class Open:
    """A study whose number is to be asked for."""

    study_id: int
    study_instance_uid: str


def due(store: Store, peer: str, limit: int, *, now: float) -> list[Open]:
    """The studies arriving from a peer that it is to be asked about now: not asked yet, or something came since."""
    again = and_(E.c.due_at <= now, or_(E.c.asked_at.is_(None), E.c.asked_at <= S.c.last_received_at))
    query = (
        select(S.c.id, S.c.study_instance_uid)
        .select_from(S.outerjoin(E, E.c.study_id == S.c.id))
        .where(S.c.state == StudyState.RECEIVING, S.c.peer == peer, or_(E.c.study_id.is_(None), again))
        .order_by(E.c.due_at, S.c.id)
        .limit(limit)
    )
    with store.read() as connection:
        return [Open(r.id, r.study_instance_uid) for r in connection.execute(query)]


def told(store: Store, study_id: int, instances: int | None, *, due_at: float, now: float) -> None:
    """The peer answered what it was asked at `now`; it is asked again at `due_at` if something came since `now`."""
    values = {"instances": instances, "asked_at": now, "due_at": due_at, "reason": ""}
    with store.write() as connection:
        before = connection.execute(select(E).where(E.c.study_id == study_id)).first()
        since = before.since if before is not None and before.instances == instances else now
        if before is None:
            connection.execute(insert(E).values(study_id=study_id, since=since, **values))
        else:
            connection.execute(update(E).where(E.c.study_id == study_id).values(since=since, **values))


def unanswered(store: Store, study_id: int, reason: str, *, due_at: float) -> None:
    """The peer could not be asked; what it said before stands."""
    with store.write() as connection:
        values = {"due_at": due_at, "reason": reason}
        if not connection.execute(update(E).where(E.c.study_id == study_id).values(**values)).rowcount:
            connection.execute(insert(E).values(study_id=study_id, **values))


def arriving(store: Store) -> dict[int, Expected]:
    """What was told of the studies that are RECEIVING, by their row."""
    query = select(E, S.c.peer).join(S, S.c.id == E.c.study_id).where(S.c.state == StudyState.RECEIVING)
    with store.read() as connection:
        rows = connection.execute(query.where(E.c.instances.isnot(None))).all()
        return {row.study_id: _to_expected(connection, row) for row in rows}


def of_study(store: Store, study_id: int) -> Expected | None:
    query = select(E, S.c.peer).join(S, S.c.id == E.c.study_id).where(E.c.study_id == study_id)
    with store.read() as connection:
        row = connection.execute(query).first()
        return _to_expected(connection, row) if row else None


def failing(store: Store) -> list[tuple[str, int, str]]:
    """Peers that cannot be asked now: of how many arriving studies, and why the last time."""
    query = (
        select(S.c.peer, func.count(), func.max(E.c.reason))
        .select_from(E.join(S, S.c.id == E.c.study_id))
        .where(S.c.state == StudyState.RECEIVING, E.c.reason != "")
        .group_by(S.c.peer)
        .order_by(S.c.peer)
    )
    with store.read() as connection:
        return [(peer, n, reason) for peer, n, reason in connection.execute(query)]


def _to_expected(connection: Any, row: Row[Any]) -> Expected:
    here = connection.execute(HERE, {"study_id": row.study_id, "peer": row.peer}).scalar_one()
    return Expected(row.study_id, row.instances, row.since, row.asked_at, here, row.reason)
