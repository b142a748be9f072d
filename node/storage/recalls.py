"""Rows of results that are taken back: which there are of one bundle version, how they are stopped and withdrawn.

To stop is one transaction and to withdraw another: in between the document is made. Each may be repeated, and a node
that was killed between them goes on where it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, insert, or_, select, update

from node.domain import Built, DeliveryState, Job, JobState, Result, Study
from node.storage import events, notes, schema
from node.storage.routing import ASKED
from node.storage.rows import to_job, to_result, to_study
from node.storage.store import Store
from node.storage.trials import tests

D = schema.delivery
F = schema.form
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
R = schema.result
S = schema.study

KIND = "withdrawal"
UNDONE = (JobState.QUEUED, JobState.LEASED, JobState.DEAD)


@dataclass(frozen=True)
class Recalled:
    """One job of a recalled bundle, with what it made and where that went."""

    job: Job
    study: Study
    results: tuple[Result, ...]
    deliveries: dict[int, tuple[tuple[str, DeliveryState], ...]]
    """Destination and state, by the result's row."""
    superseded: bool
    """Another version has read the study since, or will."""
    asked: bool
    """Its routes were asked anew since it was made."""
    withdrawn: bool
    """Nothing of it is left to withdraw."""


@dataclass(frozen=True)
class Arrived:
    """One object that a destination has, or may have; its own UID where it went in a form."""

    peer: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    digest: str


def bundles(store: Store) -> list[str]:
    """All bundle versions that ever had a job."""
    with store.read() as connection:
        return list(connection.execute(select(J.c.bundle).distinct().order_by(J.c.bundle)).scalars())


def of_bundle(store: Store, bundle: str, *, since: float, until: float, route: str = "") -> list[Recalled]:
    """The jobs of one bundle version that ended, or were made, in this time; by study."""
    made_at = func.coalesce(J.c.finished_at, J.c.created_at)
    query = select(J).where(J.c.bundle == bundle, made_at >= since, made_at < until, J.c.study_id.not_in(tests()))
    query = query.where(J.c.route == route) if route else query
    # What something newer took the place of before it said anything is nobody's concern
    query = query.where(or_(J.c.retryable, J.c.id.in_(select(R.c.job_id))))
    with store.read() as connection:
        jobs = [to_job(row) for row in connection.execute(query.order_by(J.c.study_id, J.c.id))]
        return [_recalled(store, connection, job) for job in jobs]


def _recalled(store: Store, connection: Connection, job: Job) -> Recalled:
    study = to_study(connection.execute(select(S).where(S.c.id == job.study_id)).one())
    rows = connection.execute(
        select(R, J.c.study_id, J.c.revision, J.c.route)
        .join(J, J.c.id == R.c.job_id)
        .where(R.c.job_id == job.id)
        .order_by(R.c.id)
    )
    results = [to_result(store, row) for row in rows]
    went: dict[int, list[tuple[str, DeliveryState]]] = defaultdict(list)
    sent = select(D).where(D.c.result_id.in_([r.id for r in results])).order_by(D.c.id)
    for row in connection.execute(sent):
        went[row.result_id].append((row.peer, DeliveryState(row.state)))
    later = select(J.c.id).where(J.c.study_id == job.study_id, J.c.route == job.route, J.c.revision > job.revision)
    asked = study.settled_by == ASKED and study.revision > job.revision
    own = [r for r in results if r.kind != KIND]
    document = any(r.kind == KIND for r in results) or not any(_arrived(connection, job.id))
    return Recalled(
        job=job,
        study=study,
        results=tuple(results),
        deliveries={result_id: tuple(pairs) for result_id, pairs in went.items()},
        superseded=connection.execute(later.where(J.c.bundle != job.bundle).limit(1)).first() is not None,
        asked=asked,
        withdrawn=bool(own) and document and all(r.withdrawn_at for r in own),
    )


def images_left(store: Store, study_id: int) -> tuple[int, float | None]:
    """How many images of a study are still there, and when the last of the others was purged."""
    here = func.sum(case((I.c.gone == "", 1), else_=0))
    with store.read() as connection:
        row = connection.execute(select(here, func.max(I.c.gone_at)).where(I.c.study_id == study_id)).one()
        return int(row[0] or 0), row[1]


