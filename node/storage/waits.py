"""What waits for a time, and what becomes of it when the node's clock is set.

A time that was noted before the clock was set speaks of another clock. Both functions may run at any time, twice, or
late; neither touches what is only shown, nor the times that results are made from.
"""

from __future__ import annotations

import json

from sqlalchemy import and_, insert, select, update

from node.domain import CommitmentState, DeliveryState, JobState, StudyState
from node.storage import schema
from node.storage.store import CLOCK_SECONDS, Store

C = schema.commitment
D = schema.delivery
E = schema.expected
J = schema.job
M = schema.meta
S = schema.study

JUMP = "clock.set"
SAME_SECONDS = 3 * CLOCK_SECONDS
"""Within so long all hosts see that the database's clock was set, ..."""
LIKE_SECONDS = 5.0
"""... and by how much, but for a little."""


def bound(store: Store, *, now: float, wait: float, proof_wait: float, job_lease: float, delivery_lease: float) -> int:
    """The clock may have been set back: nothing waits for longer than it ever may, whatever its row says.

    `wait` is the longest time in seconds until something is tried again, `proof_wait` until a peer is asked again.

    Returns:
        The number of rows that would have waited longer.
    """
    queued = and_(J.c.state == JobState.QUEUED, J.c.due_at > now + wait)
    leased = and_(J.c.state == JobState.LEASED, J.c.lease_until > now + job_lease)
    to_send = and_(D.c.state == DeliveryState.QUEUED, D.c.due_at > now + wait)
    on_the_way = and_(D.c.state == DeliveryState.LEASED, D.c.lease_until > now + delivery_lease)
    to_prove = and_(D.c.state == DeliveryState.SENT, D.c.proof_due_at > now + proof_wait)
    to_report = and_(C.c.state.in_((CommitmentState.ASKED, CommitmentState.CHECKED)), C.c.due_at > now + wait)
    changes = [
        update(S).where(S.c.state == StudyState.RECEIVING, S.c.last_received_at > now).values(last_received_at=now),
        update(J).where(queued).values(due_at=now),
        update(J).where(leased).values(lease_until=now + job_lease),
        update(D).where(to_send).values(due_at=now),
        update(D).where(on_the_way).values(lease_until=now + delivery_lease),
        update(D).where(to_prove).values(proof_due_at=now),
        update(C).where(to_report).values(due_at=now),
        update(E).where(E.c.due_at > now + wait).values(due_at=now),
    ]
    with store.write() as connection:
        return sum(connection.execute(change).rowcount for change in changes)


def postpone(store: Store, seconds: float, *, now: float, job_lease: float, delivery_lease: float) -> int:
    """The clock was set forward, or the machine slept: time that did not pass for the node makes nothing overdue.

    A study is not complete and a lease not over because of it. What was noted since is left alone.

    Returns:
        The number of rows that were moved along.
    """
    before = now - seconds
    arriving = and_(S.c.state == StudyState.RECEIVING, S.c.last_received_at <= before)
    leased = and_(J.c.state == JobState.LEASED, J.c.lease_until <= before + job_lease)
    on_the_way = and_(D.c.state == DeliveryState.LEASED, D.c.lease_until <= before + delivery_lease)
    changes = [
        update(S).where(arriving).values(last_received_at=S.c.last_received_at + seconds),
        update(J).where(leased).values(lease_until=J.c.lease_until + seconds),
        update(D).where(on_the_way).values(lease_until=D.c.lease_until + seconds),
    ]
    with store.write() as connection:
        return sum(connection.execute(change).rowcount for change in changes)


def remember_jump(store: Store, seconds: float, *, now: float) -> bool:
    """The clock was set by so many seconds: people are told. False: another host that goes by it has seen the same."""
    said = json.dumps({"at": now, "seconds": seconds})
    with store.write() as connection:
        before = connection.execute(select(M.c.value).where(M.c.name == JUMP)).scalar() if store.database.shared else ""
        if before and _is_same(json.loads(before), seconds, now):
            return False
        if not connection.execute(update(M).where(M.c.name == JUMP).values(value=said)).rowcount:
            connection.execute(insert(M).values(name=JUMP, value=said))
    return True


def _is_same(before: dict[str, float], seconds: float, now: float) -> bool:
    return abs(before["at"] - now) < SAME_SECONDS and abs(before["seconds"] - seconds) < LIKE_SECONDS


def last_jump(store: Store) -> tuple[float, float] | None:
    """When the clock was last set, and by how many seconds."""
    with store.read() as connection:
        found = connection.execute(select(M.c.value).where(M.c.name == JUMP)).scalar()
    if found is None:
        return None
    said = json.loads(found)
    return float(said["at"]), float(said["seconds"])
