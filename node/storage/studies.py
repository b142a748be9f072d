"""Rows of studies and associations: finding them, settling them, and the decisions about held ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, func, not_, or_, select, update

from node.domain import (
    DeliveryState,
    InstanceState,
    JobState,
    Matched,
    Origin,
    Study,
    StudyState,
)
from node.errors import AmbiguousStudy, HeldError, NoSuchStudy
from node.storage import associations, events, notes, schema
from node.storage.instances import patient_key
from node.storage.pulled import IN_FORCE
from node.storage.rows import to_origin, to_study
from node.storage.store import Store
from node.storage.trials import COUNTS, OURSELVES, tests

A = schema.association
D = schema.delivery
I = schema.instance  # noqa: E741
J = schema.job
R = schema.result
S = schema.study
W = schema.route_reason

REASONS = select(W).where(W.c.study_id == bindparam("study_id"), W.c.revision == bindparam("revision")).order_by(W.c.id)


@dataclass(frozen=True)
class Arriving:
    """A study that may be complete, with what its associations say."""

    study: Study
    open_associations: int
    aborted: bool
    last_release_at: float | None
    comparing: int
    pulled: bool = False
    """A pull brought it, and nobody has sent it since."""


def begin_association(store: Store, origin: Origin) -> None:
    """Asked again where the server was gone before it answered: the row may be there."""
    with store.write() as connection:
        if connection.execute(select(A.c.id).where(A.c.id == origin.id)).first() is None:
            associations.begin(store, connection, origin)


def end_association(store: Store, association: str, how: str, *, now: float) -> None:
    with store.write() as connection:
        connection.execute(update(A).where(A.c.id == association, A.c.ended_at.is_(None)).values(ended_at=now, how=how))


def end_all_associations(store: Store, *, now: float) -> int:
    """After a restart of this host's listener: whatever it had open is lost."""
    with store.write() as connection:
        return associations.lose(connection, A.c.host == store.host, now=now)


def origin(store: Store, association: str) -> Origin | None:
    with store.read() as connection:
        row = connection.execute(select(A).where(A.c.id == association)).first()
    return to_origin(row) if row else None


def arriving(store: Store) -> list[Arriving]:
    """All studies that are RECEIVING, those that were sent before those that were pulled, each the oldest first."""
    latest = (
        select(
            I.c.study_id,
            _number(and_(A.c.id.isnot(None), A.c.ended_at.is_(None))).label("open"),
            _number(and_(A.c.how != "", A.c.how != "released")).label("aborted"),
            func.max(A.c.ended_at).label("ended_at"),
            _number(I.c.state == InstanceState.COMPARING).label("comparing"),
        )
        .select_from(I.join(S, S.c.id == I.c.study_id).outerjoin(A, A.c.id == I.c.association))
        .where(S.c.state == StudyState.RECEIVING)
        .group_by(I.c.study_id)
        .subquery()
    )
    query = select(S, latest, IN_FORCE.label("pulled")).join(latest, latest.c.study_id == S.c.id)
    query = query.order_by(IN_FORCE, S.c.last_received_at)
    with store.read() as connection:
        return [
            Arriving(
                to_study(row),
                int(row.open or 0),
                bool(row.aborted),
                row.ended_at,
                int(row.comparing or 0),
                bool(row.pulled),
            )
            for row in connection.execute(query)
        ]


def _number(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))


def settle(store: Store, study: Study, settled_by: str, *, image_digest: str, now: float) -> Study | None:
    """RECEIVING -> SETTLED with the next revision; back to what it was when no image came or went since.

    Returns:
        The study as it is now, or None when an instance arrived meanwhile and the study must wait again.
    """
    with store.write() as connection:
        row = connection.execute(select(S).where(S.c.id == study.id)).one()
        if row.state != StudyState.RECEIVING or row.last_received_at != study.last_received_at:
            return None
        if row.revision and row.settled_digest == image_digest:
            state, reason = routed_as(connection, row.id, row.revision)
            connection.execute(update(S).where(S.c.id == study.id).values(state=state, reason=reason))
            events.add(connection, study.id, "settle", "nothing new to analyse", now=now)
        else:
            connection.execute(
                update(S)
                .where(S.c.id == study.id)
                .values(
                    state=StudyState.SETTLED,
                    revision=row.revision + 1,
                    settled_digest=image_digest,
                    settled_by=settled_by,
                    settled_at=now,
                )
            )
            text = f"settled as revision {row.revision + 1}: {settled_by}"
            events.add(connection, study.id, "settle", text, now=now)
        return to_study(connection.execute(select(S).where(S.c.id == study.id)).one())


