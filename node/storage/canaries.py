"""Rows of canaries: test studies that the node sends to itself to see that the way is open. They count nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from node.storage import schema
from node.storage.store import Store
from node.storage.trials import OURSELVES

C = schema.canary
S = schema.study

PEER = "(canary)"
"""The destination of its results: a name that no [[peer]] can have."""


@dataclass(frozen=True)
class Ran:
    """What came of one route's canary. `ok`: None where the drawn film is none that the route takes."""

    route: str
    at: float
    ended_at: float | None
    ok: bool | None
    reason: str
    seconds: Mapping[str, float]


def begin(store: Store, routes: Sequence[str], study_instance_uid: str, *, now: float) -> None:
    """Before anything of it is sent: what is not yet there counts nowhere either."""
    with store.write() as connection:
        for route in routes:
            values = {"route": route, "study_instance_uid": study_instance_uid, "at": now, "seconds": {}}
            connection.execute(insert(C).values(**values))


def end(
    store: Store,
    study_instance_uid: str,
    route: str,
    *,
    ok: bool | None,
    reason: str,
    seconds: Mapping[str, float],
    likeness: str = "",
    outcome: Mapping[str, Any] | None = None,
    now: float,
) -> None:
    mine = (C.c.study_instance_uid == study_instance_uid, C.c.route == route, C.c.ended_at.is_(None))
    values = {"ended_at": now, "ok": ok, "reason": reason, "seconds": dict(seconds), "likeness": likeness}
    with store.write() as connection:
        connection.execute(update(C).where(*mine).values(outcome=outcome, **values))


def end_all(store: Store, reason: str, *, now: float) -> int:
    """Whoever ran them was killed, or stopped: they say nothing."""
    with store.write() as connection:
        open_ones = update(C).where(C.c.ended_at.is_(None))
        return connection.execute(open_ones.values(ended_at=now, ok=None, reason=reason)).rowcount


def left_over(store: Store) -> list[int]:
    """The studies of canaries that ended, to be removed; of those that are gone the rows remember it."""
    with store.write() as connection:
        there = select(S.c.study_instance_uid).where(S.c.peer == OURSELVES)
        ended = (C.c.removed.is_(False), C.c.ended_at.isnot(None))
        connection.execute(update(C).where(*ended, C.c.study_instance_uid.not_in(there)).values(removed=True))
        named = select(C.c.study_instance_uid).where(*ended)
        mine = (S.c.study_instance_uid.in_(named), S.c.peer == OURSELVES)
        return list(connection.execute(select(S.c.id).where(*mine)).scalars())


def latest(store: Store) -> list[Ran]:
    """Of each route the last canary that ended, by route; one that nobody ended by itself is left out."""
    with store.read() as connection:
        rows = connection.execute(select(C).where(C.c.ended_at.isnot(None)).order_by(C.c.ended_at.desc()).limit(200))
        found = [Ran(r.route, r.at, r.ended_at, r.ok, r.reason, r.seconds) for r in rows if r.ok is not None]
    return sorted({ran.route: ran for ran in reversed(found)}.values(), key=lambda ran: ran.route)


def first_like(store: Store, likeness: str) -> dict[str, Any] | None:
    """What came of the first sound canary of this likeness: the same film, models and settings must give it again."""
    query = select(C.c.outcome).where(C.c.likeness == likeness, C.c.ok.is_(True)).order_by(C.c.id).limit(1)
    with store.read() as connection:
        found = connection.execute(query).scalar()
    return dict(found) if found is not None else None


def purge(store: Store, *, before: float) -> int:
    """Forget canaries that are older, except what others are compared with."""
    with store.write() as connection:
        rows = connection.execute(select(C.c.id, C.c.likeness).where(C.c.ok.is_(True)).order_by(C.c.id))
        compared = {row.likeness: row.id for row in reversed(rows.all())}
        old = delete(C).where(C.c.ended_at < before, C.c.removed, C.c.id.not_in(list(compared.values())))
        return connection.execute(old).rowcount
