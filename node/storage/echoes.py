"""Rows of when each peer was last asked whether it is there, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select

from node.storage import schema
from node.storage.store import Store

E = schema.peer_echo


@dataclass(frozen=True)
class Echo:
    """One question to one peer; `seconds` until it answered, `error` in words where it did not."""

    peer: str
    at: float
    answered: bool
    seconds: float | None = None
    error: str = ""


def remember(store: Store, echo: Echo) -> None:
    """Keep the latest answer of a peer."""
    with store.write() as connection:
        connection.execute(delete(E).where(E.c.peer == echo.peer))
        connection.execute(insert(E).values(**asdict(echo)))


def latest(store: Store) -> dict[str, Echo]:
    """The latest answer of each peer that was ever asked."""
    with store.read() as connection:
        return {row.peer: Echo(**row._mapping) for row in connection.execute(select(E))}
