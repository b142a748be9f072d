"""The one transaction of routing: a settled study gets its jobs, or its reasons for having none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blake3 import blake3
from sqlalchemy import Connection, and_, bindparam, delete, insert, not_, or_, select, update

from node.domain import Choice, DeliveryState, Gone, JobState, Matched, Priority, Study, StudyState
from node.storage import departed, events, pulled, schema
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


def _stopped() -> Any:
    """Jobs whose results a correction has stopped: they said nothing that could be counted on."""
    stopped = and_(departed.STOPPED, R.c.withdrawn_at.is_(None))
    return select(R.c.job_id).join(D, D.c.result_id == R.c.id).where(R.c.job_id == J.c.id, stopped).exists()


# made once: they run for every study that is routed, and to build one costs more than to run it
STUDY = select(S).where(S.c.id == bindparam("study_id"))
ROUTED = update(S).where(S.c.id == bindparam("study_id")).returning(S)
ROUTED = ROUTED.values(state=bindparam("routed_as"), reason=bindparam("why"))
FORGET = delete(W).where(W.c.study_id == bindparam("study_id"), W.c.revision == bindparam("revision"))
OF_ROUTE = and_(J.c.study_id == bindparam("of_study"), J.c.route == bindparam("of_route"))
OF_SERIES = J.c.series_instance_uid == bindparam("series")
LAST = select(J).where(OF_ROUTE, OF_SERIES, J.c.retryable, not_(_stopped())).order_by(J.c.revision.desc()).limit(1)
AVAILABLE = select(I).where(I.c.id.in_(bindparam("ids", expanding=True)))
GONE = select(I).join(JI, JI.c.instance_id == I.c.id).where(JI.c.job_id == bindparam("job_id"), I.c.gone != Gone.KEPT)
JOB = insert(J).returning(J.c.id)
SUPERSEDE = (
    update(J)
    # also those of before the route went by series, or did not any more
    .where(OF_ROUTE, or_(OF_SERIES, (J.c.series_instance_uid == "") != (bindparam("series") == "")))
    .where(J.c.revision < bindparam("before"), J.c.state.in_((JobState.QUEUED, JobState.DEAD)))
    .values(state=JobState.DEAD, retryable=False, reason=bindparam("why"))
)


HURRY = (
    update(J)
    .where(J.c.id == bindparam("of_job"), J.c.priority > bindparam("urgency"))
    .values(priority=bindparam("urgency")),
    update(D)
    .where(D.c.result_id.in_(select(R.c.id).where(R.c.job_id == bindparam("of_job"))))
    .where(D.c.state == DeliveryState.QUEUED, D.c.priority > bindparam("urgency"))
    .values(priority=bindparam("urgency")),
)
"""What waits of a job becomes as urgent as its study is now, never less."""


@dataclass(frozen=True)
class Wanted:
    """One route's answer to a study, ready to become a job where it matched, or one for each series."""

    matched: Matched
    bundle: str
    deliver_to: Mapping[str, Sequence[str]]
    """The destinations, and which kinds of results each of them gets; none named means all."""
    choices: tuple[Choice, ...] = ()
    """What is read of each series, where the route goes by series; `matched` then holds the chosen instances."""
    priority: Priority = Priority.ROUTINE


def waiting(store: Store, limit: int = 1000) -> list[tuple[Study, bool]]:
    """Studies that are SETTLED, each with whether a pull brought it: those that were sent come first, then by age."""
    query = select(S, pulled.IN_FORCE.label("pulled")).where(S.c.state == StudyState.SETTLED)
    with store.read() as connection:
        rows = connection.execute(query.order_by(pulled.IN_FORCE, S.c.last_received_at).limit(limit))
        return [(to_study(row), bool(row.pulled)) for row in rows]


def input_digest(instances: Sequence[tuple[str, str]]) -> str:
    """One digest over (SOP Instance UID, digest) of the instances that a route analyses, in any order."""
    lines = sorted(f"{uid}\x1f{digest}" for uid, digest in instances)
    return blake3("\x1e".join(lines).encode()).hexdigest()


