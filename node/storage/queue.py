"""The queue: which job is worked on next, by whom, and for how long it is his.

A claim is a lease with a fence. The more urgent goes first, and of one class what is due longest; what a claim costs
does not grow with the queue. What a pull brought (BULK) comes after all others, also when it has waited longest: a
hundred thousand studies of a cohort would otherwise take every turn by age, for days.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, func, not_, select, update

from node.domain import Gone, Job, JobState, Priority, StudyState, Work
from node.storage import departed, schema
from node.storage.jobs import ARRIVAL, GIVE_WAY
from node.storage.rows import to_instance, to_job, to_result, to_study
from node.storage.store import Store

D = schema.delivery
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
R = schema.result
S = schema.study

BULK_PART = 4
"""Of what a pull brought so small a part of a batch is taken at once: whatever comes meanwhile waits for that."""


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


def _reports_before() -> Any:
    """The Structured Reports of earlier revisions of the same route and series that reach somebody, the last first."""
    stopped = select(D.c.result_id).where(departed.STOPPED)
    earlier = and_(
        J.c.study_id == bindparam("study_id"),
        J.c.route == bindparam("route"),
        J.c.series_instance_uid == bindparam("series"),
    )
    reaches = select(D.c.id).where(D.c.result_id == R.c.id).exists().label("reaches")
    query = select(R, J.c.study_id, J.c.revision, J.c.route, reaches).join(J, J.c.id == R.c.job_id)
    query = query.where(earlier, J.c.revision < bindparam("revision"), R.c.kind == "sr", R.c.id.not_in(stopped))
    return query.order_by(J.c.revision.desc(), R.c.ordinal)


# made once: they run for every job, and to build one costs more than to run it
FREE = (
    select(J.c.id, J.c.due_at, select(func.count()).where(JI.c.job_id == J.c.id).scalar_subquery().label("images"))
    .join(S, S.c.id == J.c.study_id)
    .where(J.c.priority == bindparam("urgency"), S.c.state != StudyState.HELD, not_(_busy()))
    .order_by(J.c.due_at, J.c.id)
    .limit(bindparam("limit"))
)
"""Jobs of one class that nothing forbids to work on, in the order of the queue."""
TAKEN = FREE.with_for_update(skip_locked=True, of=J)
"""The same, locked where the database locks rows: what another claim is about to take is passed over."""
SUSPECT, UNSUSPECTED = J.c.crashes > 0, J.c.crashes == 0
DUE = and_(J.c.state == JobState.QUEUED, J.c.due_at <= bindparam("now"))
EXPIRED = and_(J.c.state == JobState.LEASED, J.c.lease_until < bindparam("now"))
# Waiting and expired ones apart: an index has each in order, and the length of the queue does not matter
READY = [[TAKEN.where(among, state) for state in (DUE, EXPIRED)] for among in (SUSPECT, UNSUSPECTED)]
OVERDUE = [FREE.where(among, DUE) for among in (SUSPECT, UNSUSPECTED)]
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
STUDY = select(S).where(S.c.id == bindparam("study_id"))
MEMBERS = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == bindparam("job_id")).order_by(*ARRIVAL)
REPORTS_BEFORE = _reports_before()


def claim(store: Store, worker: str, limit: int, *, now: float, lease: float, by_age: bool = False) -> list[Work]:
    """Lease jobs of the most urgent class that is due, the oldest first, until their images are `limit` or more.

    Jobs of one class only, and no more than one batch of images (of BULK a quarter): an urgent study that comes
    meanwhile waits for no more than that. `by_age`: the class of whoever has waited longest, so that none waits for
    ever but BULK, which is the last even so. Each claim raises the fence, so that a late worker's answer is void. A job
    that took its worker down before is claimed alone: should it do so again, it takes nobody with it.
    """
    suspect, unsuspected = READY
    with store.claim() as connection:
        for urgency in _by_age(connection, now) if by_age else Priority:
            chosen = [row.id for row in _first(connection, suspect, urgency, 1, now)]
            most = max(limit // BULK_PART, 1) if urgency is Priority.BULK else limit
            chosen = chosen or _batch(_first(connection, unsuspected, urgency, most, now), most)
            if chosen:
                rows = connection.execute(LEASE, {"chosen": chosen, "by": worker, "until": now + lease}).all()
                return [_work(store, connection, row) for row in sorted(rows, key=lambda r: r.id)]
    return []


def _by_age(connection: Connection, now: float) -> list[Priority]:
    """The classes of urgency that have something due, by who has waited longest; BULK after all others."""
    heads = {
        urgency: min(row.due_at for row in rows)
        for urgency in Priority
        if (rows := [row for queries in READY for row in _first(connection, queries, urgency, 1, now)])
    }
    return sorted(heads, key=lambda urgency: (urgency is Priority.BULK, heads[urgency]))


def _first(
    connection: Connection, queries: Iterable[Select[Any]], urgency: Priority, limit: int, now: float
) -> list[Any]:
    """Of one class the jobs that are due longest, of all that the queries find."""
    given = {"urgency": urgency, "limit": limit, "now": now}
    found = [row for query in queries for row in connection.execute(query, given)]
    return sorted(found, key=lambda row: (row.due_at, row.id))[:limit]


def _batch(rows: Sequence[Any], limit: int) -> list[int]:
    """As many of these jobs as their images fill one batch, and one at least."""
    chosen: list[int] = []
    images = 0
    for row in rows:
        if chosen and images + row.images > limit:
            break
        chosen.append(row.id)
        images += row.images
    return chosen


def _work(store: Store, connection: Connection, leased: Row[Any]) -> Work:
    job = to_job(leased)
    study = to_study(connection.execute(STUDY, {"study_id": job.study_id}).one())
    members = [to_instance(store, row) for row in connection.execute(MEMBERS, {"job_id": job.id})]
    if job.choice:
        place = {uid: i for i, uid in enumerate(job.choice.frames)}
        members.sort(key=lambda m: place.get(m.sop_instance_uid, len(place)))
    one = {"study_id": job.study_id, "route": job.route, "series": job.series_instance_uid, "revision": job.revision}
    # Who is sent a report must know the one that it names: what only a shadow route said he does not
    last = [row for row in connection.execute(REPORTS_BEFORE, one) if row.reaches or not leased.deliver_to]
    before = [to_result(store, row) for row in last if row.revision == last[0].revision]
    return Work(
        job,
        study,
        tuple(m for m in members if m.gone is Gone.KEPT),
        tuple(m.sop_instance_uid for m in members if m.gone is not Gone.KEPT),
        tuple(before),
    )


def renew(store: Store, works: Sequence[Work], *, now: float, lease: float) -> None:
    """Extend leases that are still ours: this worker makes progress."""
    with store.claim() as connection:
        for work in works:
            mine = and_(J.c.id == work.job.id, J.c.state == JobState.LEASED, J.c.fence == work.job.fence)
            connection.execute(update(J).where(mine).values(lease_until=now + lease))


def is_held(store: Store, job: Job) -> bool:
    """Whether a claimed job is still with whoever claimed it: nobody else has taken or ended it."""
    mine = and_(J.c.id == job.id, J.c.state == JobState.LEASED, J.c.fence == job.fence)
    with store.read() as connection:
        return connection.execute(select(J.c.id).where(mine)).first() is not None


def put_back(store: Store, works: Sequence[Work], *, now: float) -> None:
    """What this worker still holds and does not work on: the database or the engine was away. It costs no attempt."""
    values = {"state": JobState.QUEUED, "lease_until": None, "due_at": now, "attempts": J.c.attempts - 1}
    with store.write() as connection:
        for work in works:
            mine = and_(J.c.id == work.job.id, J.c.state == JobState.LEASED, J.c.fence == work.job.fence)
            connection.execute(update(J).where(mine).values(**values))
            connection.execute(GIVE_WAY, {"job_id": work.job.id})


def next_due(store: Store) -> float | None:
    """When the next job is due that anybody may claim."""
    with store.read() as connection:
        firsts = [
            connection.execute(query, {"urgency": urgency, "limit": 1}).first()
            for urgency in Priority
            for query in WAITING
        ]
    return min((first.due_at for first in firsts if first), default=None)


def first_due(connection: Connection, urgency: Priority, now: float) -> float | None:
    """Since when the job of this class is due that waits longest; None where none is."""
    rows = _first(connection, OVERDUE, urgency, 1, now)
    return float(rows[0].due_at) if rows else None
