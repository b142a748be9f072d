"""A study's story, one line per step, written in the transaction of the step itself."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select

from node.domain import Event
from node.storage import schema
from node.storage.store import Store

E = schema.event


def add(connection: Connection, study_id: int, verb: str, text: str, *, now: float) -> None:
    connection.execute(insert(E), {"study_id": study_id, "at": now, "verb": verb, "text": text})


def of_study(store: Store, study_id: int) -> list[Event]:
    query = select(E).where(E.c.study_id == study_id).order_by(E.c.at, E.c.id)
    with store.read() as connection:
        return [Event(row.at, row.verb, row.text) for row in connection.execute(query)]
