"""The invariants: what must always be true of rows and files, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, func, not_, select

from node.domain import DeliveryState, Gone, InstanceState, JobState, StudyState
from node.errors import SpoolError
from node.storage import forms, instances, notes, schema
from node.storage.deliveries import recipients
from node.storage.shelf import Away
from node.storage.spool import Spool, digest_of
from node.storage.store import Store
from node.storage.upkeep import BLOCK, DAY, IN_FLIGHT_SECONDS

D = schema.delivery
F = schema.form
I = schema.instance  # noqa: E741
J = schema.job
R = schema.result
S = schema.study


def verify(store: Store, spool: Spool, now: float, *, deep: bool = True) -> list[str]:
    """Hold the invariants against rows and files; one sentence per violation.

    I1 what was acknowledged is there with its digest; I2 no row without its file; I3 no file without its row; I4 one
    result per job, kind and ordinal; I5 every settled study ends in something visible; I6 one delivery per sound result
    and destination that wants its kind; I7 nothing was deleted that still had to be sent; I8 every row was received at
    least once; I9 every finished job has its note for as long as its results are kept.

    Raises:
        SpoolError: whether a file is there cannot be told just now.
    """
    problems = list(_files(store, deep))
    with store.read() as connection:
        problems += [*_endings(connection), *_deliveries(connection)]
        for uid, n in connection.execute(
            select(I.c.sop_instance_uid, func.count()).where(I.c.receipts < 1).group_by(I.c.sop_instance_uid)
        ):
            problems.append(f"I8: {n} rows of instance {uid} were never received")
    return [*problems, *_strays(store, spool, now), *_unnoted(store)]


def _files(store: Store, deep: bool) -> Iterator[str]:
    """I1 and I2. Files are read outside of transactions: all of them may take hours."""
    inputs: Any = select(I.c.id, I.c.study_id, I.c.path, I.c.digest).where(I.c.gone != Gone.PURGED)
    results: Any = (
        select(R.c.id, J.c.study_id, R.c.path, R.c.digest).join(J, J.c.id == R.c.job_id).where(not_(R.c.purged))
    )
    told: Any = (
        select(F.c.id, J.c.study_id, F.c.path, F.c.digest)
        .join(R, R.c.id == F.c.result_id)
        .join(J, J.c.id == R.c.job_id)
        .where(not_(R.c.purged))
    )
    for noun, query, key in (("instance", inputs, I.c.id), ("result", results, R.c.id), ("form", told, F.c.id)):
        for row in _in_blocks(store, query, key):
            if not _wrong(store, row, deep):
                continue
            # It may have been purged or replaced since its row was read
            with store.read() as connection:
                again = connection.execute(query.where(key == row.id)).first()
            if again and (wrong := _wrong(store, again, deep)):
                yield f"{wrong[0]}: {noun} {row.id} of study {row.study_id} {wrong[1]}"


def _in_blocks(store: Store, query: Any, key: Any) -> Iterator[Row[Any]]:
    last = 0
    while True:
        with store.read() as connection:
            rows = connection.execute(query.where(key > last).order_by(key).limit(BLOCK)).all()
        yield from rows
        if len(rows) < BLOCK:
            return
        last = rows[-1].id


def _wrong(store: Store, row: Row[Any], deep: bool) -> tuple[str, str] | None:
    """The invariant that a row's file violates, and how."""
    path = store.spool_root / row.path
    try:
        if not deep:
            return None if store.spool.shelf.holds(path) else ("I2", f"has no file {row.path}")
        with store.spool.shelf.fresh(path) as file:
            if digest_of(file) != row.digest:
                return "I1", "was altered on disk: its digest differs"
    except FileNotFoundError:
        return "I2", f"has no file {row.path}"
    except Away as error:  # of all files
        raise SpoolError(f"what was kept cannot be looked at just now: {error.strerror}") from None
    except OSError as error:
        return "I1", f"cannot be read: {row.path}: {error.strerror}"
    return None


def _strays(store: Store, spool: Spool, now: float) -> Iterator[str]:
    """I3. A form's file may wait for its row, or for the purge."""
    with store.read() as connection:
        quarantined = set(connection.execute(select(R.c.path).where(R.c.quarantine != "")).scalars())
    known = {*instances.paths(store), *forms.paths(store), *quarantined}
    rooms = (
        (spool.obj, IN_FLIGHT_SECONDS, "a restart adopts it"),
        (spool.forms, 2 * DAY, "the purge should have deleted it"),
        (spool.quarantine, IN_FLIGHT_SECONDS, "its job was given up"),
    )
    try:
        for folder, seconds, what in rooms:
            for kept in spool.shelf.files(folder):
                name = spool.relative(kept.path)
                if kept.path.suffix == ".dcm" and name not in known and now - kept.at > seconds:
                    yield f"I3: the file {name} has no row ({what})"
    except OSError as error:
        yield f"I3: the spool cannot be listed: {error.strerror}"


def _unnoted(store: Store) -> Iterator[str]:
    """I9."""
    with store.read() as connection:
        kept = set(connection.execute(select(R.c.job_id).where(R.c.purged.is_(False))).scalars())
        expected = notes.expected(store, connection, *notes.ENDED)
    there = {note.path for note in store.spool.shelf.files(store.spool.notes)}
    for path, job_id in expected.items():
        if job_id in kept and path not in there:
            yield f"I9: job {job_id} has no note: a rebuilt database would do it again"


def _endings(connection: Connection) -> Iterator[str]:
    with_job = select(J.c.study_id)
    for row in connection.execute(select(S).where(S.c.state == StudyState.ROUTED, S.c.id.not_in(with_job))):
        yield f"I5: study {row.id} is ROUTED and has no job"
    for row in connection.execute(select(S).where(S.c.state == StudyState.UNROUTED, S.c.reason == "")):
        yield f"I5: study {row.id} is UNROUTED without a reason"
    conflicting = select(I.c.study_id).where(I.c.state == InstanceState.CONFLICT)
    for row in connection.execute(select(S).where(S.c.state == StudyState.HELD, S.c.id.not_in(conflicting))):
        yield f"I5: study {row.id} is HELD and nothing contradicts it"
    twice = select(R.c.job_id, R.c.kind, func.count().label("n")).group_by(R.c.job_id, R.c.kind, R.c.ordinal)
    for row in connection.execute(twice.having(func.count() > 1)):
        yield f"I4: job {row.job_id} has {row.n} results of kind {row.kind} under one number"


def _deliveries(connection: Connection) -> Iterator[str]:
    ended = (JobState.DONE, JobState.REFUSED)
    counts = select(D.c.result_id, func.count().label("n")).group_by(D.c.result_id).subquery()
    rows = connection.execute(
        select(R, J.c.deliver_to, func.coalesce(counts.c.n, 0).label("n"))
        .join(J, J.c.id == R.c.job_id)
        .outerjoin(counts, counts.c.result_id == R.c.id)
        # Who is told of a withdrawal is whoever had something of it
        .where(J.c.state.in_(ended), R.c.kind != "withdrawal")
    )
    for row in rows:
        # what failed its self-check goes nowhere
        wanted = 0 if row.quarantine else len(recipients(row.deliver_to, row.kind))
        if row.n != wanted:
            yield f"I6: result {row.id} of job {row.job_id}: {row.n} deliveries, {wanted} destinations"
    waiting = (DeliveryState.QUEUED, DeliveryState.LEASED)
    lost = select(D.c.id).join(R, R.c.id == D.c.result_id).where(R.c.purged, D.c.state.in_(waiting))
    for row in connection.execute(lost):
        yield f"I7: delivery {row.id} waits for a result that was deleted"
