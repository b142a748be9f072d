"""Rows of jobs, findings and results: routing makes them, a worker leases them, one transaction ends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, not_, or_, select, update

from node.domain import (
    Built,
    DeliveryState,
    FindingRow,
    Gone,
    Instance,
    Job,
    JobState,
    Result,
    Study,
    StudyState,
    Work,
)
from node.storage import events, schema
from node.storage.rows import to_instance, to_job, to_result, to_study
from node.storage.store import Store

D = schema.delivery
F = schema.finding
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
R = schema.result
S = schema.study
W = schema.route_reason

ARRIVAL = (I.c.received_at, I.c.sop_instance_uid)
"""The order of a job's images, in its results too: the same when the rows were rebuilt from the spool."""
CRASHES = 2
"""A job that killed its worker this often is given up: the next one must get its turn."""


def claim(store: Store, worker: str, limit: int, *, now: float, lease: float) -> list[Work]:
    """Lease up to `limit` jobs that are due. Each claim raises the fence, so that a late worker's answer is void.

    A job that took its worker down before is claimed alone: should it do so again, it takes nobody with it.
    """
    due = and_(J.c.state == JobState.QUEUED, J.c.due_at <= now)
    expired = and_(J.c.state == JobState.LEASED, J.c.lease_until < now)
    ready = (
        select(J.c.id)
        .join(S, S.c.id == J.c.study_id)
        .where(or_(due, expired), S.c.state != StudyState.HELD, not_(_busy()))
        .order_by(J.c.due_at, J.c.id)
    )
    suspect = ready.where(J.c.crashes > 0).limit(1)
    with store.write() as connection:
        chosen = connection.execute(suspect).scalars().all()
        chosen = chosen or connection.execute(ready.where(J.c.crashes == 0).limit(limit)).scalars().all()
        if not chosen:
            return []
        rows = connection.execute(
            update(J)
            .where(J.c.id.in_(chosen))
            .values(
                state=JobState.LEASED,
                worker=worker,
                attempts=J.c.attempts + 1,
                fence=J.c.fence + 1,
                lease_until=now + lease,
            )
            .returning(J)
        ).all()
        return [_work(store, connection, to_job(row)) for row in sorted(rows, key=lambda r: r.id)]


def _busy() -> Any:
    """An earlier revision of the same route is being worked on: its report must come first, to be referred to."""
    earlier = J.alias()
    same = and_(earlier.c.study_id == J.c.study_id, earlier.c.route == J.c.route, earlier.c.revision < J.c.revision)
    return select(earlier.c.id).where(same, earlier.c.state == JobState.LEASED).exists()


def renew(store: Store, works: Sequence[Work], *, now: float, lease: float) -> None:
    """Extend leases that are still ours: this worker makes progress."""
    with store.write() as connection:
        for work in works:
            mine = and_(J.c.id == work.job.id, J.c.state == JobState.LEASED, J.c.fence == work.job.fence)
            connection.execute(update(J).where(mine).values(lease_until=now + lease))


def _work(store: Store, connection: Connection, job: Job) -> Work:
    study = to_study(connection.execute(select(S).where(S.c.id == job.study_id)).one())
    members = [
        to_instance(store, row)
        for row in connection.execute(
            select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == job.id).order_by(*ARRIVAL)
        )
    ]
    query = _results().where(J.c.study_id == job.study_id, J.c.route == job.route, J.c.revision < job.revision)
    stopped = select(D.c.result_id).where(D.c.state == DeliveryState.DEAD, D.c.retryable.is_(False))
    query = query.where(R.c.kind == "sr", R.c.id.not_in(stopped))
    last = connection.execute(query.order_by(J.c.revision.desc(), R.c.ordinal)).all()
    before = [to_result(store, row) for row in last if row.revision == last[0].revision]
    return Work(
        job,
        study,
        tuple(m for m in members if m.gone is Gone.KEPT),
        tuple(m.sop_instance_uid for m in members if m.gone is not Gone.KEPT),
        tuple(before),
    )


def _results() -> Any:
    return select(R, J.c.study_id, J.c.revision, J.c.route).join(J, J.c.id == R.c.job_id)


def finish(
    store: Store,
    job: Job,
    state: JobState,
    findings: Sequence[FindingRow],
    results: Sequence[Built],
    *,
    reason: str,
    now: float,
) -> bool:
    """LEASED -> DONE or REFUSED with findings, results and one delivery per result and destination, in one transaction.

    Returns:
        False when the lease was lost meanwhile: another worker's answer counts, and nothing was written.
    """
    with store.write() as connection:
        row = connection.execute(
            update(J)
            .where(J.c.id == job.id, J.c.state == JobState.LEASED, J.c.fence == job.fence)
            .values(state=state, reason=reason, finished_at=now, lease_until=None)
            .returning(J.c.deliver_to)
        ).first()
        if row is None:
            return False
        connection.execute(delete(F).where(F.c.job_id == job.id))
        for finding in findings:
            connection.execute(insert(F).values(job_id=job.id, **_finding_values(finding)))
        for built in results:
            result_id = connection.execute(
                insert(R).values(**_result_values(store, job, built, now)).returning(R.c.id)
            ).scalar_one()
            for peer in row.deliver_to:
                values = {"peer": peer, "state": DeliveryState.QUEUED, "due_at": now, "created_at": now}
                connection.execute(insert(D).values(result_id=result_id, **values))
        text = f"{job.route}: {state}, {len(results)} results" + (f": {reason}" if reason else "")
        events.add(connection, job.study_id, "report", text, now=now)
        return True


