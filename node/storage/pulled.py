"""Which studies came because a pull had asked for them, and what that says about their routes.

A study that its peer also sends by itself is a study like every other from then on. A study that came first is never
made one of a pull.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from node.domain import Origin, Pulled, StudyState
from node.storage import events, notes, schema
from node.storage.rows import to_origin
from node.storage.store import Store

A = schema.association
I = schema.instance  # noqa: E741
P = schema.pulled
S = schema.study

# made once: these run for every study that is routed, and the first one for every instance
IN_FORCE = select(P.c.study_id).where(P.c.study_id == S.c.id, P.c.sent_at.is_(None)).exists()
OF_STUDY = select(P).where(P.c.study_id == bindparam("study_id")).order_by(P.c.pull)
ROUTED = (StudyState.ROUTED, StudyState.UNROUTED)


def begin(connection: Connection, study_id: int, pulled: Pulled) -> None:
    """In the transaction that makes the study."""
    connection.execute(
        insert(P).values(study_id=study_id, pull=pulled.pull, route=pulled.route, mode=pulled.mode, sent_at=None)
    )


def send(store: Store, connection: Connection, study_id: int, origin: Origin, *, now: float) -> None:
    """A peer sent an instance of the study without being asked: it is decided anew, by all routes.

    A database that is rebuilt must know it too: what the spool says of the study is written again before the commit.
    """
    mine = (P.c.study_id == study_id, P.c.sent_at.is_(None))
    if not connection.execute(update(P).where(*mine).values(sent_at=now)).rowcount:
        return
    connection.execute(update(S).where(S.c.id == study_id).values(settled_digest=""))
    connection.execute(
        update(S)
        .where(S.c.id == study_id, S.c.state != StudyState.HELD)
        .values(state=StudyState.RECEIVING, reason="", last_received_at=now)
    )
    text = f"also sent by {origin.peer or origin.address}: from now on a study like every other"
    events.add(connection, study_id, "receive", text, now=now)
    carried = select(A).where(A.c.id.in_(select(I.c.association).where(I.c.study_id == study_id)))
    for row in connection.execute(carried).all():
        store.spool.write_origin(to_origin(row))
    notes.keep_all(store, connection, study_id)


def of_study(store: Store, study_id: int) -> tuple[Pulled, ...]:
    """The pulls that the study belongs to; none for one that was sent."""
    with store.read() as connection:
        rows = connection.execute(OF_STUDY, {"study_id": study_id}).all()
    return tuple(Pulled(row.pull, row.route, row.mode) for row in rows if row.sent_at is None)


def join(store: Store, study_id: int, pulled: Pulled, *, now: float) -> bool:
    """Let a study that an earlier pull brought belong to this one too, and be asked about its route.

    Returns:
        False when the study did not come by a pull: it stays as it is.
    """
    with store.write() as connection:
        rows = [row for row in connection.execute(OF_STUDY, {"study_id": study_id}) if row.sent_at is None]
        if not rows:
            return False
        if all(row.pull != pulled.pull for row in rows):
            begin(connection, study_id, pulled)
            again = {"state": StudyState.RECEIVING, "settled_digest": "", "reason": "", "last_received_at": now}
            if any((row.route, row.mode) == (pulled.route, pulled.mode) for row in rows):
                return True
            connection.execute(update(S).where(S.c.id == study_id, S.c.state.in_(ROUTED)).values(**again))
            events.add(connection, study_id, "route", f"also wanted by {pulled.sentence}", now=now)
        return True


def take_leave(connection: Connection, study_id: int) -> bool:
    """While a study is routed: whether it was sent since it was pulled. It is then none of a pull any more."""
    return bool(connection.execute(delete(P).where(P.c.study_id == study_id, P.c.sent_at.isnot(None))).rowcount)


def adopt(connection: Connection, study_id: int, said: Sequence[Mapping[str, Any]]) -> None:
    """What the note of the latest revision says."""
    connection.execute(delete(P).where(P.c.study_id == study_id))
    for row in said:
        known = {name: value for name, value in row.items() if name in P.c}
        connection.execute(insert(P).values(**known | {"study_id": study_id}))
