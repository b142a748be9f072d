"""Hosts that share one PostgreSQL database and one spool folder, as stores in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import databases_made
from sqlalchemy import update

from node.storage import hosts, schema
from node.storage.hosts import Said
from node.storage.store import Store


def store_on(host: str, url: str, spool: Path) -> Store:
    """What one of the hosts has of the database."""
    made = Store(url, spool, host=host)
    made.spool.open()
    made.open()
    return made


def new_database() -> str:
    return databases_made.server().new()


def say(store: Store, *roles: str, settings: str = "alike") -> Said:
    running = dict.fromkeys(roles or ("receive", "infer", "dispatch"), "ready")
    return hosts.say(store, name=f"name-{store.host}", version="1.0", settings=settings, roles=running)


def let_pass(store: Store, host: str, seconds: float) -> None:
    """A host was last seen so many seconds earlier than it was."""
    H = schema.host
    with store.write() as connection:
        connection.execute(update(H).where(H.c.id == host).values(seen_at=H.c.seen_at - seconds))


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {condition}"
        time.sleep(0.02)
