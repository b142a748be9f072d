"""Rows of associations: who sent, when it ended and how, and on which host it was."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from node.domain import Origin
from node.storage import schema
from node.storage.store import Store

A = schema.association
LOST = "lost"
"""How an association ended of which nobody knows the end."""


def begin(store: Store, connection: Connection, origin: Origin, **more: Any) -> None:
    values: dict[str, Any] = {
        "id": origin.id,
        "calling_ae_title": origin.calling_ae_title,
        "called_ae_title": origin.called_ae_title,
    }
    values |= {"address": origin.address, "peer": origin.peer, "started_at": origin.started_at, "host": store.host}
    connection.execute(insert(A).values(**{"how": "", **values, **more}))


def lose(connection: Connection, whose: ColumnElement[bool], *, now: float) -> int:
    """Whatever is open of these never ended in order."""
    lost = update(A).where(A.c.ended_at.is_(None), whose)
    return connection.execute(lost.values(ended_at=now, how=LOST)).rowcount


def adopt(store: Store, origin: Origin, *, now: float) -> None:
    """An association of which only files are left: it was lost. One that has a row keeps it."""
    with store.write() as connection:
        if connection.execute(select(A.c.id).where(A.c.id == origin.id)).first() is None:
            begin(store, connection, origin, ended_at=now, how=LOST)


def open_elsewhere(store: Store, association: str) -> bool:
    """Whether an association is open on another host, which then sees to what it brings."""
    query = select(A.c.id).where(A.c.id == association, A.c.ended_at.is_(None), A.c.host != store.host)
    with store.read() as connection:
        return connection.execute(query).first() is not None
