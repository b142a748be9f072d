"""Deliveries to peers that left the settings: they end for good, nobody asks about them, and nobody is alarmed.

They are told by their reason from those that a correction has stopped: what they carry counts, and others may have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from node.domain import DeliveryState
from node.storage import events, schema
from node.storage.store import Store

D = schema.delivery
J = schema.job
R = schema.result


def nobody(peer: Any) -> Any:
    """The reason, of a name or of a column of names."""
    return "no [[peer]] named " + peer + " is in the settings"


STOPPED = and_(D.c.state == DeliveryState.DEAD, D.c.retryable.is_(False), D.c.reason != nobody(D.c.peer))
"""What a correction or a recall has stopped, so that its result counts for nothing."""
MAY_BE_PROVEN = D.c.proof != nobody(D.c.peer)
_ASKED = or_(D.c.proof_due_at.isnot(None), D.c.asks > 0, D.c.proof != "")


def end(store: Store, peers: Iterable[str], *, now: float) -> int:
    """What waits for others than these peers becomes DEAD, and what they have not proven stays SENT.

    Returns:
        The number of deliveries that waited.
    """
    unknown = _named(store) - set(peers)
    if not unknown:
        return 0
    theirs = D.c.peer.in_(unknown)
    # What is on its way just now has its own end
    expired = and_(D.c.state == DeliveryState.LEASED, D.c.lease_until < now)
    waits = and_(or_(D.c.state.in_((DeliveryState.QUEUED, DeliveryState.DEAD)), expired), D.c.retryable)
    unproven = and_(D.c.state == DeliveryState.SENT, _ASKED, MAY_BE_PROVEN)
    with store.write() as connection:
        given_up = _rows(connection, and_(theirs, waits))
        for row in given_up:
            values = {"state": DeliveryState.DEAD, "retryable": False, "reason": nobody(row.peer)}
            _change(connection, row, values | {"lease_until": None, "fence": row.fence + 1}, "gave up", now)
        for row in _rows(connection, and_(theirs, unproven)):
            _change(
                connection, row, {"proof": nobody(row.peer), "proof_due_at": None, "asks": 0}, "does not prove", now
            )
    return len(given_up)


def _named(store: Store) -> set[str]:
    """All peers that have something open; an index holds them."""
    with store.read() as connection:
        query = select(D.c.peer).where(D.c.state.not_in((DeliveryState.COMMITTED, DeliveryState.OMITTED))).distinct()
        return set(connection.execute(query).scalars())


def _rows(connection: Connection, which: Any) -> Any:
    query = select(D.c.id, D.c.state, D.c.fence, D.c.peer, R.c.kind, J.c.study_id).where(which).order_by(D.c.id)
    return connection.execute(query.join(R, R.c.id == D.c.result_id).join(J, J.c.id == R.c.job_id).limit(1000)).all()


def _change(connection: Connection, row: Any, values: dict[str, Any], what: str, now: float) -> None:
    mine = and_(D.c.id == row.id, D.c.state == row.state, D.c.fence == row.fence)
    if connection.execute(update(D).where(mine).values(**values)).rowcount:
        text = f"{row.peer}: {what} {row.kind}: {nobody(row.peer)}"
        events.add(connection, row.study_id, "deliver", text, now=now)


def left_with(store: Store, peer: str) -> tuple[int, int]:
    """Of one peer: how many results wait to be delivered, and how many it was sent and may still prove."""
    waits = D.c.state.in_((DeliveryState.QUEUED, DeliveryState.LEASED, DeliveryState.DEAD))
    with store.read() as connection:
        counts = [
            connection.execute(select(func.count()).where(D.c.peer == peer, which)).scalar_one()
            for which in (and_(waits, D.c.retryable), and_(D.c.state == DeliveryState.SENT, _ASKED, MAY_BE_PROVEN))
        ]
    return counts[0], counts[1]
