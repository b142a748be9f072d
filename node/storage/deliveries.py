"""Rows of deliveries, the outbox: one per result and destination, claimed, sent, retried, given up, never deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from node.domain import Delivery, DeliveryState, Priority, Study, StudyState
from node.storage import events, schema
from node.storage.rows import to_delivery
from node.storage.store import Store

D = schema.delivery
F = schema.form
J = schema.job
R = schema.result
S = schema.study

SHOWN = ("sc", "pdf")
"""The kinds that a person can look at: what a report says stands in them too."""


def recipients(deliver_to: Mapping[str, Sequence[str]], kind: str) -> list[str]:
    """Who gets a result of this kind, of a job's destinations with the kinds that each of them wants."""
    return [peer for peer, kinds in deliver_to.items() if not kinds or kind in kinds]


def joined() -> Any:
    names = ("sop_class_uid", "sop_instance_uid", "path")
    sent = [func.coalesce(F.c[name], R.c[name]).label(name) for name in names]
    joined = (
        select(D, R.c.kind, *sent, F.c.transfer_syntax_uid, J.c.study_id)
        .join(R, R.c.id == D.c.result_id)
        .join(J, J.c.id == R.c.job_id)
    )
    return joined.outerjoin(F, F.c.id == D.c.form_id)


def _ready(connection: Connection, peer: str, limit: int, now: float, *, by_age: bool) -> list[int]:
    """What may be sent, the most urgent first or what is due longest. Waiting and expired ones are asked for apart, and
    so are the classes of urgency: an index has each in order, and the length of the queue does not matter."""
    due = and_(D.c.state == DeliveryState.QUEUED, D.c.due_at <= now)
    expired = and_(D.c.state == DeliveryState.LEASED, D.c.lease_until < now)
    held = select(S.c.id).where(S.c.state == StudyState.HELD)
    query = joined().where(D.c.peer == peer, J.c.study_id.not_in(held), R.c.withdrawn_at.is_(None))
    query = query.order_by(D.c.due_at, D.c.id).limit(limit).with_for_update(skip_locked=True, of=D)
    found = [
        row
        for urgency in Priority
        for state in (due, expired)
        for row in connection.execute(query.where(D.c.priority == urgency, state))
    ]
    found.sort(key=lambda row: (row.priority == Priority.BULK if by_age else row.priority, row.due_at, row.id))
    return [row.id for row in found[:limit]]


def claim(store: Store, peer: str, limit: int, *, now: float, lease: float, by_age: bool = False) -> list[Delivery]:
    """Lease what is due for one destination, the most urgent first, or (`by_age`) what has waited longest, of a pull
    the last even so.

    Results of a held study wait; withdrawn ones never go.
    """
    with store.claim() as connection:
        ids = _ready(connection, peer, limit, now, by_age=by_age)
        if not ids:
            return []
        connection.execute(
            update(D)
            .where(D.c.id.in_(ids))
            .values(state=DeliveryState.LEASED, fence=D.c.fence + 1, lease_until=now + lease, host=store.host)
        )
        rows = connection.execute(joined().where(D.c.id.in_(ids)).order_by(D.c.priority, D.c.id))
        return [to_delivery(store, row) for row in rows]


def may_go(store: Store, delivery: Delivery) -> bool:
    """Asked just before the bytes leave: is the lease still ours, and is nobody in doubt about the study?"""
    with store.read() as connection:
        mine = (
            select(D.c.id)
            .join(R, R.c.id == D.c.result_id)
            .join(J, J.c.id == R.c.job_id)
            .join(S, S.c.id == J.c.study_id)
        )
        query = mine.where(D.c.id == delivery.id, D.c.state == DeliveryState.LEASED, D.c.fence == delivery.fence)
        sound = query.where(S.c.state != StudyState.HELD, R.c.withdrawn_at.is_(None))
        return connection.execute(sound).first() is not None


