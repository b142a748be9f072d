"""Retention and the invariants: what may be deleted, and what must always be true.

Only what is finished is ever deleted, its row stays, and everything can be listed before it happens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, and_, case, func, not_, or_, select, update

from config.settings import Retention
from node.domain import DeliveryState, Gone, InstanceState, JobState, StudyState
from node.errors import SpoolError
from node.storage import forms, instances, notes, schema
from node.storage.deliveries import recipients
from node.storage.shelf import Away
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

D = schema.delivery
F = schema.form
I = schema.instance  # noqa: E741
J = schema.job
L = schema.pull
P = schema.pulled
R = schema.result
S = schema.study

HOUR = 3600.0
DAY = 24 * HOUR
IN_FLIGHT_SECONDS = 60.0
BLOCK = 500
"""Rows in one transaction: a receiver that waits to write does not wait long."""


@dataclass(frozen=True)
class Purgeable:
    """A file that the retention settings let go, and why; `forms` are those of a result, which go with it."""

    kind: str
    row_id: int
    study_id: int
    path: Path
    size: int
    reason: str
    forms: tuple[Path, ...] = ()


def purgeable(store: Store, rules: Retention, now: float) -> list[Purgeable]:
    """What the retention settings let go now: inputs first, then results."""
    with store.read() as connection:
        return [*_inputs(store, connection, rules, now), *_results(store, connection, rules, now)]


def _unfinished(rules: Retention, now: float) -> tuple[object, object]:
    """Studies that still have a job or a delivery to finish; dead ones count until `dead_days` are over."""
    recently = now - rules.dead_days * DAY
    jobs = select(J.c.study_id).where(
        or_(
            J.c.state.in_((JobState.QUEUED, JobState.LEASED)),
            and_(J.c.state == JobState.DEAD, J.c.retryable, func.coalesce(J.c.finished_at, J.c.created_at) > recently),
        )
    )
    waiting = or_(
        D.c.state.in_((DeliveryState.QUEUED, DeliveryState.LEASED)),
        and_(D.c.state == DeliveryState.DEAD, D.c.retryable, D.c.created_at > recently),
    )
    return jobs, waiting


def _sooner(connection: Connection, now: float) -> list[Any]:
    """Conditions on rows of `study`: a pull brought it that keeps images for so many hours only, as do all that did."""
    told = {row.id: row.rules.get("keep_hours") for row in connection.execute(select(L.c.id, L.c.rules))}
    hours = {pull: float(n) for pull, n in told.items() if n is not None}
    others = select(P.c.study_id).where(P.c.study_id == S.c.id, P.c.pull.not_in(list(hours)))
    ended = (S.c.state.in_((StudyState.ROUTED, StudyState.UNROUTED)), not_(others.exists()))
    return [
        and_(
            S.c.last_received_at < now - n * HOUR,
            S.c.id.in_(select(P.c.study_id).where(P.c.pull == pull, P.c.sent_at.is_(None))),
            *ended,
        )
        for pull, n in hours.items()
    ]


def _inputs(
    store: Store,
    connection: Connection,
    rules: Retention,
    now: float,
    *,
    after: int = 0,
    limit: int | None = None,
    only_pulled: bool = False,
) -> Iterator[Purgeable]:
    """Images that may go, with rows after this one; `only_pulled`: only what pulls keep for less than the settings."""
    sooner = _sooner(connection, now)
    if only_pulled and not sooner:
        return
    jobs, waiting = _unfinished(rules, now)
    sending = select(J.c.study_id).join(R, R.c.job_id == J.c.id).join(D, D.c.result_id == R.c.id).where(waiting)  # type: ignore[arg-type]
    routed = and_(S.c.state == StudyState.ROUTED, S.c.last_received_at < now - rules.inputs_days * DAY)
    unrouted = and_(S.c.state == StudyState.UNROUTED, S.c.last_received_at < now - rules.unrouted_hours * HOUR)
    old = or_(*sooner, *(() if only_pulled else (routed, unrouted)))
    reason = case(
        (routed, f"finished, older than {rules.inputs_days:g} days"),
        (unrouted, f"unrouted for {rules.unrouted_hours:g} hours"),
        else_="read, and its pull keeps images no longer",
    )
    rows = connection.execute(
        select(I, reason.label("why"))
        .join(S, S.c.id == I.c.study_id)
        .where(I.c.gone == Gone.KEPT, old, S.c.id.not_in(jobs), S.c.id.not_in(sending))  # type: ignore[arg-type]
        .where(I.c.id > after)
        .order_by(I.c.id)
        .limit(limit)
    )
    for row in rows:
        yield Purgeable("input", row.id, row.study_id, store.spool_root / row.path, row.size, row.why)


def _results(
    store: Store, connection: Connection, rules: Retention, now: float, *, after: int = 0, limit: int | None = None
) -> Iterator[Purgeable]:
    _, waiting = _unfinished(rules, now)
    # A peer that says that it does not have what it took gets the stored bytes again
    recently = D.c.created_at > now - rules.dead_days * DAY
    asked = and_(D.c.state == DeliveryState.SENT, D.c.proof_due_at.isnot(None), recently)
    sending = select(D.c.result_id).where(or_(waiting, asked))  # type: ignore[arg-type]
    old = and_(
        not_(R.c.purged), R.c.id > after, R.c.created_at < now - rules.results_days * DAY, R.c.id.not_in(sending)
    )
    query = select(R, J.c.study_id).join(J, J.c.id == R.c.job_id).where(old).order_by(R.c.id)
    rows = connection.execute(query.limit(limit)).all()
    last = rows[-1].id if rows else 0
    made = defaultdict(list)
    for row in connection.execute(select(F).join(R, R.c.id == F.c.result_id).where(old, R.c.id <= last)):
        made[row.result_id].append(row)
    for row in rows:
        what = "quarantined" if row.quarantine else "delivered"
        why = f"{what}, older than {rules.results_days:g} days"
        also = tuple(store.spool_root / form.path for form in made[row.id])
        size = row.size + sum(form.size for form in made[row.id])
        yield Purgeable("result", row.id, row.study_id, store.spool_root / row.path, size, why, also)


def purge(store: Store, rules: Retention, now: float) -> list[Purgeable]:
    """Delete what the settings let go, in blocks; each is looked at again in the transaction that lets it go.

    The row says so before the file goes: a crash in between leaves a file, never an unexplained row.

    Returns:
        What was deleted.
    """
    ways = (partial(_inputs, store, rules=rules, now=now), partial(_results, store, rules=rules, now=now))
    return [item for find in ways for item in _purged(store, find, now)]


def purge_pulled(store: Store, rules: Retention, now: float) -> list[Purgeable]:
    """The same of images that pulls keep for some hours only: a hundred thousand studies do not lie here together."""
    return _purged(store, partial(_inputs, store, rules=rules, now=now, only_pulled=True), now)


def _purged(store: Store, find: Callable[..., Iterator[Purgeable]], now: float) -> list[Purgeable]:
    done: list[Purgeable] = []
    last = 0
    while True:
        with store.write() as connection:
            found = list(find(connection=connection, after=last, limit=BLOCK))
            inputs = [p.row_id for p in found if p.kind == "input"]
            results = [p.row_id for p in found if p.kind == "result"]
            connection.execute(update(I).where(I.c.id.in_(inputs)).values(gone=Gone.PURGED, gone_at=now))
            connection.execute(update(R).where(R.c.id.in_(results)).values(purged=True))
            noted = notes.about(connection, instances=inputs, results=results)
        notes.refresh(store, noted)
        for item in found:
            for path in (item.path, *item.forms):
                store.spool.shelf.remove(path)
            if item.kind == "result":  # why it was quarantined
                store.spool.shelf.remove(item.path.with_suffix(".txt"))
        done += found
        if len(found) < BLOCK:
            return done
        last = found[-1].row_id


def purge_origins(store: Store, spool: Spool, now: float) -> int:
    """Delete the notes of associations none of whose files is left; the number deleted."""
    with store.read() as connection:
        needed = set(connection.execute(select(I.c.association).where(I.c.gone == Gone.KEPT).distinct()).scalars())
    swept = 0
    for note in spool.shelf.files(spool.assoc):
        if note.path.stem not in needed and now - note.at > DAY:
            spool.shelf.remove(note.path)
            swept += 1
    return swept


def purge_forms(store: Store, spool: Spool, now: float) -> int:
    """Delete files of forms that no row speaks of: made, and never sent. They can be made again from their results."""
    known = forms.paths(store)
    strays = [
        k.path for k in spool.shelf.files(spool.forms) if spool.relative(k.path) not in known and now - k.at > DAY
    ]
    for path in strays:
        spool.shelf.remove(path)
    return len(strays)


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