def stop(store: Store, job_id: int, reason: str, *, now: float) -> bool:
    """Results of a job are withdrawn: what was not delivered never will be, and what is not finished is not finished.

    Returns:
        False when that was so already.
    """
    own = and_(R.c.job_id == job_id, R.c.kind != KIND)
    theirs = D.c.result_id.in_(select(R.c.id).where(own))
    ended = {"state": DeliveryState.DEAD, "retryable": False, "reason": reason, "lease_until": None}
    with store.write() as connection:
        changed = connection.execute(update(R).where(own, R.c.withdrawn_at.is_(None)).values(withdrawn_at=now)).rowcount
        # Whatever is on its way just now counts as tried: it may arrive
        tried = case((D.c.state == DeliveryState.LEASED, D.c.attempts + 1), else_=D.c.attempts)
        waiting = D.c.state.in_((DeliveryState.QUEUED, DeliveryState.LEASED, DeliveryState.DEAD))
        connection.execute(
            update(D).where(theirs, waiting, D.c.retryable).values(attempts=tried, fence=D.c.fence + 1, **ended)
        )
        # Nor are the others asked about or, where that says so, sent again; also if a person asks for it
        connection.execute(update(D).where(theirs).values(proof_due_at=None, asks=0, retryable=False))
        undone = and_(J.c.id == job_id, J.c.state.in_(UNDONE), J.c.retryable)
        dead = {"state": JobState.DEAD, "retryable": False, "reason": reason, "lease_until": None, "finished_at": now}
        changed += connection.execute(update(J).where(undone).values(fence=J.c.fence + 1, **dead)).rowcount
        if changed:
            job = connection.execute(select(J).where(J.c.id == job_id)).one()
            events.add(connection, job.study_id, "recall", f"{job.route}: {job.bundle} {reason}", now=now)
            if job.state in notes.ENDED:
                notes.keep(store, connection, job_id)
        return bool(changed)


def arrived(store: Store, job_id: int) -> list[Arrived]:
    """The objects of a job that destinations have or may have."""
    with store.read() as connection:
        return list(_arrived(connection, job_id))


def _arrived(connection: Connection, job_id: int) -> Iterator[Arrived]:
    """Whatever was ever on its way: a peer may keep an object and its answer be lost."""
    names = ("sop_class_uid", "sop_instance_uid", "digest")
    on_its_way = or_(
        D.c.state.in_((DeliveryState.LEASED, DeliveryState.SENT, DeliveryState.COMMITTED)),
        and_(
            D.c.state != DeliveryState.OMITTED,
            or_(D.c.attempts > 0, D.c.sent_at.isnot(None), D.c.status.isnot(None)),
        ),
    )
    sent = select(D, R.c.series_instance_uid, *(R.c[name] for name in names)).join(R, R.c.id == D.c.result_id)
    sent = sent.where(R.c.job_id == job_id, R.c.kind != KIND, on_its_way).order_by(R.c.id, D.c.id)
    told = select(F).join(R, R.c.id == F.c.result_id).where(R.c.job_id == job_id).order_by(F.c.id)
    forms = connection.execute(told).all()
    for row in connection.execute(sent):
        has = [form for form in forms if form.id == row.form_id] or [row]
        if row.status is None:  # nor is it known in which form it went
            has = [row, *(form for form in forms if form.result_id == row.result_id)]
        for one in has:
            yield Arrived(row.peer, row.series_instance_uid, one.sop_class_uid, one.sop_instance_uid, one.digest)


def withdraw(store: Store, job: Job, documents: Sequence[tuple[Built, Sequence[str]]], *, now: float) -> bool:
    """Withdrawals become results of the job, each to be delivered to the destinations that it is for.

    Returns:
        False when the job has some already.
    """
    with store.write() as connection:
        same = and_(R.c.job_id == job.id, R.c.kind == KIND)
        if connection.execute(select(R.c.id).where(same)).first():
            return False
        for document, peers in documents:
            _add(store, connection, job, document, peers, now)
        notes.keep(store, connection, job.id)
        return True


def _add(store: Store, connection: Connection, job: Job, document: Built, peers: Sequence[str], now: float) -> None:
    values = {
        "kind": KIND,
        "ordinal": document.ordinal,
        "sop_instance_uid": document.sop_instance_uid,
        "sop_class_uid": document.sop_class_uid,
        "series_instance_uid": document.series_instance_uid,
        "path": str(document.path.relative_to(store.spool_root)),
        "digest": document.digest,
        "size": document.size,
    }
    result_id = connection.execute(
        insert(R).values(job_id=job.id, created_at=now, **values).returning(R.c.id)
    ).scalar_one()
    for peer in peers:
        new = {"peer": peer, "state": DeliveryState.QUEUED, "due_at": now, "created_at": now}
        connection.execute(insert(D).values(result_id=result_id, priority=job.priority, **new))
    text = f"{job.route}: a withdrawal of {job.bundle} goes to {', '.join(peers)}"
    events.add(connection, job.study_id, "recall", text, now=now)
