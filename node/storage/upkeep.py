"""Retention: what may be deleted, and when.

Only what is finished is ever deleted, its row stays, and everything can be listed before it happens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, and_, case, func, not_, or_, select, update

from config.settings import Retention
from node.domain import DeliveryState, Gone, JobState, StudyState
from node.storage import forms, notes, schema
from node.storage.spool import Spool
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
    among: Sequence[int] | None = None,
    only_pulled: bool = False,
) -> Iterator[Purgeable]:
    """Images that may go, with rows after this one, or `among` these; `only_pulled`: only what pulls keep for less time
    than the settings."""
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
        .where(I.c.id > after if among is None else I.c.id.in_(among))
        .order_by(I.c.id)
        .limit(limit)
    )
    for row in rows:
        yield Purgeable("input", row.id, row.study_id, store.spool_root / row.path, row.size, row.why)


def _results(
    store: Store,
    connection: Connection,
    rules: Retention,
    now: float,
    *,
    after: int = 0,
    limit: int | None = None,
    among: Sequence[int] | None = None,
) -> Iterator[Purgeable]:
    _, waiting = _unfinished(rules, now)
    # A peer that says that it does not have what it took gets the stored bytes again
    recently = D.c.created_at > now - rules.dead_days * DAY
    asked = and_(D.c.state == DeliveryState.SENT, D.c.proof_due_at.isnot(None), recently)
    sending = select(D.c.result_id).where(or_(waiting, asked))  # type: ignore[arg-type]
    these = R.c.id > after if among is None else R.c.id.in_(among)
    old = and_(not_(R.c.purged), these, R.c.created_at < now - rules.results_days * DAY, R.c.id.not_in(sending))
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
        # To find them may take seconds where millions of rows are, and nobody need wait for that
        with store.read() as connection:
            ids = [item.row_id for item in find(connection=connection, after=last, limit=BLOCK)]
        if not ids:
            return done
        with store.write() as connection:
            found = list(find(connection=connection, among=ids))
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
        if len(ids) < BLOCK:
            return done
        last = ids[-1]


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