def sent(store: Store, delivery: Delivery, *, status: int, note: str, now: float, prove: bool = True) -> bool:
    """LEASED -> SENT: the peer answered success or a warning; `prove`: it is to prove that it keeps the object."""
    values = {"state": DeliveryState.SENT, "status": status, "reason": note, "sent_at": now, "failing_since": None}
    values["proof_due_at"] = now if prove else None
    if _end(store, delivery, values | {"attempts": delivery.attempts + 1}, f"sent {delivery.kind}", now):
        if delivery.failing_since:
            _hurry(store, delivery.peer, now)
        return True
    with store.write() as connection:
        text = f"{delivery.peer}: {delivery.kind} reached the peer before it could be stopped"
        events.add(connection, delivery.study_id, "deliver", text, now=now)
    return False


def _hurry(store: Store, peer: str, now: float) -> None:
    """A peer that failed takes objects again: what waits for it need not wait any longer."""
    with store.write() as connection:
        connection.execute(
            update(D)
            .where(D.c.peer == peer, D.c.state == DeliveryState.QUEUED, D.c.due_at > now)
            .where(D.c.failing_since.isnot(None), D.c.refusals == 0)
            .values(due_at=now)
        )


def failing(store: Store) -> list[tuple[str, int, float]]:
    """Peers to which results wait after a failure: name, how many, since when."""
    query = select(D.c.peer, func.count(), func.min(D.c.failing_since)).group_by(D.c.peer).order_by(D.c.peer)
    waiting = D.c.state.in_((DeliveryState.QUEUED, DeliveryState.LEASED))
    with store.read() as connection:
        rows = connection.execute(query.where(waiting, D.c.failing_since.isnot(None)))
        return [(peer, n, since) for peer, n, since in rows]


def retry_later(
    store: Store, delivery: Delivery, *, status: int | None, reason: str, refusals: int, due_at: float, now: float
) -> bool:
    """LEASED -> QUEUED: it may work later. `refusals` counts permanent refusals in a row."""
    values = {"state": DeliveryState.QUEUED, "status": status, "reason": reason, "due_at": due_at}
    values |= {"failing_since": delivery.failing_since or now, "refusals": refusals}
    text = f"could not send {delivery.kind}, will try again: {reason}"
    return _end(store, delivery, values | {"attempts": delivery.attempts + 1}, text, now)


def give_up(store: Store, delivery: Delivery, *, status: int | None, reason: str, now: float) -> bool:
    """LEASED -> DEAD: only a person can mend this."""
    values = {"state": DeliveryState.DEAD, "status": status, "reason": reason}
    text = f"gave up sending {delivery.kind}: {reason}"
    return _end(store, delivery, values | {"attempts": delivery.attempts + 1}, text, now)


def instead(store: Store, delivery: Delivery) -> str:
    """The kind of another result of the same job that goes to the same peer and says the same to a person, if any.

    What was withdrawn says nothing any more, and least of all that it was.
    """
    if delivery.kind in SHOWN:
        return ""
    mine = select(R.c.job_id).where(R.c.id == delivery.result_id).scalar_subquery()
    query = select(R.c.kind).join(D, D.c.result_id == R.c.id).where(R.c.job_id == mine, D.c.peer == delivery.peer)
    gone = (DeliveryState.DEAD, DeliveryState.OMITTED)
    with store.read() as connection:
        sound = query.where(R.c.kind.in_(SHOWN), R.c.withdrawn_at.is_(None))
        shown = sound.where(D.c.state.not_in(gone), D.c.refusals == 0).order_by(R.c.id)
        return connection.execute(shown).scalar() or ""


def omit(store: Store, delivery: Delivery, *, status: int | None, reason: str, now: float) -> bool:
    """LEASED -> OMITTED: the peer takes no object of this kind, and another one says the same."""
    values = {"state": DeliveryState.OMITTED, "status": status, "reason": reason, "failing_since": None}
    text = f"left out {delivery.kind}: {reason}"
    return _end(store, delivery, values | {"attempts": delivery.attempts + 1}, text, now)