def routed_as(connection: Connection, study_id: int, revision: int) -> tuple[StudyState, str]:
    """What routing made of a revision: its state, and the reason where no route took anything."""
    answers = connection.execute(REASONS, {"study_id": study_id, "revision": revision}).all()
    if any(answer.matched for answer in answers):
        return StudyState.ROUTED, ""
    reason = "; ".join(f"{answer.route}: {answer.reason}" for answer in answers)
    return StudyState.UNROUTED, reason or "there are no routes in the settings"


def in_state(store: Store, *states: StudyState, limit: int = 1000) -> list[Study]:
    query = select(S).where(S.c.state.in_(states)).order_by(S.c.last_received_at).limit(limit)
    with store.read() as connection:
        return [to_study(row) for row in connection.execute(query)]


def latest(store: Store, limit: int) -> list[Study]:
    query = select(S).where(COUNTS).order_by(S.c.last_received_at.desc(), S.c.id.desc())
    with store.read() as connection:
        return [to_study(row) for row in connection.execute(query.limit(limit))]


def by_id(store: Store, study_id: int) -> Study:
    with store.read() as connection:
        return to_study(connection.execute(select(S).where(S.c.id == study_id)).one())


def find(store: Store, name: str) -> Study:
    """The study that a person names by row number, log hash, Study Instance UID or accession number.

    `#7` is always row 7; a bare 7 is the row too, unless a study has that accession number.

    Raises:
        NoSuchStudy: nothing goes by that name.
        AmbiguousStudy: several studies go by that name.
    """
    wanted = name.strip()
    number = wanted.removeprefix("#")
    conditions = [S.c.id == int(number)] if number.isdecimal() and len(number) < 16 else []
    if number == wanted:
        conditions += [S.c.log_id == wanted, S.c.study_instance_uid == wanted, S.c.accession_number == wanted]
    with store.read() as connection:
        rows = connection.execute(select(S).where(or_(*conditions)).limit(20)).all() if wanted and conditions else []
    if not rows:
        raise NoSuchStudy(
            f"no study goes by {name!r}: give a row number, a log hash, a Study Instance UID or an accession number"
        )
    if len(rows) > 1:
        raise AmbiguousStudy(f"{len(rows)} studies go by {name!r}: rows {', '.join(f'#{r.id}' for r in rows)}")
    return to_study(rows[0])


def route_reasons(store: Store, study: Study) -> list[Matched]:
    """What each route said of the study's last revision."""
    this = {"study_id": study.id, "revision": study.revision}
    with store.read() as connection:
        return [Matched(r.route, tuple(range(r.matched)), r.reason) for r in connection.execute(REASONS, this)]


def counts(store: Store) -> dict[str, int]:
    """How many studies, jobs and deliveries are in each state, as `study.ROUTED` and so on.

    What was stopped for good, because something newer took its place, is counted apart: nobody need look at it.
    Tests are not counted.
    """
    with store.read() as connection:
        ours = list(connection.execute(tests()).scalars())
        by_state = select(S.c.state, func.count()).group_by(S.c.state)
        if ours:
            by_state = by_state.where(S.c.id.not_in(ours))
        found = {f"study.{state}": n for state, n in connection.execute(by_state)}
        of_tests = select(R.c.id).join(J, J.c.id == R.c.job_id).where(J.c.study_id.in_(ours))
        for name, table, test in (("job", J, J.c.study_id.in_(ours)), ("delivery", D, D.c.result_id.in_(of_tests))):
            # By state alone, which an index has in order: by both columns all rows would be sorted
            again = func.sum(case((table.c.retryable, 1), else_=0))
            query = select(table.c.state, func.count(), again).group_by(table.c.state)
            mine = {state: n for state, n, _ in connection.execute(query.where(test))} if ours else {}
            for state, n, retryable in connection.execute(query):
                stopped = n - retryable if state in (JobState.DEAD, DeliveryState.DEAD) else 0
                found[f"{name}.{state}"] = n - stopped - mine.get(state, 0)
                found[f"{name}.stopped"] = found.get(f"{name}.stopped", 0) + stopped
        return {key: n for key, n in found.items() if n}