def route(store: Store, study: Study, wanted: Sequence[Wanted], *, now: float) -> Study:
    """SETTLED -> ROUTED or UNROUTED, with jobs for each route that matched, all in one transaction.

    A route that would read and say of a series, or of the study, the same as in its last job makes no new one; when a
    person asked, or the study is none of a pull any more, only if its bundle and its destinations are the same too.
    """
    with store.write() as connection:
        row = connection.execute(STUDY, {"study_id": study.id}).one()
        if row.state != StudyState.SETTLED or row.revision != study.revision:
            return to_study(row)
        asked = pulled.take_leave(connection, study.id) or study.settled_by == ASKED
        made = [_jobs(connection, study, want, asked, now) for want in wanted]
        this = {"study_id": study.id, "revision": study.revision}
        connection.execute(FORGET, this)
        for want, reason in zip(wanted, made, strict=True):
            values = {"route": want.matched.route, "matched": len(want.matched.instance_ids), "reason": reason}
            connection.execute(insert(W), this | values)
            events.add(connection, study.id, "route", f"{want.matched.route}: {reason}", now=now)
        state, reason = routed_as(connection, study.id, study.revision)
        if not wanted:
            events.add(connection, study.id, "route", reason, now=now)
        routed = {"study_id": study.id, "routed_as": state, "why": reason}
        return to_study(connection.execute(ROUTED, routed).one())


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


def _jobs(connection: Connection, study: Study, want: Wanted, asked: bool, now: float) -> str:
    """Make the jobs of one route, where there is something new to analyse; the reason in words."""
    if not want.matched.instance_ids:
        return want.matched.reason
    said = [_job(connection, study, want, choice, asked, now) for choice in want.choices or (None,)]
    return "; ".join([want.matched.reason, *(s for s in said if s)])


def _job(connection: Connection, study: Study, want: Wanted, choice: Choice | None, asked: bool, now: float) -> str:
    """Make one job, of the study or of one series; in words why not, where there is nothing new."""
    series = choice.series_instance_uid if choice else ""
    this = {"of_study": study.id, "of_route": want.matched.route, "series": series}
    last = connection.execute(LAST, this).first()
    matching = connection.execute(AVAILABLE, {"ids": want.matched.instance_ids})
    available = [row for row in matching if choice is None or row.series_instance_uid == series]
    # of the last job, files that were purged or lost since
    gone = connection.execute(GONE, {"job_id": last.id}).all() if last else []
    inputs = [(row.sop_instance_uid, row.digest) for row in (*available, *gone)]
    # What is said of the whole series belongs to the input: "5 of 121 images" is another report than "5 of 120"
    digest = input_digest([*inputs, (choice.sentence, "")] if choice else inputs)
    deliver_to = {peer: list(kinds) for peer, kinds in want.deliver_to.items()}
    # A newer bundle or another destination alone rewrites no report: only where somebody asked for it
    as_before = last is not None and (last.bundle, last.deliver_to) == (want.bundle, deliver_to)
    if last and last.input_digest == digest and (as_before or not asked):
        for hurry in HURRY:  # a pull had brought it, and now somebody waits for it
            connection.execute(hurry, {"of_job": last.id, "urgency": want.priority})
        of = f"{choice.name} " if choice else ""
        return f"{of}unchanged since revision {last.revision}, no new job"
    # Jobs of earlier revisions that have made nothing yet never will: the new one says all that they would
    why = f"superseded by revision {study.revision}"
    connection.execute(SUPERSEDE, this | {"before": study.revision, "why": why})
    new = {
        "study_id": study.id,
        "revision": study.revision,
        "route": want.matched.route,
        "bundle": want.bundle,
        "series_instance_uid": series,
        "choice": asdict(choice) if choice else None,
        "input_digest": digest,
        "state": JobState.QUEUED,
        "due_at": now,
        "priority": want.priority,
        "deliver_to": deliver_to,
        "created_at": now,
    }
    job_id = connection.execute(JOB, new).scalar_one()
    members = {row.id for row in (*available, *gone)}
    connection.execute(insert(JI), [{"job_id": job_id, "instance_id": i} for i in sorted(members)])
    return ""