def release(store: Store, delivery: Delivery) -> None:
    """LEASED -> QUEUED, untouched: it was claimed and never tried."""
    with store.write() as connection:
        connection.execute(
            update(D)
            .where(D.c.id == delivery.id, D.c.state == DeliveryState.LEASED, D.c.fence == delivery.fence)
            .values(state=DeliveryState.QUEUED, lease_until=None)
        )


def _end(store: Store, delivery: Delivery, values: dict[str, Any], text: str, now: float) -> bool:
    with store.write_of(delivery.study_id) as connection:
        changed = connection.execute(
            update(D)
            .where(D.c.id == delivery.id, D.c.state == DeliveryState.LEASED, D.c.fence == delivery.fence)
            .values(lease_until=None, **values)
        ).rowcount
        # The story tells the first failure of a kind, not each of a day's attempts
        if changed and (values["state"] != DeliveryState.QUEUED or values["reason"] != delivery.reason):
            events.add(connection, delivery.study_id, "deliver", f"{delivery.peer}: {text}", now=now)
        return bool(changed)


def free_all(store: Store) -> int:
    """After a restart of this host's sender: nothing of it is under way any more."""
    with store.write() as connection:
        return free(connection, D.c.host == store.host)


def free(connection: Connection, whose: ColumnElement[bool]) -> int:
    freed = update(D).where(D.c.state == DeliveryState.LEASED, whose)
    return connection.execute(freed.values(state=DeliveryState.QUEUED, lease_until=None)).rowcount


def retry(store: Store, study: Study, *, now: float) -> int:
    """DEAD and OMITTED deliveries of a study back to the queue; queued ones are due at once."""
    mine = select(R.c.id).join(J, J.c.id == R.c.job_id).where(J.c.study_id == study.id)
    with store.write() as connection:
        n = connection.execute(
            update(D)
            .where(D.c.result_id.in_(mine), D.c.retryable)
            .where(D.c.state.in_((DeliveryState.DEAD, DeliveryState.OMITTED, DeliveryState.QUEUED)))
            .values(**_fresh(now))
        ).rowcount
        if n:
            events.add(connection, study.id, "deliver", f"a person asked to send {n} results again", now=now)
        return n


def retry_all(store: Store, peer: str | None = None, *, now: float) -> int:
    """DEAD deliveries of all studies back to the queue, to one peer or to all; queued ones are due at once."""
    query = update(D).where(D.c.state.in_((DeliveryState.DEAD, DeliveryState.QUEUED)), D.c.retryable)
    with store.write() as connection:
        return connection.execute((query.where(D.c.peer == peer) if peer else query).values(**_fresh(now))).rowcount


def _fresh(now: float) -> dict[str, Any]:
    values = {"state": DeliveryState.QUEUED, "due_at": now, "attempts": 0, "refusals": 0, "failing_since": None}
    return values | {"lease_until": None, "resends": 0, "asks": 0, "transaction_uid": "", "proof": ""}


def send_unanswered(store: Store, *, now: float) -> int:
    """SENT -> QUEUED for what was adopted as perhaps sent, when its peer cannot say whether it has it.

    Known by having no answer to a C-STORE, and nobody asking any more.
    """
    adopted = and_(D.c.state == DeliveryState.SENT, D.c.status.is_(None), D.c.proof_due_at.is_(None), D.c.retryable)
    sound = D.c.result_id.in_(select(R.c.id).where(R.c.withdrawn_at.is_(None), R.c.purged.is_(False)))
    with store.write() as connection:
        return connection.execute(
            update(D).where(adopted, sound).values(state=DeliveryState.QUEUED, due_at=now)
        ).rowcount


def peers(store: Store) -> list[str]:
    """The destinations that still have something to get."""
    open_states = (DeliveryState.QUEUED, DeliveryState.LEASED)
    with store.read() as connection:
        return list(connection.execute(select(D.c.peer).where(D.c.state.in_(open_states)).distinct()).scalars())


def of_study(store: Store, study_id: int) -> list[Delivery]:
    with store.read() as connection:
        rows = connection.execute(joined().where(J.c.study_id == study_id).order_by(D.c.id))
        return [to_delivery(store, row) for row in rows]