def accept(store: Store, study: Study, *, now: float) -> int:
    """What contradicts the study is right: it replaces what was there and opens a revision.

    Instances of the former patient are superseded; results of earlier revisions that were not delivered never are.
    What the node had sent to itself as a test is a study like every other from then on, of whoever sent what is right.

    Returns:
        The number of instances accepted.

    Raises:
        HeldError: the study is not held.
    """
    with store.write() as connection:
        _assert_held(connection, study)
        conflicts = connection.execute(
            select(I).where(I.c.study_id == study.id, I.c.state == InstanceState.CONFLICT).order_by(I.c.id)
        ).all()
        newest = conflicts[-1].identification
        # Of several versions of one instance the last one counts
        chosen = {row.sop_instance_uid: row.id for row in conflicts}
        replaced = connection.execute(
            update(I)
            .where(I.c.sop_instance_uid.in_(chosen), I.c.id.not_in(chosen.values()))
            .where(I.c.state.in_((InstanceState.CURRENT, InstanceState.COMPARING, InstanceState.CONFLICT)))
            .values(state=InstanceState.SUPERSEDED)
            .returning(I.c.study_id)
        ).scalars()
        for other in set(replaced) - {study.id}:
            _lose_an_instance(connection, other, study, now)
            notes.keep_all(store, connection, other)
        connection.execute(update(I).where(I.c.id.in_(chosen.values())).values(state=InstanceState.CURRENT))
        for row in connection.execute(
            select(I).where(I.c.study_id == study.id, I.c.state == InstanceState.CURRENT)
        ).all():
            if patient_key(row.identification) != patient_key(newest):
                connection.execute(update(I).where(I.c.id == row.id).values(state=InstanceState.SUPERSEDED))
        stopped = _stop_unfinished(connection, study.id)
        sender = connection.execute(select(A.c.peer).where(A.c.id == conflicts[-1].association)).scalar()
        connection.execute(
            update(S)
            .where(S.c.id == study.id)
            .values(
                state=StudyState.RECEIVING,
                reason="",
                peer=case((S.c.peer == OURSELVES, sender or ""), else_=S.c.peer),
                patient_id=newest.get("PatientID", ""),
                patient_key=patient_key(newest),
                accession_number=newest.get("AccessionNumber", ""),
                last_received_at=now,
            )
        )
        text = f"a person accepted {len(chosen)} contradicting instances; {stopped} undelivered results stopped"
        events.add(connection, study.id, "settle", text, now=now)
        notes.keep_all(store, connection, study.id)
        return len(chosen)


def reject(store: Store, study: Study, *, now: float) -> int:
    """What contradicts the study is wrong: it is kept aside, and the study goes on as it was.

    Returns:
        The number of instances rejected.

    Raises:
        HeldError: the study is not held.
    """
    with store.write() as connection:
        _assert_held(connection, study)
        rejected = connection.execute(
            update(I)
            .where(I.c.study_id == study.id, I.c.state == InstanceState.CONFLICT)
            .values(state=InstanceState.REJECTED)
        ).rowcount
        connection.execute(
            update(S).where(S.c.id == study.id).values(state=StudyState.RECEIVING, reason="", last_received_at=now)
        )
        events.add(connection, study.id, "settle", f"a person rejected {rejected} contradicting instances", now=now)
        return rejected


def _lose_an_instance(connection: Connection, study_id: int, to: Study, now: float) -> None:
    """An instance turned out to belong to another study: this one is decided anew without it.

    A study stays held for what else contradicts it, and only for that: with nothing left to decide it goes on.
    """
    _stop_unfinished(connection, study_id)
    contradicts = select(I.c.id).where(I.c.study_id == study_id, I.c.state == InstanceState.CONFLICT)
    connection.execute(
        update(S)
        .where(S.c.id == study_id, or_(S.c.state != StudyState.HELD, not_(contradicts.exists())))
        .values(state=StudyState.RECEIVING, reason="", last_received_at=now)
    )
    events.add(connection, study_id, "settle", f"an instance was found to belong to study {to.id}", now=now)


def _assert_held(connection: Connection, study: Study) -> None:
    state = connection.execute(select(S.c.state).where(S.c.id == study.id)).scalar_one()
    if state != StudyState.HELD:
        raise HeldError(f"study {study.id} is {state}, not HELD")


def _stop_unfinished(connection: Connection, study_id: int) -> int:
    """Results of the contradicted revisions must never leave: their jobs and deliveries end here, for good."""
    reason = "stopped: a person accepted a correction of this study"
    jobs: Sequence[int] = connection.execute(select(J.c.id).where(J.c.study_id == study_id)).scalars().all()
    connection.execute(
        update(J)
        .where(J.c.id.in_(jobs), J.c.state.in_((JobState.QUEUED, JobState.LEASED, JobState.DEAD)))
        .values(state=JobState.DEAD, reason=reason, retryable=False, fence=J.c.fence + 1)
    )
    mine = D.c.result_id.in_(select(R.c.id).where(R.c.job_id.in_(jobs)))
    # What a peer has, it has; but should it say that it does not, it does not get it again, nor what it did not take
    connection.execute(update(D).where(mine).values(retryable=False))
    return connection.execute(
        update(D)
        .where(mine)
        .where(D.c.state.in_((DeliveryState.QUEUED, DeliveryState.LEASED, DeliveryState.DEAD)))
        .values(state=DeliveryState.DEAD, reason=reason, retryable=False, fence=D.c.fence + 1)
    ).rowcount
