"""Rows of deliveries on their way from SENT to COMMITTED: what is to be asked about, what was answered.

A delivery keeps the fence that it was sent under, so that an answer about an earlier sending changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, not_, or_, select, update

from node.domain import DeliveryState
from node.storage import events, schema
from node.storage.departed import MAY_BE_PROVEN
from node.storage.store import Store

D = schema.delivery
F = schema.form
J = schema.job
R = schema.result
S = schema.study

ENOUGH = 2
"""Questions without an answer, after which something else is tried."""


@dataclass(frozen=True)
class Sent:
    """A delivery that its peer has answered with success, and what is known of the proof."""

    id: int
    study_id: int
    peer: str
    kind: str
    state: DeliveryState
    fence: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    sent_at: float
    transaction_uid: str
    asks: int
    resends: int
    proof: str


@dataclass(frozen=True)
class Open:
    """Deliveries of one peer that are not proven for one reason."""

    peer: str
    reason: str
    count: int
    since: float


def _sent() -> Any:
    uids: Any = [func.coalesce(F.c[name], R.c[name]).label(name) for name in ("sop_class_uid", "sop_instance_uid")]
    columns: Any = (D, *uids, R.c.kind, R.c.series_instance_uid, J.c.study_id, S.c.study_instance_uid)
    joined = D.join(R, R.c.id == D.c.result_id).join(J, J.c.id == R.c.job_id).join(S, S.c.id == J.c.study_id)
    return select(*columns).select_from(joined.outerjoin(F, F.c.id == D.c.form_id)).order_by(D.c.id)


def _to_sent(row: Any) -> Sent:
    return Sent(
        id=row.id,
        study_id=row.study_id,
        peer=row.peer,
        kind=row.kind,
        state=DeliveryState(row.state),
        fence=row.fence,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        series_instance_uid=row.series_instance_uid,
        study_instance_uid=row.study_instance_uid,
        sent_at=row.sent_at,
        transaction_uid=row.transaction_uid,
        asks=row.asks,
        resends=row.resends,
        proof=row.proof,
    )


def first_due(store: Store, peer: str) -> float | None:
    """When the next delivery to a peer is to be asked about."""
    query = select(func.min(D.c.proof_due_at)).where(D.c.peer == peer, D.c.state == DeliveryState.SENT)
    with store.read() as connection:
        return connection.execute(query).scalar()


def due(store: Store, peer: str, limit: int, *, now: float) -> list[Sent]:
    """What is to be asked about now."""
    mine = and_(D.c.peer == peer, D.c.state == DeliveryState.SENT, D.c.proof_due_at <= now)
    with store.read() as connection:
        return [_to_sent(row) for row in connection.execute(_sent().where(mine).limit(limit))]


def of_transaction(store: Store, transaction_uid: str) -> list[Sent]:
    """What was last asked about under this name, in whatever state it is now."""
    if not transaction_uid:
        return []
    with store.read() as connection:
        return [_to_sent(row) for row in connection.execute(_sent().where(D.c.transaction_uid == transaction_uid))]


def waits(store: Store, transaction_uids: Iterable[str]) -> bool:
    """Whether anything that was asked about under these names has no answer yet."""
    asked = and_(D.c.state == DeliveryState.SENT, D.c.asks > 0, D.c.transaction_uid.in_(list(transaction_uids)))
    with store.read() as connection:
        return connection.execute(select(D.c.id).where(asked).limit(1)).first() is not None


def asking(store: Store, sent: Iterable[Sent], transaction_uid: str, *, again_at: float) -> list[Sent]:
    """Note a question before it is asked; unanswered it is asked again. What changed meanwhile is left out."""
    values = {"transaction_uid": transaction_uid, "asks": D.c.asks + 1, "proof_due_at": again_at}
    with store.write() as connection:
        return [one for one in sent if _change(connection, one, values)]


def commit(store: Store, sent: Iterable[Sent], proof: str, *, now: float) -> int:
    """SENT -> COMMITTED: the peer proved that it keeps the object."""
    values = {"state": DeliveryState.COMMITTED, "proof": proof, "proven_at": now, "proof_due_at": None}
    done = 0
    with store.write() as connection:
        for one in sent:
            if _change(connection, one, values):
                events.add(connection, one.study_id, "deliver", f"{one.peer}: {one.kind} is kept: {proof}", now=now)
                done += 1
    return done


def look_again(store: Store, sent: Sent, *, due_at: float) -> None:
    """The same question again at a later time."""
    with store.write() as connection:
        _change(connection, sent, {"proof_due_at": due_at})


def put_off(store: Store, sent: Iterable[Sent], reason: str, *, due_at: float, now: float) -> None:
    """This question is over without an answer; another one is asked at a later time."""
    _unproven(store, sent, {"proof": reason, "proof_due_at": due_at, "asks": 0}, now)


def end(store: Store, sent: Iterable[Sent], reason: str, *, now: float) -> None:
    """The peer was asked often enough and does not say: what was sent stays SENT, and nobody asks any more."""
    _unproven(store, sent, {"proof": reason, "proof_due_at": None, "asks": ENOUGH}, now)


def end_all_but(store: Store, peers: Sequence[str], reason: str, *, now: float) -> int:
    """What was sent to others than these peers is not asked about any more: it stays SENT."""
    query = _sent().where(D.c.state == DeliveryState.SENT, D.c.proof_due_at.isnot(None), D.c.peer.not_in(peers))
    with store.read() as connection:
        found = [_to_sent(row) for row in connection.execute(query)]
    if found:
        refuse(store, found, reason, now=now)
    return len(found)


def refuse(store: Store, sent: Iterable[Sent], reason: str, *, now: float) -> None:
    """The peer offers no proof: what was sent stays SENT, until `ask_refused`."""
    _unproven(store, sent, {"proof": reason, "proof_due_at": None, "asks": 0}, now)


def _unproven(store: Store, sent: Iterable[Sent], values: dict[str, Any], now: float) -> None:
    """The story tells each new reason once."""
    with store.write() as connection:
        for one in sent:
            if _change(connection, one, values) and values["proof"] != one.proof:
                text = f"{one.peer}: {one.kind} is not proven: {values['proof']}"
                events.add(connection, one.study_id, "deliver", text, now=now)


def send_again(store: Store, sent: Sent, reason: str, *, most: int, now: float) -> DeliveryState | None:
    """SENT -> QUEUED: the peer does not have what it took; DEAD when it was sent again `most` times, or may not be.

    Returns:
        The new state; None when the delivery changed meanwhile.
    """
    with store.write() as connection:
        may = _may_go_again(connection, sent)
        if may and sent.resends < most:
            state = DeliveryState.QUEUED
            values = {"state": state, "due_at": now, "resends": sent.resends + 1, "proof_due_at": None}
            values |= {"transaction_uid": "", "asks": 0, "proof": "", "reason": reason}
            text = f"{sent.kind} is sent again: {reason}"
        else:
            why = f"{reason}, though it was sent {sent.resends + 1} times" if may else f"{reason}, and it must not go"
            state = DeliveryState.DEAD
            values = {"state": state, "proof_due_at": None, "reason": why}
            text = f"gave up {sent.kind}: {why}"
        if not _change(connection, sent, values):
            return None
        events.add(connection, sent.study_id, "deliver", f"{sent.peer}: {text}", now=now)
        return state


def _may_go_again(connection: Connection, sent: Sent) -> bool:
    """Whether a result may still leave: nobody stopped or withdrew it, and its bytes are there."""
    sound = and_(D.c.retryable, R.c.withdrawn_at.is_(None), R.c.quarantine == "", not_(R.c.purged))
    query = select(D.c.id).join(R, R.c.id == D.c.result_id).where(D.c.id == sent.id, sound)
    return connection.execute(query).first() is not None


def give_up(store: Store, sent: Sent, reason: str, *, now: float) -> bool:
    """SENT -> DEAD: the peer took the object and says that it will not keep it."""
    values = {"state": DeliveryState.DEAD, "proof_due_at": None, "reason": reason}
    with store.write() as connection:
        changed = _change(connection, sent, values)
        if changed:
            text = f"{sent.peer}: gave up {sent.kind}: {reason}"
            events.add(connection, sent.study_id, "deliver", text, now=now)
        return changed


def _change(connection: Connection, sent: Sent, values: dict[str, Any]) -> bool:
    mine = and_(D.c.id == sent.id, D.c.state == DeliveryState.SENT, D.c.fence == sent.fence)
    return bool(connection.execute(update(D).where(mine).values(**values)).rowcount)


def _standing() -> Any:
    """Of what nobody withdrew."""
    return D.c.result_id.in_(select(R.c.id).where(R.c.withdrawn_at.is_(None)))


def ask_anew(store: Store, peers: Sequence[str], *, now: float, study_id: int | None = None) -> int:
    """What these peers were sent and nobody asks about any more is asked about again: all, or of one study."""
    ended = and_(D.c.state == DeliveryState.SENT, D.c.proof_due_at.is_(None), D.c.peer.in_(peers), MAY_BE_PROVEN)
    query = update(D).where(ended, _standing()).values(proof_due_at=now, asks=0)
    if study_id is not None:
        results = select(R.c.id).join(J, J.c.id == R.c.job_id).where(J.c.study_id == study_id)
        query = query.where(D.c.result_id.in_(results))
    with store.write() as connection:
        return connection.execute(query).rowcount


def ask_refused(store: Store, peer: str, *, since: float, now: float) -> int:
    """What a peer offered no proof for is asked about again: it may offer it by now."""
    ended = and_(D.c.state == DeliveryState.SENT, D.c.proof_due_at.is_(None), D.c.sent_at >= since)
    query = update(D).where(ended, D.c.peer == peer, D.c.asks == 0, D.c.proof != "", _standing(), MAY_BE_PROVEN)
    with store.write() as connection:
        return connection.execute(query.values(proof_due_at=now)).rowcount


def overdue(store: Store, *, since: float) -> list[Open]:
    """Of what was sent since then, that about which peers say nothing, or not yet; by reason."""
    unanswered = or_(D.c.asks >= ENOUGH, and_(D.c.asks == 0, D.c.proof != "", D.c.proof_due_at.isnot(None)))
    query = select(D.c.peer, D.c.proof, func.count(), func.min(D.c.sent_at)).group_by(D.c.peer, D.c.proof)
    with store.read() as connection:
        query = query.where(D.c.state == DeliveryState.SENT, D.c.sent_at >= since, unanswered)
        return [Open(*row) for row in connection.execute(query.order_by(D.c.peer))]


def unproven(store: Store) -> int:
    """How many results were sent and are not asked about any more: nothing will prove them."""
    ended = and_(D.c.state == DeliveryState.SENT, D.c.proof_due_at.is_(None))
    with store.read() as connection:
        return int(connection.execute(select(func.count()).where(ended)).scalar_one())
