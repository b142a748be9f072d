"""Rows of alarms: what is wrong, since when, who was told; and what is still to be told.

An alarm is told when it has lasted, again while it lasts, and when it is over; whatever comes and goes in between is
neither. Nothing here names a patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, or_, select, update

from node.storage import schema
from node.storage.store import Store

A = schema.alarm
N = schema.alarm_notice

Severity = Literal["critical", "warning"]
Event = Literal["raised", "lasts", "over", "test"]


@dataclass(frozen=True)
class Alarm:
    """Something that a person should see to; `key` stays the same while it lasts."""

    key: str
    severity: Severity
    text: str
    remedy: str = ""
    since: float | None = None
    """When it began; None where only the first look at it is known."""

    @property
    def sentence(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True)
class Standing:
    """An alarm that is not over. `raised_at`: when people were told; None while it may still pass."""

    id: int
    key: str
    severity: Severity
    text: str
    remedy: str
    since: float
    raised_at: float | None


@dataclass(frozen=True)
class Notice:
    """What is to be told by one way."""

    id: int
    channel: str
    body: Mapping[str, Any]
    created_at: float
    attempts: int


@dataclass(frozen=True)
class Rules:
    """When an alarm counts and is told, in seconds, and by which ways."""

    after: float
    again: float
    channels: Sequence[str]
    node: str


def see(store: Store, found: Sequence[Alarm], rules: Rules, *, now: float) -> list[tuple[Event, str]]:
    """Hold what is wrong now against what was, and put down whatever is to be told.

    Returns:
        What changed, by key.
    """
    told: list[tuple[Event, str]] = []
    with store.write() as connection:
        rows = {row.key: row for row in connection.execute(select(A).where(A.c.over_at.is_(None)))}
        for alarm in found:
            event, since = _lasts(connection, alarm, rows.pop(alarm.key, None), rules, now)
            if event:
                told.append((event, alarm.key))
                _notice(connection, event, replace(alarm, since=since), rules, now)
        for row in rows.values():
            if row.raised_at is not None and 0 <= now - row.seen_at < rules.after:
                continue
            connection.execute(update(A).where(A.c.id == row.id).values(over_at=now))
            if row.raised_at is not None:
                told.append(("over", row.key))
                gone = Alarm(row.key, row.severity, row.text, row.remedy, row.since)
                _notice(connection, "over", gone, rules, now)
    return told


def _lasts(connection: Connection, alarm: Alarm, row: Any, rules: Rules, now: float) -> tuple[Event | None, float]:
    """Note that an alarm stands; what is to be told of it, and since when it stands."""
    said = {"severity": alarm.severity, "text": alarm.text, "remedy": alarm.remedy, "seen_at": now}
    since = alarm.since if alarm.since is not None else row.since if row else now
    if row is None:
        first = {"key": alarm.key, "first_at": now}
        row = connection.execute(insert(A).values(since=since, **first, **said).returning(A)).one()
    event: Event | None = None
    if row.raised_at is None and now - row.first_at >= rules.after:
        event, said = "raised", said | {"raised_at": now, "told_at": now}
    elif row.raised_at is not None and now - row.told_at >= rules.again:
        event, said = "lasts", said | {"told_at": now}
    # A clock that was set back must not keep it quiet
    said |= {"first_at": min(row.first_at, now), "since": min(since, now)}
    connection.execute(update(A).where(A.c.id == row.id).values(**said))
    return event, since


def _notice(connection: Connection, event: Event, alarm: Alarm, rules: Rules, now: float) -> None:
    body = _body(event, alarm, rules.node, now)
    for channel in rules.channels:
        connection.execute(insert(N).values(channel=channel, body=body, created_at=now, due_at=now))


def _body(event: Event, alarm: Alarm, node: str, now: float) -> dict[str, Any]:
    return {
        "event": event,
        "node": node,
        "key": alarm.key,
        "severity": alarm.severity,
        "alarm": alarm.text,
        "remedy": alarm.remedy,
        "since": alarm.since if alarm.since is not None else now,
    }


def test_body(node: str, *, now: float) -> dict[str, Any]:
    """What is told of no alarm, to see whether it arrives."""
    return _body("test", Alarm("test", "warning", "this is a test; nothing is wrong", since=now), node, now)


def standing(store: Store) -> list[Standing]:
    """The alarms that are not over, the oldest first."""
    with store.read() as connection:
        rows = connection.execute(select(A).where(A.c.over_at.is_(None)).order_by(A.c.since, A.c.id))
        return [Standing(r.id, r.key, r.severity, r.text, r.remedy, r.since, r.raised_at) for r in rows]


def due(store: Store, *, now: float, longest: float) -> list[Notice]:
    """What is to be told now, the oldest first; `longest` seconds are the most that anything ever waits."""
    ripe = or_(N.c.due_at <= now, N.c.due_at > now + longest)
    with store.read() as connection:
        rows = connection.execute(select(N).where(ripe).order_by(N.c.id).limit(50))
        return [Notice(r.id, r.channel, r.body, r.created_at, r.attempts) for r in rows]


def done(store: Store, notice: Notice) -> None:
    with store.write() as connection:
        connection.execute(delete(N).where(N.c.id == notice.id))


def later(store: Store, notice: Notice, reason: str, *, due_at: float) -> None:
    with store.write() as connection:
        tried = {"attempts": notice.attempts + 1, "due_at": due_at, "reason": reason}
        connection.execute(update(N).where(N.c.id == notice.id).values(**tried))


def untold(store: Store) -> list[tuple[str, int, str]]:
    """What could not be told so far: the way, how many tries, and why."""
    with store.read() as connection:
        rows = connection.execute(select(N).where(N.c.attempts > 0).order_by(N.c.id))
        return [(row.channel, row.attempts, row.reason) for row in rows]


def purge(store: Store, *, before: float) -> int:
    """Forget alarms that were over before."""
    with store.write() as connection:
        return connection.execute(delete(A).where(A.c.over_at < before)).rowcount
