"""Rows of what peers asked us to commit to: kept before the answer, checked, reported, given up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update

from node.domain import CommitmentState, Instance
from node.storage import schema
from node.storage.rows import to_instance
from node.storage.store import Store

C = schema.commitment
I = schema.instance  # noqa: E741

OPEN = (CommitmentState.ASKED, CommitmentState.CHECKED)


@dataclass(frozen=True)
class Item:
    """One instance that was asked about; `failure`: a Failure Reason (PS3.3 C.14.1.1), 0 for none."""

    sop_class_uid: str
    sop_instance_uid: str
    failure: int = 0


@dataclass(frozen=True)
class Commitment:
    id: int
    transaction_uid: str
    association: str
    calling_ae_title: str
    peer: str
    items: tuple[Item, ...]
    state: CommitmentState
    attempts: int
    fence: int
    reason: str
    asked_at: float


def to_commitment(row: Any) -> Commitment:
    return Commitment(
        id=row.id,
        transaction_uid=row.transaction_uid,
        association=row.association,
        calling_ae_title=row.calling_ae_title,
        peer=row.peer,
        items=tuple(Item(*item) for item in row.items),
        state=CommitmentState(row.state),
        attempts=row.attempts,
        fence=row.fence,
        reason=row.reason,
        asked_at=row.asked_at,
    )


def add(
    store: Store,
    transaction_uid: str,
    items: Sequence[Item],
    *,
    association: str,
    calling_ae_title: str,
    peer: str,
    now: float,
) -> bool:
    """Keep a request. The same one again changes nothing.

    Returns:
        False when this AE title has used the Transaction UID for something else.
    """
    listed = [[item.sop_class_uid, item.sop_instance_uid, item.failure] for item in items]
    named = (C.c.calling_ae_title == calling_ae_title, C.c.transaction_uid == transaction_uid)
    values = {"association": association, "peer": peer, "items": listed, "state": CommitmentState.ASKED}
    with store.write() as connection:
        before = connection.execute(select(C.c["items"]).where(*named)).first()
        if before is not None:
            return [item[:2] for item in before[0]] == [item[:2] for item in listed]
        values |= {"transaction_uid": transaction_uid, "calling_ae_title": calling_ae_title}
        connection.execute(insert(C).values(**values, due_at=now, asked_at=now))
        return True


def open_ones(store: Store, peer: str) -> int:
    """How many requests of a peer are not reported on."""
    query = select(func.count()).where(C.c.peer == peer, C.c.state.in_(OPEN))
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def due(store: Store, peer: str, *, now: float, asked_before: float = inf) -> list[Commitment]:
    """What of a peer's requests is to be checked now, and of those `asked_before` what is to be reported, oldest
    first."""
    wanted = or_(C.c.state == CommitmentState.ASKED, C.c.asked_at < asked_before)
    query = select(C).where(C.c.peer == peer, C.c.state.in_(OPEN), C.c.due_at <= now, wanted)
    query = query.order_by(C.c.id).limit(16)
    with store.read() as connection:
        return [to_commitment(row) for row in connection.execute(query)]


def checked_of(store: Store, associations: Iterable[str]) -> list[Commitment]:
    """What can be reported to who asked on one of these associations."""
    query = select(C).where(C.c.association.in_(list(associations)), C.c.state == CommitmentState.CHECKED)
    with store.read() as connection:
        return [to_commitment(row) for row in connection.execute(query.order_by(C.c.id))]


def of_peer(store: Store, peer: str) -> list[Commitment]:
    with store.read() as connection:
        return [to_commitment(row) for row in connection.execute(select(C).where(C.c.peer == peer).order_by(C.c.id))]


def instances_of(store: Store, sop_instance_uid: str) -> list[Instance]:
    """All that came under this UID."""
    query = select(I).where(I.c.sop_instance_uid == sop_instance_uid).order_by(I.c.id)
    with store.read() as connection:
        return [to_instance(store, row) for row in connection.execute(query)]


def checked(store: Store, commitment: Commitment, items: Iterable[Item], *, now: float) -> bool:
    """ASKED -> CHECKED with what was found."""
    listed = [[item.sop_class_uid, item.sop_instance_uid, item.failure] for item in items]
    return _change(store, commitment, state=CommitmentState.CHECKED, items=listed, due_at=now)


def reported(store: Store, commitment: Commitment, *, now: float) -> bool:
    """CHECKED -> REPORTED: the peer took the report."""
    return _change(store, commitment, state=CommitmentState.REPORTED, reported_at=now, reason="")


def retry_later(store: Store, commitment: Commitment, reason: str, *, due_at: float) -> bool:
    """The peer could not be told; it may work later."""
    return _change(store, commitment, attempts=commitment.attempts + 1, reason=reason, due_at=due_at)


def give_up(store: Store, commitment: Commitment, reason: str) -> bool:
    """-> DEAD: the peer was not told; it still has what it asked about, and may ask again."""
    return _change(store, commitment, state=CommitmentState.DEAD, reason=reason)


def abandon(store: Store, association: str, reason: str) -> int:
    """What was asked on an association that has ended, and can be reported nowhere else."""
    mine = (C.c.association == association, C.c.state.in_(OPEN))
    with store.write() as connection:
        values = {"state": CommitmentState.DEAD, "reason": reason, "fence": C.c.fence + 1}
        return connection.execute(update(C).where(*mine).values(**values)).rowcount


def _change(store: Store, commitment: Commitment, **values: Any) -> bool:
    mine = (C.c.id == commitment.id, C.c.state == commitment.state, C.c.fence == commitment.fence)
    with store.write() as connection:
        changed = connection.execute(update(C).where(*mine).values(fence=commitment.fence + 1, **values))
        return bool(changed.rowcount)


def untold(store: Store) -> list[tuple[str, str]]:
    """Peers whose latest request could not be reported on, and why."""
    last = select(func.max(C.c.id)).group_by(C.c.peer)
    with store.read() as connection:
        rows = connection.execute(select(C).where(C.c.id.in_(last), C.c.state == CommitmentState.DEAD))
        return [(row.peer, row.reason) for row in rows]


def purge(store: Store, *, before: float) -> int:
    """Forget requests that ended and are older; their Transaction UIDs are not used any more (PS3.4 J.3.3)."""
    with store.write() as connection:
        return connection.execute(delete(C).where(C.c.state.not_in(OPEN), C.c.asked_at < before)).rowcount
