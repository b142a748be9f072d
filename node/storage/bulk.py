"""Pulls of many studies: how far they run ahead of whoever reads, how fast they are, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, and_, case, func, or_, select

from node.domain import Gone, JobState, Priority, StudyState
from node.storage import pulls, schema
from node.storage.pulled import IN_FORCE
from node.storage.pulls import Pull, PullStudyState
from node.storage.store import Store

I = schema.instance  # noqa: E741
J = schema.job
P = schema.pulled
R = schema.result
S = schema.study
T = schema.pull_study

HOUR = 3600.0
READS_SECONDS = 300.0
"""Whoever has finished no job for so long, and has none in hand, does not read."""
LOT = 500
WAITING = (JobState.QUEUED, JobState.LEASED)
LEFT = (PullStudyState.QUEUED, PullStudyState.LEASED)


def ahead(store: Store) -> int:
    """How many pulled studies and their jobs wait to be settled, routed or read. Indexes have them: the cost goes with
    what waits, not with what is done."""
    arrived = select(func.count()).select_from(S)
    arrived = arrived.where(S.c.state.in_((StudyState.RECEIVING, StudyState.SETTLED)), IN_FORCE)
    jobs = select(func.count()).select_from(J).where(J.c.state.in_(WAITING), J.c.priority == Priority.BULK)
    with store.read() as connection:
        return int(connection.execute(arrived).scalar_one() + connection.execute(jobs).scalar_one())


def somebody_reads(store: Store, *, now: float) -> bool:
    """Whether a worker anywhere has a job in hand, or ended one lately."""
    in_hand = select(J.c.id).where(J.c.state == JobState.LEASED, J.c.lease_until >= now).limit(1)
    lately = select(J.c.id).where(J.c.finished_at >= now - READS_SECONDS).limit(1)
    with store.read() as connection:
        return any(connection.execute(query).first() is not None for query in (in_hand, lately))


@dataclass(frozen=True)
class Standing:
    """How far a pull is. Rates are those of the last hour, None where there is none yet."""

    brought: int
    given_up: int
    to_bring: int
    read: int
    """Jobs that have ended with an answer."""
    unread: int
    """Jobs that wait, or are being worked on."""
    failed: int
    """Jobs that were given up."""
    brought_per_hour: float | None
    read_per_hour: float | None

    @property
    def total(self) -> int:
        return self.brought + self.given_up + self.to_bring

    @property
    def seconds_left(self) -> float | None:
        """Until all is brought and read at these rates; None where that cannot be told."""
        bring = _left(self.to_bring, self.brought_per_hour)
        read = _left(self.unread + (self.to_bring if self.read_per_hour else 0), self.read_per_hour)
        return None if bring is None or read is None else max(bring, read)


def _left(n: int, per_hour: float | None) -> float | None:
    return 0.0 if not n else n / per_hour * HOUR if per_hour else None


def standing(store: Store, pull: Pull, *, now: float) -> Standing:
    counts = pulls.counts(store, pull.id)
    lately = select(func.count(), func.min(T.c.ended_at)).where(
        T.c.pull_id == pull.id, T.c.state == PullStudyState.DONE, T.c.ended_at > now - HOUR
    )
    states = _jobs(pull, J.c.state, func.count().label("n")).group_by(J.c.state)
    ended = _jobs(pull, func.count(), func.min(J.c.finished_at)).where(J.c.finished_at > now - HOUR)
    with store.read() as connection:
        jobs = {row.state: row.n for row in connection.execute(states)}
        brought = _per_hour(connection.execute(lately).one(), now)
        read = _per_hour(connection.execute(ended).one(), now)
    return Standing(
        brought=counts[PullStudyState.DONE],
        given_up=counts[PullStudyState.DEAD],
        to_bring=sum(counts[state] for state in LEFT),
        read=jobs.get(JobState.DONE, 0) + jobs.get(JobState.REFUSED, 0),
        unread=sum(jobs.get(state, 0) for state in WAITING),
        failed=jobs.get(JobState.DEAD, 0),
        brought_per_hour=brought,
        read_per_hour=read,
    )


def _jobs(pull: Pull, *columns: Any) -> Select[Any]:
    """Of the jobs of studies that this pull brought, of its route where it has one; but what newer ones replaced."""
    query = select(*columns).select_from(P.join(J, J.c.study_id == P.c.study_id))
    query = query.where(P.c.pull == pull.id, or_(J.c.retryable, J.c.state != JobState.DEAD))
    return query.where(J.c.route == pull.pulled.route) if pull.pulled.route else query


def _per_hour(lately: Row[Any], now: float) -> float | None:
    """Of so many since the first one; a single one says nothing."""
    n, first = tuple(lately)
    seconds = now - first if first is not None else 0.0
    return (n - 1) * HOUR / seconds if n > 1 and seconds > 0 else None


@dataclass(frozen=True)
class Cost:
    """What a pull has taken: quantities, to be multiplied by whoever pays."""

    studies: int
    images: int
    received: int
    """Bytes, also of what came twice."""
    transfer_seconds: float
    jobs: int
    worker_seconds: float
    kept_images: int
    """Bytes on disk now."""
    kept_results: int

    @property
    def gpu_hours(self) -> float:
        return self.worker_seconds / HOUR

    def per_thousand(self) -> dict[str, float] | None:
        """The same for a thousand studies; None where there is none yet."""
        if not self.studies:
            return None
        mine = vars(self) | {"jobs": self.jobs}
        return {name: value * 1000 / self.studies for name, value in mine.items() if name != "studies"}

    def price(self, *, gpu_hour: float = 0.0, gb: float = 0.0) -> float:
        """At so much for an hour of one worker and for each GB (10^9 bytes) received."""
        return self.gpu_hours * gpu_hour + self.received / 1e9 * gb


def cost(store: Store, pull: Pull) -> Cost:
    done = func.count(case((T.c.state == PullStudyState.DONE, 1)))
    sums = [func.coalesce(func.sum(column), 0) for column in (T.c.taken, T.c.size, T.c.seconds)]
    transfer = select(done, *sums).where(T.c.pull_id == pull.id)
    worked = _jobs(pull, func.count(), func.coalesce(func.sum(J.c.seconds), 0)).where(J.c.finished_at.isnot(None))
    images = select(func.coalesce(func.sum(I.c.size), 0)).select_from(P.join(I, I.c.study_id == P.c.study_id))
    made = P.join(J, J.c.study_id == P.c.study_id).join(R, R.c.job_id == J.c.id)
    results = select(func.coalesce(func.sum(R.c.size), 0)).select_from(made)
    with store.read() as connection:
        studies, taken, size, seconds = connection.execute(transfer).one()
        jobs, worker_seconds = connection.execute(worked).one()
        kept = connection.execute(images.where(P.c.pull == pull.id, I.c.gone == Gone.KEPT)).scalar_one()
        stored = connection.execute(results.where(P.c.pull == pull.id, R.c.purged.is_(False))).scalar_one()
    return Cost(studies, taken, int(size), float(seconds), jobs, float(worker_seconds), int(kept), int(stored))


COLUMNS = {
    "study_instance_uid": "Study Instance UID",
    "state": "of the study in the pull: QUEUED, LEASED, DONE or DEAD",
    "reason": "why it is not here, or was not brought",
    "attempts": "tries that failed",
    "expected": "instances as the peer counts them",
    "instances": "instances that are here, or were",
    "bytes_received": "of all tries together",
    "transfer_seconds": "of all tries together",
    "ended_at": "when it was here or given up, seconds since 1970, UTC",
    "jobs": "its jobs that ended",
    "worker_seconds": "how long workers had to do with them",
    "bytes_kept": "its images on disk now",
}
"""What `rows` holds of each study."""


def rows(store: Store, pull: Pull) -> Iterator[dict[str, Any]]:
    """Each study of a pull with what it cost; read in lots, so that memory does not grow with the pull."""
    mine = [J.c.route == pull.pulled.route] if pull.pulled.route else []
    ended = and_(J.c.study_id == S.c.id, J.c.finished_at.isnot(None), *mine)
    kept = and_(I.c.study_id == S.c.id, I.c.gone == Gone.KEPT)
    query = select(
        T,
        select(func.count()).select_from(J).where(ended).scalar_subquery().label("jobs"),
        select(func.sum(J.c.seconds)).where(ended).scalar_subquery().label("worker_seconds"),
        select(func.coalesce(func.sum(I.c.size), 0)).where(kept).scalar_subquery().label("bytes_kept"),
    ).select_from(T.outerjoin(S, S.c.study_instance_uid == T.c.study_instance_uid))
    last = 0
    while True:
        lot = query.where(T.c.pull_id == pull.id, T.c.id > last).order_by(T.c.id).limit(LOT)
        with store.read() as connection:
            found = connection.execute(lot).all()
        for row in found:
            values = (
                *(row.study_instance_uid, row.state, row.reason, row.attempts, row.expected, row.taken, row.size),
                *(_round(row.seconds), row.ended_at, row.jobs, _round(row.worker_seconds), row.bytes_kept),
            )
            yield dict(zip(COLUMNS, values, strict=True))
        if len(found) < LOT:
            return
        last = found[-1].id


def _round(seconds: float | None) -> float | None:
    return None if seconds is None or not math.isfinite(seconds) else round(seconds, 3)
