"""What the audit trail has not told yet, and its messages on their way; each is put down in the transaction that marks
its cause as told, so that a kill loses none. A message may be written twice, when a kill comes after the writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from node.domain import Study
from node.storage import canaries, schema, trace
from node.storage.rows import to_study
from node.storage.store import Store
from node.storage.trials import OURSELVES

A = schema.association
D = schema.delivery
F = schema.form
I = schema.instance  # noqa: E741
J = schema.job
M = schema.meta
Q = schema.audit_message
R = schema.result
S = schema.study
X = schema.rejection

BLOCK = 100
ASSOCIATIONS = 10
"""One may have brought thousands of instances."""
DROPPED = "audit.dropped"
DROPPED_AT = "audit.dropped-at"


@dataclass(frozen=True)
class Moved:
    """Instances of one study that were received on one association, or sent to one peer."""

    at: float
    study: Study
    peer: str
    calling_ae_title: str
    address: str
    instances: tuple[tuple[str, str], ...]
    """SOP Class UID, SOP Instance UID."""


@dataclass(frozen=True)
class Rejected:
    """Associations that were refused for one reason."""

    at: float
    rule: str
    calling_ae_title: str
    called_ae_title: str
    address: str
    times: int


@dataclass(frozen=True)
class Queue:
    """Where messages go, and how many may wait for each."""

    sinks: Sequence[str]
    longest: int


@dataclass(frozen=True)
class Behind:
    """How many messages wait, since when the oldest does; how many were ever dropped, and when the last was."""

    waiting: int
    oldest: float | None
    dropped: int
    dropped_at: float | None


def begin(store: Store) -> bool:
    """Where no trail was kept so far it begins now: what was before is not told. Whether it has just begun."""
    with store.write() as connection:
        if connection.execute(select(M.c.name).where(M.c.name == "cursor.audit")).first():
            return False
        trace.move(connection, "audit", trace.last(connection))
        connection.execute(update(A).where(A.c.ended_at.isnot(None)).values(audited=True))
        connection.execute(delete(X))
        return True


def end(store: Store) -> None:
    """No trail is kept any more; the next one begins anew."""
    with store.write() as connection:
        connection.execute(delete(M).where(M.c.name == "cursor.audit"))


def put(store: Store, texts: Iterable[str], queue: Queue, *, now: float) -> None:
    """Messages of what has no row of its own."""
    with store.write() as connection:
        _put(connection, texts, queue, now)


def _put(connection: Connection, texts: Iterable[str], queue: Queue, now: float) -> None:
    messages = list(texts)
    for sink in queue.sinks if messages else ():
        waiting = connection.execute(select(func.count()).where(Q.c.sink == sink)).scalar_one()
        room = max(queue.longest - waiting, 0)
        for text in messages[:room]:
            connection.execute(insert(Q).values(sink=sink, at=now, text=text))
        if lost := len(messages) - room:
            _drop(connection, max(lost, 0), now)


def _drop(connection: Connection, n: int, now: float) -> None:
    if n:
        before = connection.execute(select(M.c.value).where(M.c.name == DROPPED)).scalar()
        connection.execute(delete(M).where(M.c.name.in_((DROPPED, DROPPED_AT))))
        connection.execute(insert(M).values(name=DROPPED, value=str(int(before or 0) + n)))
        connection.execute(insert(M).values(name=DROPPED_AT, value=str(now)))


def received(store: Store, said: Callable[[Moved], str], queue: Queue, *, now: float) -> int:
    """Tell of associations that ended; how many there were."""
    # What they brought is read before the write: while that lasts nobody can store
    with store.read() as connection:
        ended = select(A).where(A.c.audited.is_(False), A.c.ended_at.isnot(None)).order_by(A.c.ended_at)
        rows = connection.execute(ended.limit(ASSOCIATIONS)).all()
        texts = [said(moved) for moved in _brought(connection, rows)]
    if rows:
        with store.write() as connection:
            _put(connection, texts, queue, now)
            connection.execute(update(A).where(A.c.id.in_([row.id for row in rows])).values(audited=True))
    return len(rows)


def _brought(connection: Connection, associations: Sequence[Any]) -> list[Moved]:
    """What associations brought, by association and study; what came again counts where it came first."""
    by_id = {row.id: row for row in associations if row.peer != OURSELVES}
    query = select(S, I.c.association, I.c.sop_class_uid, I.c.sop_instance_uid).join(I, I.c.study_id == S.c.id)
    groups: dict[tuple[str, int], list[Any]] = {}
    for row in connection.execute(query.where(I.c.association.in_(by_id)).order_by(I.c.id)):
        groups.setdefault((row.association, row.id), []).append(row)
    found = []
    for association in by_id.values():
        for came in (rows for (name, _), rows in groups.items() if name == association.id):
            uids = tuple((row.sop_class_uid, row.sop_instance_uid) for row in came)
            who = (association.peer, association.calling_ae_title, association.address)
            found.append(Moved(association.ended_at, to_study(came[0]), *who, uids))
    return found


def sent(store: Store, said: Callable[[Moved], str], queue: Queue, *, now: float) -> int:
    """Tell of results that were sent, by peer and study; how many events were looked at."""
    with store.write() as connection:
        lines = trace.after(connection, trace.cursor(connection, "audit"), BLOCK)
        places = {line.place for line in lines if line.event.verb == "deliver"}
        _put(connection, [said(moved) for moved in _left(connection, places)], queue, now)
        if lines:
            trace.move(connection, "audit", lines[-1].id)
        return len(lines)


def _left(connection: Connection, places: set[trace.Place]) -> list[Moved]:
    uids: Any = [func.coalesce(F.c[name], R.c[name]).label(name) for name in ("sop_class_uid", "sop_instance_uid")]
    query: Any = select(D.c.peer, D.c.sent_at, J.c.study_id, *uids).join(R, R.c.id == D.c.result_id)
    query = query.join(J, J.c.id == R.c.job_id).outerjoin(F, F.c.id == D.c.form_id)
    query = query.where(J.c.study_id.in_({study for study, _ in places}), D.c.peer != canaries.PEER)
    groups: dict[tuple[str, int], list[Any]] = {}
    for row in connection.execute(query.order_by(D.c.id)) if places else ():
        if (row.study_id, row.sent_at) in places:
            groups.setdefault((row.peer, row.study_id), []).append(row)
    found = []
    for (peer, study_id), rows in groups.items():
        study = to_study(connection.execute(select(S).where(S.c.id == study_id)).one())
        went = tuple((row.sop_class_uid, row.sop_instance_uid) for row in rows)
        found.append(Moved(max(row.sent_at for row in rows), study, peer, "", "", went))
    return found


def reject(store: Store, found: Iterable[Rejected]) -> None:
    """Keep associations that were refused, until the trail has them."""
    with store.write() as connection:
        for one in found:
            connection.execute(insert(X).values(**vars(one)))


def rejected(store: Store, said: Callable[[Rejected], str], queue: Queue, *, now: float) -> int:
    with store.write() as connection:
        rows = connection.execute(select(X).order_by(X.c.id).limit(BLOCK)).all()
        found = [Rejected(r.at, r.rule, r.calling_ae_title, r.called_ae_title, r.address, r.times) for r in rows]
        _put(connection, [said(one) for one in found], queue, now)
        connection.execute(delete(X).where(X.c.id.in_([row.id for row in rows])))
        return len(rows)


def changed(store: Store, name: str, value: str) -> bool:
    """Whether something differs from what it was when this was last asked; the first time it does not."""
    key = f"audit.{name}"
    with store.write() as connection:
        before = connection.execute(select(M.c.value).where(M.c.name == key)).scalar()
        if before is None:
            connection.execute(insert(M).values(name=key, value=value))
        elif before != value:
            connection.execute(update(M).where(M.c.name == key).values(value=value))
        return before not in (None, value)


def waiting(store: Store, sink: str, limit: int) -> list[tuple[int, str]]:
    """The next messages for one sink, by row."""
    with store.read() as connection:
        rows = connection.execute(select(Q.c.id, Q.c.text).where(Q.c.sink == sink).order_by(Q.c.id).limit(limit))
        return [(row.id, row.text) for row in rows]


def written(store: Store, rows: Sequence[int]) -> None:
    with store.write() as connection:
        connection.execute(delete(Q).where(Q.c.id.in_(rows)))


def behind(store: Store) -> Behind:
    with store.read() as connection:
        n, oldest = connection.execute(select(func.count(), func.min(Q.c.at)).select_from(Q)).one()
        kept = select(M.c.name, M.c.value).where(M.c.name.in_((DROPPED, DROPPED_AT)))
        said = {row.name: float(row.value) for row in connection.execute(kept)}
    return Behind(n, oldest, int(said.get(DROPPED, 0)), said.get(DROPPED_AT))
