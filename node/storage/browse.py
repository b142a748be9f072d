"""Rows as a person leafs through them: studies, what was given up, what was asked. Always a page, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select

from node.domain import Delivery, DeliveryState, Job, JobState, Study, StudyState
from node.errors import NoSuchStudy
from node.storage import deliveries, schema
from node.storage.commitments import Commitment, to_commitment
from node.storage.rows import to_delivery, to_job, to_study
from node.storage.store import Store
from node.storage.trials import COUNTS, tests

C = schema.commitment
D = schema.delivery
J = schema.job
R = schema.result
S = schema.study
W = schema.route_reason

PAGE = 50


@dataclass(frozen=True)
class Wanted:
    """Which studies; None and "" are any. `name`: an accession number, Patient ID, Study Instance UID or log hash."""

    state: StudyState | None = None
    route: str = ""
    since: float | None = None
    until: float | None = None
    name: str = ""


def studies(store: Store, wanted: Wanted, *, before: int = 0, limit: int = PAGE) -> list[Study]:
    """The newest that fit, or those that follow the study with the row `before`."""
    query = select(S).where(COUNTS).order_by(S.c.last_received_at.desc(), S.c.id.desc()).limit(limit)
    for condition in _conditions(wanted):
        query = query.where(condition)
    with store.read() as connection:
        if before:
            at = select(S.c.last_received_at).where(S.c.id == before).scalar_subquery()
            older = or_(S.c.last_received_at < at, and_(S.c.last_received_at == at, S.c.id < before))
            query = query.where(older)
        return [to_study(row) for row in connection.execute(query)]


def _conditions(wanted: Wanted) -> list[Any]:
    found: list[Any] = []
    if wanted.state:
        found.append(S.c.state == wanted.state)
    if wanted.route:
        matched = select(W.c.id).where(W.c.study_id == S.c.id, W.c.revision == S.c.revision)
        found.append(matched.where(W.c.route == wanted.route, W.c.matched > 0).exists())
    if wanted.since is not None:
        found.append(S.c.last_received_at >= wanted.since)
    if wanted.until is not None:
        found.append(S.c.last_received_at < wanted.until)
    if wanted.name:
        names = (S.c.accession_number, S.c.patient_id, S.c.study_instance_uid, S.c.log_id)
        found.append(or_(*(column == wanted.name for column in names)))
    return found


def study(store: Store, study_id: int) -> Study:
    """Raises:
    NoSuchStudy: there is no such row.
    """
    with store.read() as connection:
        row = connection.execute(select(S).where(S.c.id == study_id)).first()
    if row is None:
        raise NoSuchStudy(f"there is no study in row {study_id}")
    return to_study(row)


def sends(store: Store, *states: DeliveryState, peer: str = "", before: int = 0, limit: int = PAGE) -> list[Delivery]:
    """Deliveries in these states that are not stopped for good, the newest first."""
    query = deliveries.joined().where(D.c.state.in_(states), D.c.retryable).order_by(D.c.id.desc()).limit(limit)
    if peer:
        query = query.where(D.c.peer == peer)
    if before:
        query = query.where(D.c.id < before)
    with store.read() as connection:
        return [to_delivery(store, row) for row in connection.execute(query)]


def dead_jobs(store: Store, limit: int = PAGE) -> list[Job]:
    query = select(J).where(J.c.state == JobState.DEAD, J.c.retryable, J.c.study_id.not_in(tests()))
    with store.read() as connection:
        return [to_job(row) for row in connection.execute(query.order_by(J.c.id.desc()).limit(limit))]


@dataclass(frozen=True)
class Unsound:
    """A result that failed its self-check."""

    result_id: int
    study_id: int
    kind: str
    route: str
    reason: str
    created_at: float


def unsound(store: Store, limit: int = PAGE) -> list[Unsound]:
    """Results that were kept aside, of studies' latest revisions, the newest first."""
    query = select(R, J.c.study_id, J.c.route).join(J, J.c.id == R.c.job_id).join(S, S.c.id == J.c.study_id)
    query = query.where(R.c.quarantine != "", R.c.purged.is_(False), J.c.revision == S.c.revision, COUNTS)
    with store.read() as connection:
        rows = connection.execute(query.order_by(R.c.id.desc()).limit(limit))
        return [Unsound(r.id, r.study_id, r.kind, r.route, r.quarantine, r.created_at) for r in rows]


def commitments(store: Store, limit: int = PAGE) -> list[Commitment]:
    """What peers asked this node to commit to, the newest first."""
    with store.read() as connection:
        return [to_commitment(row) for row in connection.execute(select(C).order_by(C.c.id.desc()).limit(limit))]