def _finding_values(finding: FindingRow) -> dict[str, Any]:
    return {
        "instance_id": finding.instance_id,
        "status": finding.status,
        "reason": finding.reason,
        "label": finding.label,
        "score": finding.score,
        "presence": finding.presence,
    }


def _result_values(store: Store, job: Job, built: Built, now: float) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "kind": built.kind,
        "ordinal": built.ordinal,
        "sop_instance_uid": built.sop_instance_uid,
        "sop_class_uid": built.sop_class_uid,
        "series_instance_uid": built.series_instance_uid,
        "path": str(built.path.relative_to(store.spool_root)),
        "digest": built.digest,
        "size": built.size,
        "created_at": now,
    }


def fail(store: Store, job: Job, reason: str, *, attempts: int, now: float, retry_after: float) -> None:
    """A worker survived but could not finish: try again later, or give up after `attempts`."""
    dead = job.attempts >= attempts
    with store.write() as connection:
        changed = connection.execute(
            update(J)
            .where(J.c.id == job.id, J.c.state == JobState.LEASED, J.c.fence == job.fence)
            .values(
                state=JobState.DEAD if dead else JobState.QUEUED,
                reason=reason,
                due_at=now + retry_after,
                lease_until=None,
                finished_at=now if dead else None,
            )
        ).rowcount
        if changed:
            verdict = "given up" if dead else "to be tried again"
            events.add(connection, job.study_id, "infer", f"{job.route}: {verdict}: {reason}", now=now)


def give_back(store: Store, process: str, *, crashed: bool, now: float) -> list[Job]:
    """A worker process ended: its leases are free at once. A job that took its worker down twice is DEAD.

    Whatever host the process ran on: a lock sees to it that there is one of that name.

    Returns:
        The jobs that were given back, as they are now.
    """
    with store.write() as connection:
        held = connection.execute(
            select(J).where(J.c.state == JobState.LEASED, J.c.worker.startswith(f"{process}@", autoescape=True))
        ).all()
        after = []
        for row in held:
            crashes = row.crashes + (1 if crashed else 0)
            dead = crashes >= CRASHES
            reason = f"the worker process ended {crashes} times while it had this job" if dead else row.reason
            values = {"crashes": crashes, "lease_until": None, "fence": row.fence + 1, "due_at": now, "reason": reason}
            state = JobState.DEAD if dead else JobState.QUEUED
            changed = connection.execute(
                update(J).where(J.c.id == row.id).values(state=state, finished_at=now if dead else None, **values)
            )
            assert changed.rowcount == 1
            text = reason if dead else "the worker process ended; another one will take it"
            events.add(connection, row.study_id, "infer", f"{row.route}: {text}", now=now)
            after.append(to_job(connection.execute(select(J).where(J.c.id == row.id)).one()))
        return after


def retry(store: Store, study: Study, *, now: float) -> int:
    """DEAD jobs of a study back to the queue, with all their attempts."""
    with store.write() as connection:
        n = connection.execute(
            update(J)
            .where(J.c.study_id == study.id, J.c.state == JobState.DEAD, J.c.retryable)
            .values(state=JobState.QUEUED, attempts=0, crashes=0, due_at=now, reason="", finished_at=None)
        ).rowcount
        if n:
            events.add(connection, study.id, "infer", f"a person asked to try {n} jobs again", now=now)
        return n


def retry_all(store: Store, *, now: float) -> int:
    """DEAD jobs of all studies back to the queue."""
    with store.write() as connection:
        return connection.execute(
            update(J)
            .where(J.c.state == JobState.DEAD, J.c.retryable)
            .values(state=JobState.QUEUED, attempts=0, crashes=0, due_at=now, reason="", finished_at=None)
        ).rowcount


def next_due(store: Store) -> float | None:
    """When the next job is due that anybody may claim."""
    free = select(func.min(J.c.due_at)).join(S, S.c.id == J.c.study_id)
    with store.read() as connection:
        return connection.execute(
            free.where(J.c.state == JobState.QUEUED, S.c.state != StudyState.HELD, not_(_busy()))
        ).scalar()


def of_study(store: Store, study_id: int) -> list[Job]:
    with store.read() as connection:
        rows = connection.execute(select(J).where(J.c.study_id == study_id).order_by(J.c.revision, J.c.id))
        return [to_job(row) for row in rows]


def findings(store: Store, job_id: int) -> list[FindingRow]:
    with store.read() as connection:
        rows = connection.execute(select(F).where(F.c.job_id == job_id).order_by(F.c.id))
        return [FindingRow(r.instance_id, r.status, r.reason, r.label, r.score, r.presence) for r in rows]


def results(store: Store, study_id: int) -> list[Result]:
    with store.read() as connection:
        rows = connection.execute(_results().where(J.c.study_id == study_id).order_by(R.c.id))
        return [to_result(store, row) for row in rows]


def members(store: Store, job_id: int) -> list[Instance]:
    with store.read() as connection:
        query = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == job_id).order_by(*ARRIVAL)
        return [to_instance(store, row) for row in connection.execute(query)]
