"""What became of studies, in the few columns that an account of a day needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, select

from node.domain import DeliveryState, JobState, Study
from node.storage import departed, schema
from node.storage.rows import to_study
from node.storage.store import Store
from node.storage.trials import COUNTS

D = schema.delivery
J = schema.job
R = schema.result
S = schema.study


@dataclass(frozen=True)
class JobLine:
    """One job that counts: not superseded, not stopped. `live`: its results go somewhere."""

    route: str
    state: JobState
    reason: str
    live: bool
    results: int
    deliveries: int
    quarantine: str


def stopped(store: Store, study_id: int) -> list[tuple[str, str]]:
    """Route and reason of the last jobs of a study that were stopped for good before they ended."""
    mine = and_(J.c.study_id == study_id, J.c.state == JobState.DEAD, J.c.retryable.is_(False), J.c.reason != "")
    last = select(func.max(J.c.revision)).where(J.c.study_id == study_id).scalar_subquery()
    query = select(J.c.route, J.c.reason).where(mine, J.c.revision == last).order_by(J.c.id)
    with store.read() as connection:
        return [(row.route, row.reason) for row in connection.execute(query)]


@dataclass(frozen=True)
class DeliveryLine:
    """One delivery that counts. `asked`: whether its peer is still to be asked for proof."""

    kind: str
    peer: str
    state: DeliveryState
    status: int | None
    reason: str
    proof: str
    asked: bool


def settled(store: Store, *, since: float, until: float) -> list[Study]:
    """The studies whose last revision settled in this time, in that order."""
    query = select(S).where(COUNTS, S.c.settled_at >= since, S.c.settled_at < until).order_by(S.c.settled_at, S.c.id)
    with store.read() as connection:
        return [to_study(row) for row in connection.execute(query)]


def jobs_of(store: Store, study_id: int) -> list[JobLine]:
    # Said in each: otherwise they group the results of all studies, and an account of a day takes minutes
    mine = R.c.job_id.in_(select(J.c.id).where(J.c.study_id == study_id))
    made = select(R.c.job_id, func.count().label("results"), func.max(R.c.quarantine).label("quarantine"))
    counts = made.where(mine).group_by(R.c.job_id).subquery()
    sent = select(R.c.job_id, func.count().label("n")).join(D, D.c.result_id == R.c.id).where(mine)
    sends = sent.group_by(R.c.job_id).subquery()
    query: Any = (
        select(J, counts.c.results, counts.c.quarantine, sends.c.n)
        .outerjoin(counts, counts.c.job_id == J.c.id)
        .outerjoin(sends, sends.c.job_id == J.c.id)
        .where(J.c.study_id == study_id, J.c.retryable)
        .order_by(J.c.id)
    )
    with store.read() as connection:
        return [
            JobLine(
                row.route,
                JobState(row.state),
                row.reason,
                bool(row.deliver_to),
                row.results or 0,
                row.n or 0,
                row.quarantine or "",
            )
            for row in connection.execute(query)
        ]


def deliveries_of(store: Store, study_id: int) -> list[DeliveryLine]:
    query = select(D, R.c.kind).join(R, R.c.id == D.c.result_id).join(J, J.c.id == R.c.job_id)
    with store.read() as connection:
        rows = connection.execute(query.where(J.c.study_id == study_id).order_by(D.c.id))
        return [
            DeliveryLine(
                row.kind,
                row.peer,
                DeliveryState(row.state),
                row.status,
                row.reason,
                row.proof,
                row.proof_due_at is not None,
            )
            for row in rows
            if row.retryable or row.state != DeliveryState.DEAD or row.reason == departed.nobody(row.peer)
        ]
