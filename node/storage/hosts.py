"""Hosts that share a database: each says every few seconds that it lives, and what it held is given back when it does
not. Only the database's clock counts, so that nobody's own clock makes another host dead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, or_, select, true, update

from node.storage import associations, deliveries, jobs, schema
from node.storage.store import Store

A = schema.association
D = schema.delivery
H = schema.host
J = schema.job
U = schema.duty

SAY_SECONDS = 10.0
GONE_SECONDS = 60.0
"""A host that said nothing for so long is gone."""
FORGET_SECONDS = 2 * 86400.0
NAME = 64
READY = "ready"


@dataclass(frozen=True)
class Host:
    """`roles`: its processes, each with how far it is; those of a host that is gone stand in `reason`. `seen_ago` is in
    seconds."""

    id: str
    name: str
    version: str
    settings: str
    roles: Mapping[str, str]
    reason: str
    started_at: float
    seen_at: float
    seen_ago: float

    @property
    def is_here(self) -> bool:
        return self.seen_ago <= GONE_SECONDS

    def runs(self, role: str) -> bool:
        """Whether it is seen, and a process of this role is ready there."""
        ready = (name for name, state in self.roles.items() if state == READY)
        return self.is_here and any(name.split("-")[0] == role for name in ready)


@dataclass(frozen=True)
class Said:
    """When a host said that it lives, and how many seconds after the time before; None the first time. `name` is what
    the host was called that time."""

    at: float
    after: float | None
    name: str = ""


@dataclass(frozen=True)
class TakenOver:
    """What hosts that are gone held."""

    hosts: tuple[str, ...] = ()
    associations: int = 0
    jobs: int = 0
    deliveries: int = 0


def say(store: Store, *, name: str, version: str, settings: str, roles: Mapping[str, str], reason: str = "") -> Said:
    """This host lives."""
    values: dict[str, Any] = {"name": name[:NAME], "version": version[:32], "settings": settings}
    values |= {"roles": dict(roles), "reason": reason}
    with store.claim() as connection:
        now = store.database.clock(connection)
        mine = H.c.id == store.host
        row = connection.execute(select(H.c.seen_at, H.c.name).where(mine).with_for_update()).first()
        if row is None:
            connection.execute(insert(H).values(id=store.host, started_at=now, seen_at=now, **values))
            return Said(now, None)
        if not 0 <= now - row.seen_at <= GONE_SECONDS:
            values |= {"started_at": now}
        connection.execute(update(H).where(mine).values(seen_at=now, **values))
        return Said(now, now - row.seen_at, row.name)


def known(store: Store) -> list[Host]:
    """All hosts that are not forgotten, by name."""
    if not store.database.shared:
        return []
    with store.read() as connection:
        now = store.database.clock(connection)
        return [_host(row, now) for row in connection.execute(select(H).order_by(H.c.name, H.c.id))]


def _host(row: Row[Any], now: float) -> Host:
    said = (row.id, row.name, row.version, row.settings, row.roles, row.reason, row.started_at, row.seen_at)
    return Host(*said, max(now - row.seen_at, 0.0))


def others(store: Store) -> list[Host]:
    """The hosts besides this one that are seen now."""
    return [host for host in known(store) if host.is_here and host.id != store.host]


def differ(store: Store) -> bool:
    """Whether hosts that are seen now go by different settings: what one does not know another may be about to do."""
    return len({host.settings for host in known(store) if host.is_here}) > 1


def runs(store: Store, role: str) -> bool:
    """Whether any host has this role ready."""
    return any(host.runs(role) for host in known(store))


def take_over(store: Store) -> TakenOver:
    """Give back what hosts held that are gone, and forget those that are gone for days.

    The caller has reached the database all the time: else everybody seems gone after it was away.
    """
    with store.read() as connection:
        now = store.database.clock(connection)
        old = connection.execute(select(H).where(H.c.seen_at < now - GONE_SECONDS)).all()
    if not any(row.roles or now - row.seen_at > FORGET_SECONDS for row in old):
        return TakenOver()
    with store.write() as connection:
        now = store.database.clock(connection)
        connection.execute(delete(H).where(H.c.seen_at < now - FORGET_SECONDS))
        rows = connection.execute(select(H).where(H.c.seen_at < now - GONE_SECONDS)).all()
        gone = [row for row in rows if row.roles]
        for row in gone:
            had = f"had {', '.join(sorted(row.roles))}"
            connection.execute(update(H).where(H.c.id == row.id).values(roles={}, reason=had))
        return _free(connection, [row.id for row in gone], now) if gone else TakenOver()


def take_over_strays(store: Store) -> TakenOver:
    """The same for what hosts hold of which nothing is known: rows that came from elsewhere, or are long forgotten."""
    with store.write() as connection:
        ids = list(connection.execute(select(H.c.id)).scalars())
        held: set[str] = set()
        for table, open_ones in ((A, A.c.ended_at.is_(None)), (D, D.c.state == "LEASED"), (U, true())):
            query = select(table.c.host).where(open_ones, table.c.host.not_in(ids)).distinct()
            held |= set(connection.execute(query).scalars())
        workers = connection.execute(select(J.c.worker).where(J.c.state == "LEASED")).scalars()
        held |= {worker.partition("@")[2].partition("/")[0] for worker in workers} - set(ids)
        return _free(connection, sorted(held), store.database.clock(connection)) if held else TakenOver()


def leave(store: Store) -> None:
    """This host ends in order: it is not missed, and whatever its roles still hold is given back."""
    with store.write() as connection:
        _free(connection, [store.host], store.database.clock(connection))
        connection.execute(delete(H).where(H.c.id == store.host))


def _free(connection: Connection, ids: Sequence[str], now: float) -> TakenOver:
    """A worker of theirs that still runs finds its fence void."""
    lost = associations.lose(connection, A.c.host.in_(ids), now=now)
    given = jobs.free(connection, _workers(ids), crashed=True, now=now)
    sent = deliveries.free(connection, D.c.host.in_(ids))
    connection.execute(delete(U).where(U.c.host.in_(ids)))
    return TakenOver(tuple(ids), lost, len(given), sent)


def _workers(ids: Collection[str]) -> ColumnElement[bool]:
    return or_(*(jobs.of_host(one) for one in ids))
