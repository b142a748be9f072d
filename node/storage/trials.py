"""Rows of test studies: the node sends them to itself, nothing leaves by itself, and nothing of them stays.

A study is a test by who sent it, which no peer can be, not by what is written in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, and_, delete, func, insert, not_, select, update

from node.domain import DeliveryState, JobState, Origin, Study, StudyState
from node.storage import events, schema, trace
from node.storage.deliveries import recipients
from node.storage.rows import to_origin
from node.storage.spool import Spool
from node.storage.store import Store

OURSELVES = "(this node)"
"""The peer of what the node sent to itself; no [[peer]] can have this name."""
PATIENT_ID = "OVERREAD-TEST"
"""Who all of it is of."""

A = schema.association
D = schema.delivery
F = schema.form
I = schema.instance  # noqa: E741
J = schema.job
R = schema.result
S = schema.study

_OURS = and_(S.c.peer == OURSELVES, S.c.state != StudyState.HELD)
COUNTS = not_(_OURS)
"""What holds for studies that are counted, listed or taken along: all but tests, canaries among them. A test that is
held counts: somebody sent into it what is not the test patient's, and a person must decide."""


def tests() -> Any:
    """The rows of the studies that do not count: few, and mostly none. An index has them."""
    return select(S.c.id).where(_OURS)


def is_free(store: Store, study_instance_uid: str) -> bool:
    """Whether a test object may name this study: nobody else's does."""
    with store.read() as connection:
        peer = connection.execute(select(S.c.peer).where(S.c.study_instance_uid == study_instance_uid)).scalar()
    return peer in (None, OURSELVES)


def send_results(
    store: Store, study: Study, peer: str, kinds: Sequence[str], *, routes: Sequence[str], now: float
) -> int:
    """Have the results of these routes sent to one peer, which wants these kinds (none named: all).

    Returns:
        The number of deliveries.
    """
    wants = {peer: list(kinds)}
    made = 0
    with store.write() as connection:
        found = select(R.c.id, R.c.kind, J.c.id.label("job_id"), J.c.priority).join(J, J.c.id == R.c.job_id)
        found = found.where(J.c.study_id == study.id, J.c.route.in_(routes), R.c.quarantine == "")
        new = {"state": DeliveryState.QUEUED, "due_at": now, "created_at": now}
        for row in connection.execute(found.order_by(R.c.id)).all():
            connection.execute(update(J).where(J.c.id == row.job_id).values(deliver_to=wants))
            if recipients(wants, row.kind):
                connection.execute(insert(D).values(result_id=row.id, peer=peer, priority=row.priority, **new))
                made += 1
        events.add(connection, study.id, "deliver", f"a person asked to send {made} results to {peer}", now=now)
    return made


def came_from(store: Store, peer: str, *, since: float) -> Origin | None:
    """The first association since then on which this peer sent something."""
    query = select(A).where(A.c.peer == peer, A.c.started_at >= since).order_by(A.c.started_at).limit(1)
    with store.read() as connection:
        row = connection.execute(query).first()
    return to_origin(row) if row else None


def came_back(store: Store, study: Study) -> int:
    """How many objects of a test study have come from somebody else: as what they were, or as they were sent in."""
    sent = select(func.count()).select_from(I.join(A, A.c.id == I.c.association))
    sent = sent.where(I.c.study_id == study.id, A.c.peer == OURSELVES)
    received = select(func.coalesce(func.sum(I.c.receipts), 0)).where(I.c.study_id == study.id)
    with store.read() as connection:
        return int(connection.execute(received).scalar_one() - connection.execute(sent).scalar_one())


def remove(store: Store, spool: Spool, study_id: int) -> bool:
    """Delete a test study with all that was made of it: rows first, then files.

    Returns:
        False, and nothing was deleted: it is no test study, somebody works on it just now, or something in it is of
        another patient than the test's: whatever was decided about that, it was acknowledged, and is kept.
    """
    with store.write() as connection:
        mine = select(S).where(S.c.id == study_id, S.c.peer == OURSELVES, S.c.state != StudyState.HELD)
        study = connection.execute(mine).first()
        if study is None or _is_worked_on(connection, study_id) or _is_of_a_patient(connection, study_id):
            return False
        files = _files(store, spool, connection, study)
        ours = select(I.c.association).where(I.c.study_id == study_id)
        connection.execute(delete(A).where(A.c.id.in_(ours), A.c.peer == OURSELVES))
        belonging = _belonging(study_id)
        for table in reversed(belonging):
            connection.execute(delete(table).where(belonging[table]))
        trace.rewind(connection)
    for path in files:
        spool.shelf.remove(path)
    return True


def sweep(store: Store, spool: Spool, *, before: float) -> int:
    """Delete test studies of which nothing came since then: whoever made them did not live to do so.

    Returns:
        The number deleted.
    """
    with store.read() as connection:
        old = select(S.c.id).where(S.c.peer == OURSELVES, S.c.last_received_at < before)
        left_over = connection.execute(old).scalars().all()
    return sum(remove(store, spool, study_id) for study_id in left_over)


def _is_worked_on(connection: Connection, study_id: int) -> bool:
    jobs = select(J.c.id).where(J.c.study_id == study_id)
    leased = connection.execute(jobs.where(J.c.state == JobState.LEASED)).first()
    sending = select(D.c.id).join(R, R.c.id == D.c.result_id)
    sending = sending.where(R.c.job_id.in_(jobs), D.c.state == DeliveryState.LEASED)
    return bool(leased or connection.execute(sending).first())


def _is_of_a_patient(connection: Connection, study_id: int) -> bool:
    said = connection.execute(select(I.c.identification).where(I.c.study_id == study_id)).scalars()
    return any(identification.get("PatientID", "") != PATIENT_ID for identification in said)


def _belonging(study_id: int) -> dict[Table, Any]:
    """Which rows of which tables hang on a study, parents first. The first foreign key of a table, which is indexed,
    says on what its rows hang. Asked of the tables themselves: a new one needs nothing here."""
    conditions: dict[Table, Any] = {S: S.c.id == study_id}
    for table in schema.metadata.sorted_tables:
        keys = [key for column in table.columns for key in column.foreign_keys if key.column.table in conditions]
        if keys:
            parent = keys[0].column
            conditions[table] = keys[0].parent.in_(select(parent).where(conditions[parent.table]))
    return conditions


def _files(store: Store, spool: Spool, connection: Connection, study: Any) -> list[Path]:
    jobs = select(J.c.id).where(J.c.study_id == study.id)
    results = select(R.c.id).where(R.c.job_id.in_(jobs))
    kept = [
        spool.root / path
        for query in (
            select(I.c.path).where(I.c.study_id == study.id),
            select(R.c.path).where(R.c.job_id.in_(jobs)),
            select(F.c.path).where(F.c.result_id.in_(results)),
        )
        for path in connection.execute(query).scalars()
    ]
    # why a result was quarantined stands beside it
    reasons = [path.with_suffix(".txt") for path in kept]
    noted = connection.execute(select(J.c.route, J.c.series_instance_uid, J.c.revision).where(J.c.study_id == study.id))
    notes = [spool.note_path(study.study_instance_uid, *row) for row in noted]
    ours = select(A.c.id).join(I, I.c.association == A.c.id).where(I.c.study_id == study.id, A.c.peer == OURSELVES)
    return [*kept, *reasons, *notes, *(spool.assoc / f"{name}.json" for name in connection.execute(ours).scalars())]
