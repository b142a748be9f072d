"""SQLite: one file with its write-ahead log, and one writer at a time."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from node.errors import DatabaseDamaged, StoreError
from node.storage.bell import Bell, LocalBell
from node.storage.database import BUSY_SECONDS, Database, Scope
from node.storage.mounts import OVER_NETWORK, file_system


class SQLite(Database):
    """One file."""

    shared = False
    errors = (SQLAlchemyError, sqlite3.Error)

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.path = path
        self.name = str(path)
        # It stands beside the database, not in it: one rebuilt from the spool must know its own results again
        self.identity = path.with_name("identity.json")
        self._opened = 0
        self.engine = create_engine(f"sqlite:///{path}", pool_size=16, max_overflow=16, hide_parameters=True)
        self.writing = self.engine
        # NORMAL may lose the last commits at power loss, and with them rows that were acknowledged
        synchronous = "FULL" if durable else "OFF"

        @event.listens_for(self.engine, "connect")
        def _connected(connection: sqlite3.Connection, _record: Any) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")

    def begin(
        self, connection: Connection, scope: Scope | None, *, study: int = 0, names: Collection[str] = ()
    ) -> None:
        # A deferred transaction that writes later can fail with SQLITE_BUSY at once; an immediate one waits
        connection.connection.cursor().execute("BEGIN IMMEDIATE" if scope else "BEGIN")

    def keep_study(self, connection: Connection, study: int) -> None:
        """Nobody else writes of anything."""

    def make(self) -> None:
        kind = file_system(self.path)
        if kind in OVER_NETWORK:
            raise StoreError(
                f"{self.path}: is on {kind}, a network file system, whose locks and fsync SQLite cannot rely on: "
                "choose node.data_dir on a disk of this machine, or let a server hold the rows (database.url)"
            )
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def made(self) -> None:
        self.path.chmod(0o600)
        self._opened = self.path.stat().st_ino

    def check(self, connection: Connection) -> None:
        """Takes seconds on a large file; only reads, so that receivers go on writing meanwhile."""
        if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
            raise DatabaseDamaged(f"{self.path}: the database is damaged")

    def clock(self, connection: Connection) -> float:
        return time.time()

    def size(self, connection: Connection) -> int:
        pages, of = (connection.exec_driver_sql(f"PRAGMA page_{what}").scalar() or 0 for what in ("count", "size"))
        return int(pages) * int(of)

    def count_on(self, connection: Connection, table: str, last: int) -> None:
        """An id is always above the highest one that is there."""

    def copy_beside(self, name: str) -> Path:
        copy = self.path.with_name(f"{self.path.name}.{name}")
        copy.unlink(missing_ok=True)
        self.copy_to(copy)
        return copy

    def copy_to(self, path: Path) -> None:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
                connection.execute("VACUUM INTO ?", (str(path),))
            path.chmod(0o600)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: the database cannot be copied there: {error}") from None

    def was_replaced(self) -> bool:
        try:
            return self.path.stat().st_ino != self._opened
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def bell(self, folder: Path) -> Bell:
        return LocalBell(folder)

    def translated(self, error: Exception) -> StoreError:
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlite_errorcode", 0)
        # Extended codes carry the primary one in their low byte
        kind = DatabaseDamaged if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else StoreError
        return kind(f"{self.path}: the database cannot be used: {cause}")


def set_aside(path: Path, now: float) -> Path:
    """Move a damaged database out of the way, with its log; nothing is deleted.

    Returns:
        The new place of the database file.
    """
    aside = path.with_name(f"{path.name}.damaged-{int(now)}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
