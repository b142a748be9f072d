"""The one transaction of routing: a settled study gets its jobs, or its reasons for having none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from sqlalchemy import Connection, and_, delete, insert, select, update

from node.domain import DeliveryState, Gone, JobState, Matched, Priority, Study, StudyState
from node.storage import events, schema
from node.storage.rows import to_study
from node.storage.store import Store
from node.storage.studies import routed_as

D = schema.delivery
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
R = schema.result
S = schema.study
W = schema.route_reason

ASKED = "a person asked again"
"""Says of a revision that nothing came: its routes were asked anew."""


@dataclass(frozen=True)
class Wanted:
    """One route's answer to a study, ready to become a job where it matched."""

    matched: Matched
    bundle: str
    deliver_to: tuple[str, ...]
    priority: Priority = Priority.ROUTINE


def input_digest(instances: Sequence[tuple[str, str]]) -> str:
    """One digest over (SOP Instance UID, digest) of the instances that a route analyses, in any order."""
    lines = sorted(f"{uid}\x1f{digest}" for uid, digest in instances)
    return blake3("\x1e".join(lines).encode()).hexdigest()


def route(store: Store, study: Study, wanted: Sequence[Wanted], *, now: float) -> Study:
    """SETTLED -> ROUTED or UNROUTED, with a job for each route that matched, all in one transaction.

    A route whose instances are the same as in its last job makes no new one; when a person asked, only if its bundle
    is the same too.
    """
    with store.write() as connection:
        row = connection.execute(select(S).where(S.c.id == study.id)).one()
        if row.state != StudyState.SETTLED or row.revision != study.revision:
            return to_study(row)
        made = [_job(connection, study, want, now) for want in wanted]
        connection.execute(delete(W).where(W.c.study_id == study.id, W.c.revision == study.revision))
        for want, reason in zip(wanted, made, strict=True):
            values = {"route": want.matched.route, "matched": len(want.matched.instance_ids), "reason": reason}
            connection.execute(insert(W).values(study_id=study.id, revision=study.revision, **values))
            events.add(connection, study.id, "route", f"{want.matched.route}: {reason}", now=now)
        state, reason = routed_as(connection, study.id, study.revision)
        if not wanted:
            events.add(connection, study.id, "route", reason, now=now)
        connection.execute(update(S).where(S.c.id == study.id).values(state=state, reason=reason))
        return to_study(connection.execute(select(S).where(S.c.id == study.id)).one())


def again(store: Store, study: Study, *, now: float) -> bool:
    """Decide anew which routes apply: ROUTED or UNROUTED -> SETTLED with the next revision.

    A route whose instances and bundle are the same as in its last job makes no new one.

    Returns:
        False when the study is not in a state in which that can be asked.
    """
    with store.write() as connection:
        changed = connection.execute(
            update(S)
            .where(S.c.id == study.id, S.c.state.in_((StudyState.ROUTED, StudyState.UNROUTED)))
            .values(state=StudyState.SETTLED, revision=S.c.revision + 1, settled_by=ASKED, settled_at=now)
        ).rowcount
        if changed:
            events.add(connection, study.id, "settle", "a person asked to route again", now=now)
        return bool(changed)


def _job(connection: Connection, study: Study, want: Wanted, now: float) -> str:
    """Make the job of one route, where there is something new to analyse; the reason in words."""
    if not want.matched.instance_ids:
        return want.matched.reason
    last = connection.execute(
        select(J)
        .where(J.c.study_id == study.id, J.c.route == want.matched.route, J.c.retryable, J.c.id.not_in(_stopped()))
        .order_by(J.c.revision.desc())
    ).first()
    available = [
        (row.sop_instance_uid, row.digest)
        for row in connection.execute(select(I).where(I.c.id.in_(want.matched.instance_ids)))
    ]
    gone = _gone(connection, last.id) if last else []
    digest = input_digest([*available, *[(row.sop_instance_uid, row.digest) for row in gone]])
    # A newer bundle alone rewrites no report: only where somebody asked for it
    other_bundle = last is not None and last.bundle != want.bundle and study.settled_by == ASKED
    if last and last.input_digest == digest and not other_bundle:
        return f"{want.matched.reason}; unchanged since revision {last.revision}, no new job"
    _supersede(connection, study, want.matched.route)
    job_id = connection.execute(
        insert(J)
        .values(
            study_id=study.id,
            revision=study.revision,
            route=want.matched.route,
            bundle=want.bundle,
            input_digest=digest,
            state=JobState.QUEUED,
            due_at=now,
            priority=want.priority,
            deliver_to=list(want.deliver_to),
            created_at=now,
        )
        .returning(J.c.id)
    ).scalar_one()
    members = [*want.matched.instance_ids, *[row.id for row in gone]]
    connection.execute(insert(JI), [{"job_id": job_id, "instance_id": i} for i in sorted(set(members))])
    return want.matched.reason


def _stopped() -> Any:
    """Jobs whose results a correction has stopped: they said nothing that could be counted on."""
    stopped = and_(D.c.state == DeliveryState.DEAD, D.c.retryable.is_(False), R.c.withdrawn_at.is_(None))
    return select(R.c.job_id).join(D, D.c.result_id == R.c.id).where(stopped)


def _supersede(connection: Connection, study: Study, route: str) -> None:
    """Jobs of earlier revisions that have made nothing yet never will: the new one says all that they would."""
    connection.execute(
        update(J)
        .where(J.c.study_id == study.id, J.c.route == route, J.c.revision < study.revision)
        .where(J.c.state.in_((JobState.QUEUED, JobState.DEAD)))
        .values(state=JobState.DEAD, retryable=False, reason=f"superseded by revision {study.revision}")
    )


def _gone(connection: Connection, job_id: int) -> Sequence[Any]:
    """The instances of a job whose files were purged or lost since."""
    query = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == job_id)
    return connection.execute(query.where(I.c.gone != Gone.KEPT)).all()
