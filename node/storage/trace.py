"""What is new in `event`, for whoever follows it: each follower keeps a cursor, and the rows say what a line is about.

An event is written in the transaction of its step and with the step's own time, so that it finds the row that changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from node.domain import Event
from node.storage import schema

E = schema.event
M = schema.meta

Place = tuple[int, float]
"""Study and time: what a row that changed in the same step as an event has too."""
FOLLOWERS = ("tally", "audit")


@dataclass(frozen=True)
class Line:
    """One event, and the study that it is about."""

    id: int
    study_id: int
    event: Event

    @property
    def place(self) -> Place:
        return self.study_id, self.event.at


def cursor(connection: Connection, follower: str) -> int:
    """The last event that a follower has seen; 0 when it has seen none."""
    found = connection.execute(select(M.c.value).where(M.c.name == _name(follower))).scalar()
    return int(found) if found is not None else 0


def move(connection: Connection, follower: str, to: int) -> None:
    changed = connection.execute(update(M).where(M.c.name == _name(follower)).values(value=str(to))).rowcount
    if not changed:
        connection.execute(insert(M).values(name=_name(follower), value=str(to)))


def last(connection: Connection) -> int:
    """The newest event."""
    return int(connection.execute(select(func.max(E.c.id))).scalar() or 0)


def after(connection: Connection, seen: int, limit: int) -> Sequence[Line]:
    """The next events, about `limit`: those of one step are not parted."""
    rows = connection.execute(select(E).where(E.c.id > seen).order_by(E.c.id).limit(limit + 1))
    lines = [Line(row.id, row.study_id, Event(row.at, row.verb, row.text)) for row in rows]
    if len(lines) <= limit:
        return lines
    next_one = lines.pop()
    whole = [line for line in lines if line.place != next_one.place]
    return whole or lines


def rewind(connection: Connection) -> None:
    """After events were deleted: the database gives their numbers out again, and nobody may have seen those yet."""
    newest = last(connection)
    for follower in FOLLOWERS:
        if cursor(connection, follower) > newest:
            move(connection, follower, newest)


def _name(follower: str) -> str:
    return f"cursor.{follower}"
