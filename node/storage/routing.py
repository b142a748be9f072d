"""The one transaction of routing: a settled study gets its jobs, or its reasons for having none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blake3 import blake3
from sqlalchemy import Connection, delete, insert, or_, select, update

from node.domain import Choice, Gone, JobState, Matched, Study, StudyState
from node.storage import events, schema
from node.storage.rows import to_study
from node.storage.store import Store
from node.storage.studies import routed_as

I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
S = schema.study
W = schema.route_reason


@dataclass(frozen=True)
class Wanted:
    """One route's answer to a study, ready to become a job where it matched, or one for each series."""

    matched: Matched
    bundle: str
    deliver_to: Mapping[str, Sequence[str]]
    """The destinations, and which kinds of results each of them gets; none named means all."""
    choices: tuple[Choice, ...] = ()
    """What is read of each series, where the route goes by series; `matched` then holds the chosen instances."""


def input_digest(instances: Sequence[tuple[str, str]]) -> str:
    """One digest over (SOP Instance UID, digest) of the instances that a route analyses, in any order."""
    lines = sorted(f"{uid}\x1f{digest}" for uid, digest in instances)
    return blake3("\x1e".join(lines).encode()).hexdigest()


def route(store: Store, study: Study, wanted: Sequence[Wanted], *, now: float) -> Study:
    """SETTLED -> ROUTED or UNROUTED, with jobs for each route that matched, all in one transaction.

    A route that would read and say of a series, or of the study, the same as in its last job makes no new one.
    """
    with store.write() as connection:
        row = connection.execute(select(S).where(S.c.id == study.id)).one()
        if row.state != StudyState.SETTLED or row.revision != study.revision:
            return to_study(row)
        made = [_jobs(connection, study, want, now) for want in wanted]
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

    A route whose instances are the same as in its last job makes no new one.

    Returns:
        False when the study is not in a state in which that can be asked.
    """
    with store.write() as connection:
        changed = connection.execute(
            update(S)
            .where(S.c.id == study.id, S.c.state.in_((StudyState.ROUTED, StudyState.UNROUTED)))
            .values(
                state=StudyState.SETTLED, revision=S.c.revision + 1, settled_by="a person asked again", settled_at=now
            )
        ).rowcount
        if changed:
            events.add(connection, study.id, "settle", "a person asked to route again", now=now)
        return bool(changed)


def _jobs(connection: Connection, study: Study, want: Wanted, now: float) -> str:
    """Make the jobs of one route, where there is something new to analyse; the reason in words."""
    if not want.matched.instance_ids:
        return want.matched.reason
    said = [_job(connection, study, want, choice, now) for choice in want.choices or (None,)]
    return "; ".join([want.matched.reason, *(s for s in said if s)])


def _job(connection: Connection, study: Study, want: Wanted, choice: Choice | None, now: float) -> str:
    """Make one job, of the study or of one series; in words why not, where there is nothing new."""
    series = choice.series_instance_uid if choice else ""
    last = connection.execute(
        select(J)
        .where(J.c.study_id == study.id, J.c.route == want.matched.route, J.c.series_instance_uid == series)
        .where(J.c.retryable)
        .order_by(J.c.revision.desc())
    ).first()
    matching = select(I).where(I.c.id.in_(want.matched.instance_ids))
    available = connection.execute(matching.where(I.c.series_instance_uid == series) if choice else matching).all()
    gone = _gone(connection, last.id) if last else []
    inputs = [(row.sop_instance_uid, row.digest) for row in (*available, *gone)]
    # What is said of the whole series belongs to the input: "5 of 121 images" is another report than "5 of 120"
    digest = input_digest([*inputs, (choice.sentence, "")] if choice else inputs)
    if last and last.input_digest == digest:
        of = f"{choice.name} " if choice else ""
        return f"{of}unchanged since revision {last.revision}, no new job"
    _supersede(connection, study, want.matched.route, series)
    job_id = connection.execute(
        insert(J)
        .values(
            study_id=study.id,
            revision=study.revision,
            route=want.matched.route,
            bundle=want.bundle,
            series_instance_uid=series,
            choice=asdict(choice) if choice else None,
            input_digest=digest,
            state=JobState.QUEUED,
            due_at=now,
            deliver_to={peer: list(kinds) for peer, kinds in want.deliver_to.items()},
            created_at=now,
        )
        .returning(J.c.id)
    ).scalar_one()
    members = {row.id for row in (*available, *gone)}
    connection.execute(insert(JI), [{"job_id": job_id, "instance_id": i} for i in sorted(members)])
    return ""


def _supersede(connection: Connection, study: Study, route: str, series: str) -> None:
    """Jobs of earlier revisions that have made nothing yet never will: the new one says all that they would.

    So do those of before the route went by series, or did not any more.
    """
    other_kind = J.c.series_instance_uid == "" if series else J.c.series_instance_uid != ""
    connection.execute(
        update(J)
        .where(J.c.study_id == study.id, J.c.route == route, J.c.revision < study.revision)
        .where(or_(J.c.series_instance_uid == series, other_kind))
        .where(J.c.state.in_((JobState.QUEUED, JobState.DEAD)))
        .values(state=JobState.DEAD, retryable=False, reason=f"superseded by revision {study.revision}")
    )


def _gone(connection: Connection, job_id: int) -> Sequence[Any]:
    """The instances of a job whose files were purged or lost since."""
    query = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == job_id)
    return connection.execute(query.where(I.c.gone != Gone.KEPT)).all()
