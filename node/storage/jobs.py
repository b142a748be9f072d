"""Rows of jobs, findings and results: routing makes them, a worker leases them, one transaction ends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, insert, not_, select, update

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
from node.storage.deliveries import recipients
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

CRASHES = 2
"""A job that killed its worker this often is given up: the next one must get its turn."""


def _busy() -> Any:
    """An earlier revision of the same route and series is being worked on: its report must come first, to be
    referred to."""
    earlier = J.alias()
    same = and_(
        earlier.c.study_id == J.c.study_id,
        earlier.c.route == J.c.route,
        earlier.c.series_instance_uid == J.c.series_instance_uid,
        earlier.c.revision < J.c.revision,
    )
    return select(earlier.c.id).where(same, earlier.c.state == JobState.LEASED).exists()


def _results() -> Any:
    return select(R, J.c.study_id, J.c.revision, J.c.route).join(J, J.c.id == R.c.job_id)


def _reports_before() -> Any:
    """The Structured Reports of earlier revisions of the same route and series that reach somebody, the last first."""
    stopped = select(D.c.result_id).where(D.c.state == DeliveryState.DEAD, D.c.retryable.is_(False))
    earlier = and_(
        J.c.study_id == bindparam("study_id"),
        J.c.route == bindparam("route"),
        J.c.series_instance_uid == bindparam("series"),
    )
    query = _results().where(earlier, J.c.revision < bindparam("revision"), R.c.kind == "sr", R.c.id.not_in(stopped))
    return query.order_by(J.c.revision.desc(), R.c.ordinal)


# made once: they run for every job, and to build one costs more than to run it
FREE = (
    select(J.c.id, J.c.due_at)
    .join(S, S.c.id == J.c.study_id)
    .where(S.c.state != StudyState.HELD, not_(_busy()))
    .order_by(J.c.due_at, J.c.id)
    .limit(bindparam("limit"))
)
"""Jobs that nothing forbids to work on, in the order of the queue."""
SUSPECT, UNSUSPECTED = J.c.crashes > 0, J.c.crashes == 0
DUE = and_(J.c.state == JobState.QUEUED, J.c.due_at <= bindparam("now"))
EXPIRED = and_(J.c.state == JobState.LEASED, J.c.lease_until < bindparam("now"))
# Waiting and expired ones apart: an index has each in order, and the length of the queue does not matter
READY = [[FREE.where(among, state) for state in (DUE, EXPIRED)] for among in (SUSPECT, UNSUSPECTED)]
WAITING = [FREE.where(among, J.c.state == JobState.QUEUED) for among in (SUSPECT, UNSUSPECTED)]
LEASE = (
    update(J)
    .where(J.c.id.in_(bindparam("chosen", expanding=True)))
    .values(
        state=JobState.LEASED,
        worker=bindparam("by"),
        attempts=J.c.attempts + 1,
        fence=J.c.fence + 1,
        lease_until=bindparam("until"),
    )
    .returning(J)
)
END = (
    update(J)
    .where(J.c.id == bindparam("job_id"), J.c.state == JobState.LEASED, J.c.fence == bindparam("held"))
    .values(state=bindparam("ends_as"), reason=bindparam("why"), finished_at=bindparam("at"), lease_until=None)
    .returning(J.c.deliver_to)
)
FORGET = delete(F).where(F.c.job_id == bindparam("job_id"))
RESULT = insert(R).returning(R.c.id)
STUDY = select(S).where(S.c.id == bindparam("study_id"))
MEMBERS = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == bindparam("job_id")).order_by(I.c.id)
REPORTS_BEFORE = _reports_before()


def claim(store: Store, worker: str, limit: int, *, now: float, lease: float) -> list[Work]:
    """Lease up to `limit` jobs that are due. Each claim raises the fence, so that a late worker's answer is void.

    A job that took its worker down before is claimed alone: should it do so again, it takes nobody with it.
    """
    suspect, unsuspected = READY
    with store.write() as connection:
        chosen = _first(connection, suspect, 1, now) or _first(connection, unsuspected, limit, now)
        if not chosen:
            return []
        rows = connection.execute(LEASE, {"chosen": chosen, "by": worker, "until": now + lease}).all()
        return [_work(store, connection, to_job(row)) for row in sorted(rows, key=lambda r: r.id)]


def _first(connection: Connection, queries: Sequence[Select[Any]], limit: int, now: float) -> list[int]:
    """The jobs that are due longest, of all that the queries find."""
    found = [row for query in queries for row in connection.execute(query, {"limit": limit, "now": now})]
    return [row.id for row in sorted(found, key=lambda row: (row.due_at, row.id))[:limit]]


def renew(store: Store, works: Sequence[Work], *, now: float, lease: float) -> None:
    """Extend leases that are still ours: this worker makes progress."""
    with store.write() as connection:
        for work in works:
            mine = and_(J.c.id == work.job.id, J.c.state == JobState.LEASED, J.c.fence == work.job.fence)
            connection.execute(update(J).where(mine).values(lease_until=now + lease))


def _work(store: Store, connection: Connection, job: Job) -> Work:
    study = to_study(connection.execute(STUDY, {"study_id": job.study_id}).one())
    members = [to_instance(store, row) for row in connection.execute(MEMBERS, {"job_id": job.id})]
    if job.choice:
        place = {uid: i for i, uid in enumerate(job.choice.frames)}
        members.sort(key=lambda m: place.get(m.sop_instance_uid, len(place)))
    one = {"study_id": job.study_id, "route": job.route, "series": job.series_instance_uid, "revision": job.revision}
    last = connection.execute(REPORTS_BEFORE, one).all()
    before = [to_result(store, row) for row in last if row.revision == last[0].revision]
    return Work(
        job,
        study,
        tuple(m for m in members if m.gone is Gone.KEPT),
        tuple(m.sop_instance_uid for m in members if m.gone is not Gone.KEPT),
        tuple(before),
    )


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
    """LEASED -> DONE or REFUSED with findings, results and their deliveries, in one transaction.

    There is one delivery for each result and each destination that wants its kind.

    Returns:
        False when the lease was lost meanwhile: another worker's answer counts, and nothing was written.
    """
    with store.write() as connection:
        values = {"job_id": job.id, "held": job.fence, "ends_as": state, "why": reason, "at": now}
        row = connection.execute(END, values).first()
        if row is None:
            return False
        connection.execute(FORGET, {"job_id": job.id})
        if findings:
            connection.execute(insert(F), [{"job_id": job.id, **_finding_values(f)} for f in findings])
        new = {"state": DeliveryState.QUEUED, "due_at": now, "created_at": now}
        for built in results:
            result_id = connection.execute(RESULT, _result_values(store, job, built, now)).scalar_one()
            peers = recipients(row.deliver_to, built.kind)
            if peers:
                connection.execute(insert(D), [{"result_id": result_id, "peer": p, **new} for p in peers])
        text = f"{job.name}: {state}, {len(results)} results" + (f": {reason}" if reason else "")
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
        "frame": finding.frame,
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
            events.add(connection, job.study_id, "infer", f"{job.name}: {verdict}: {reason}", now=now)


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
            events.add(connection, row.study_id, "infer", f"{to_job(row).name}: {text}", now=now)
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
    with store.read() as connection:
        firsts = [connection.execute(query, {"limit": 1}).first() for query in WAITING]
    return min((first.due_at for first in firsts if first), default=None)


def of_study(store: Store, study_id: int) -> list[Job]:
    with store.read() as connection:
        rows = connection.execute(select(J).where(J.c.study_id == study_id).order_by(J.c.revision, J.c.id))
        return [to_job(row) for row in rows]


def findings(store: Store, job_id: int) -> list[FindingRow]:
    with store.read() as connection:
        rows = connection.execute(select(F).where(F.c.job_id == job_id).order_by(F.c.id))
        return [FindingRow(r.instance_id, r.status, r.reason, r.label, r.score, r.presence, r.frame) for r in rows]


def results(store: Store, study_id: int) -> list[Result]:
    with store.read() as connection:
        rows = connection.execute(_results().where(J.c.study_id == study_id).order_by(R.c.id))
        return [to_result(store, row) for row in rows]


def members(store: Store, job_id: int) -> list[Instance]:
    with store.read() as connection:
        return [to_instance(store, row) for row in connection.execute(MEMBERS, {"job_id": job_id})]
