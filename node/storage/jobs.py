"""Rows of jobs, findings and results: routing makes them, a worker leases them (`queue`), one transaction ends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, and_, bindparam, delete, insert, or_, select, update

from node.domain import (
    Built,
    DeliveryState,
    FindingRow,
    Instance,
    Job,
    JobState,
    Result,
    Study,
)
from node.storage import events, notes, schema
from node.storage.deliveries import recipients
from node.storage.rows import to_instance, to_job, to_result
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

# made once: they run for every job, and to build one costs more than to run it
END = (
    update(J)
    .where(J.c.id == bindparam("job_id"), J.c.state == JobState.LEASED, J.c.fence == bindparam("held"))
    .values(state=bindparam("ends_as"), reason=bindparam("why"), finished_at=bindparam("at"), lease_until=None)
    .values(ran_with=bindparam("run", type_=JSON), seconds=bindparam("took"))
    .returning(J.c.deliver_to)
)
FORGET = delete(F).where(F.c.job_id == bindparam("job_id"))
RESULT = insert(R).returning(R.c.id)


def _give_way() -> Any:
    later = J.alias()
    same_series = later.c.series_instance_uid == J.c.series_instance_uid
    by_series = (later.c.series_instance_uid == "") != (J.c.series_instance_uid == "")
    same = and_(later.c.study_id == J.c.study_id, later.c.route == J.c.route, or_(same_series, by_series))
    waits = and_(J.c.state.in_((JobState.QUEUED, JobState.DEAD)), J.c.retryable)
    return (
        update(J)
        .where(J.c.id == bindparam("job_id"), waits)
        .where(select(later.c.id).where(same, later.c.revision > J.c.revision).exists())
        .values(state=JobState.DEAD, retryable=False, reason="superseded by a later revision")
    )


GIVE_WAY = _give_way()
"""What comes back to the queue when a later revision is in it would be done after that one, and sent after it."""


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
    ran_with: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    now: float,
) -> bool:
    """LEASED -> DONE or REFUSED with findings, results and their deliveries, in one transaction.

    There is one delivery for each result and each destination that wants its kind. The note of all this is durable
    before the transaction is. `seconds` is how long a worker had to do with it.

    Raises:
        OSError: the note could not be kept; nothing was written.

    Returns:
        False when the lease was lost meanwhile: another worker's answer counts, and nothing was written.
    """
    with store.write_of(job.study_id) as connection:
        values = {"job_id": job.id, "held": job.fence, "ends_as": state, "why": reason, "at": now}
        values |= {"run": ran_with, "took": seconds}
        row = connection.execute(END, values).first()
        if row is None:
            return False
        connection.execute(FORGET, {"job_id": job.id})
        if findings:
            connection.execute(insert(F), [{"job_id": job.id, **_finding_values(f)} for f in findings])
        new = {"state": DeliveryState.QUEUED, "due_at": now, "created_at": now, "priority": job.priority}
        for built in results:
            result_id = connection.execute(RESULT, _result_values(store, job, built, now)).scalar_one()
            if built.quarantine:
                said = f"{job.name}: {built.kind} failed its self-check and is not sent: {built.quarantine}"
                events.add(connection, job.study_id, "report", said, now=now)
                continue
            peers = recipients(row.deliver_to, built.kind)
            if peers:
                connection.execute(insert(D), [{"result_id": result_id, "peer": p, **new} for p in peers])
        text = f"{job.name}: {state}, {len(results)} results" + (f": {reason}" if reason else "")
        events.add(connection, job.study_id, "report", text, now=now)
        notes.keep(store, connection, job.id)
        return True


def _finding_values(finding: FindingRow) -> dict[str, Any]:
    return {
        "instance_id": finding.instance_id,
        "status": finding.status,
        "code": finding.code,
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
        "quarantine": built.quarantine,
        "created_at": now,
    }


def put_off(store: Store, job: Job, reason: str, *, now: float, until: float) -> None:
    """Nothing is wrong with the job: what it needs is away for now, and the attempt does not count."""
    with store.write_of(job.study_id) as connection:
        held = and_(J.c.id == job.id, J.c.state == JobState.LEASED, J.c.fence == job.fence)
        waits = {"state": JobState.QUEUED, "attempts": max(job.attempts - 1, 0), "due_at": until}
        changed = connection.execute(update(J).where(held).values(**waits, reason=reason, lease_until=None)).rowcount
        connection.execute(GIVE_WAY, {"job_id": job.id})
        if changed and job.reason != reason:
            events.add(connection, job.study_id, "infer", f"{job.name}: put off: {reason}", now=now)


def fail(store: Store, job: Job, reason: str, *, attempts: int, now: float, retry_after: float) -> None:
    """A worker survived but could not finish: try again later, or give up after `attempts`."""
    dead = job.attempts >= attempts
    with store.write_of(job.study_id) as connection:
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
        connection.execute(GIVE_WAY, {"job_id": job.id})
        if changed:
            verdict = "given up" if dead else "to be tried again"
            events.add(connection, job.study_id, "infer", f"{job.name}: {verdict}: {reason}", now=now)


def lease_of(process: str, host: str) -> str:
    """How the names of workers begin that are this process of this host; more is only for people to read."""
    return f"{process}@{host}/" if host else f"{process}@"


def give_back(store: Store, process: str, *, crashed: bool, now: float) -> list[Job]:
    """A worker process ended: its leases are free at once. A job that took its worker down twice is DEAD.

    Whatever name the host had: a lock sees to it that it has one process of that name.

    Returns:
        The jobs that were given back, as they are now.
    """
    his = J.c.worker.startswith(lease_of(process, store.host), autoescape=True)
    with store.write() as connection:
        return free(connection, his, crashed=crashed, now=now)


def of_host(host: str) -> ColumnElement[bool]:
    """What any worker of another host holds."""
    return J.c.worker.contains(f"@{host}/", autoescape=True)


def free(connection: Connection, whose: ColumnElement[bool], *, crashed: bool, now: float) -> list[Job]:
    """Give back what ended workers hold; the jobs as they are now."""
    after = []
    for row in connection.execute(select(J).where(J.c.state == JobState.LEASED, whose)).all():
        crashes = row.crashes + (1 if crashed else 0)
        dead = crashes >= CRASHES
        reason = f"the worker process ended {crashes} times while it had this job" if dead else row.reason
        values = {"crashes": crashes, "lease_until": None, "fence": row.fence + 1, "due_at": now, "reason": reason}
        state = JobState.DEAD if dead else JobState.QUEUED
        changed = connection.execute(
            update(J).where(J.c.id == row.id).values(state=state, finished_at=now if dead else None, **values)
        )
        assert changed.rowcount == 1
        connection.execute(GIVE_WAY, {"job_id": row.id})
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


def of_study(store: Store, study_id: int) -> list[Job]:
    with store.read() as connection:
        rows = connection.execute(select(J).where(J.c.study_id == study_id).order_by(J.c.revision, J.c.id))
        return [to_job(row) for row in rows]


def findings(store: Store, job_id: int) -> list[FindingRow]:
    with store.read() as connection:
        rows = connection.execute(select(F).where(F.c.job_id == job_id).order_by(F.c.id))
        return [
            FindingRow(r.instance_id, r.status, r.reason, r.label, r.score, r.presence, r.frame, r.code) for r in rows
        ]


def results(store: Store, study_id: int) -> list[Result]:
    with store.read() as connection:
        rows = connection.execute(_results().where(J.c.study_id == study_id).order_by(R.c.id))
        return [to_result(store, row) for row in rows]


def members(store: Store, job_id: int) -> list[Instance]:
    query = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == job_id).order_by(*ARRIVAL)
    with store.read() as connection:
        return [to_instance(store, row) for row in connection.execute(query)]
