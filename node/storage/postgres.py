"""PostgreSQL: one server that many hosts share. psycopg's one home.

Writers are kept apart by advisory locks, which end with the transaction: those who write of everything exclude all
others, those who write of one study exclude whoever writes of it, those who receive exclude whoever receives of the
same names, and claims exclude nobody but the first kind. So what was written for one writer at a time is right here
too, and what runs most runs side by side.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psycopg
from blake3 import blake3
from psycopg.types.string import StrDumper
from sqlalchemy import Connection, String, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles

from node.errors import StoreError
from node.storage.bell import Bell
from node.storage.database import BUSY_SECONDS, Database, Scope

ROWS, STUDIES, NAMES = 0x4F52, 0x4F53, 0x4F54
"""Advisory locks: of all rows, and the first half of those of one study and of one name."""
STUDY = f"pg_advisory_xact_lock({STUDIES}, %s)"
STALLED_SECONDS = 30
"""Whoever keeps others from writing and says nothing for so long is cut off: his process is stopped, or hangs."""
PATIENTLY = f"SELECT set_config('idle_in_transaction_session_timeout', '{STALLED_SECONDS}s', true)"
BEGIN = {
    Scope.ALL: f"{PATIENTLY}, pg_advisory_xact_lock({ROWS})",
    Scope.CLAIM: f"{PATIENTLY}, pg_advisory_xact_lock_shared({ROWS})",
    Scope.STUDY: f"{PATIENTLY}, pg_advisory_xact_lock_shared({ROWS}), {STUDY}",
    Scope.NAMES: f"{PATIENTLY}, pg_advisory_xact_lock_shared({ROWS})",
}
POSITIVE = 0x7FFFFFFF
CHANNEL = "overread"
DATA = "22"
"""The class of errors about a value (appendix A of the manual)."""
READ_ONLY = "25006"
IDLE, INTERVAL, COUNT, UNANSWERED = 10, 5, 3, 20_000
# a server whose machine is gone must not hold a role for minutes
PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": IDLE,
    "keepalives_interval": INTERVAL,
    "keepalives_count": COUNT,
    "tcp_user_timeout": UNANSWERED,
}
NAMED = {"application_name": "overread"}
# nor may a host whose machine is gone hold its locks for the two hours that a server waits by itself
ITS_PATIENCE = {
    "tcp_keepalives_idle": IDLE,
    "tcp_keepalives_interval": INTERVAL,
    "tcp_keepalives_count": COUNT,
    "tcp_user_timeout": UNANSWERED,
}


@compiles(String, "postgresql")
def _any_length(_type: String, _compiler: Any, **_: Any) -> str:
    """What a peer sent may be longer than the Standard allows; it is shown as it is, and must not fail a C-STORE."""
    return "TEXT"


class _Text(StrDumper):
    """A text may hold a NUL, which PostgreSQL does not take, or half a character."""

    def dump(self, obj: str) -> bytes:
        return obj.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")


class PostgreSQL(Database):
    """One database of a server."""

    shared = True
    errors = (SQLAlchemyError, psycopg.Error)

    def __init__(self, url: str, spool_root: Path, *, durable: bool, password: str = "") -> None:
        self.url = make_url(url).set(drivername="postgresql+psycopg", password=password or None)
        self.name = shown(self.url)
        self.identity = spool_root / "identity.json"
        safe = "on" if durable else "off"
        rules = {
            "lock_timeout": int(BUSY_SECONDS * 1000),
            "synchronous_commit": safe,
            "timezone": "UTC",
            **ITS_PATIENCE,
        }
        options = " ".join(f"-c {key}={value}" for key, value in rules.items())
        self.engine = create_engine(
            self.url,
            pool_size=16,
            max_overflow=16,
            pool_pre_ping=True,  # a server that was restarted costs nobody an instance
            hide_parameters=True,
            isolation_level="REPEATABLE READ",
            # one that only follows another server is no place to work on, though its address may lead there for a while
            connect_args={"target_session_attrs": "read-write", "options": options, **NAMED, **PATIENCE},
        )
        self.writing = self.engine.execution_options(isolation_level="READ COMMITTED")

        @event.listens_for(self.engine, "connect")
        def _connected(connection: psycopg.Connection[Any], _record: Any) -> None:
            connection.adapters.register_dumper(str, _Text)

    def begin(
        self, connection: Connection, scope: Scope | None, *, study: int = 0, names: Collection[str] = ()
    ) -> None:
        if scope is not None:
            keys = [study & POSITIVE] if scope is Scope.STUDY else []
            named = sorted({int.from_bytes(blake3(name.encode()).digest()[:4]) & POSITIVE for name in names})
            # All at once and in one order: so no two wait for each other
            locks = "".join(f", pg_advisory_xact_lock({NAMES}, %s)" for _ in named)
            connection.exec_driver_sql(BEGIN[scope] + locks, (*keys, *named))

    def keep_study(self, connection: Connection, study: int) -> None:
        connection.exec_driver_sql(f"SELECT {STUDY}", (study & POSITIVE,))

    def make(self) -> None:
        """The database itself is made by whoever runs the server."""

    def made(self) -> None:
        """A server is not replaced under its clients."""

    def check(self, connection: Connection) -> None:
        """That pages are whole is the server's business (data_checksums)."""

    def clock(self, connection: Connection) -> float:
        return float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())

    def size(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())

    def count_on(self, connection: Connection, table: str, last: int) -> None:
        connection.exec_driver_sql("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", (table, last))

    def copy_beside(self, name: str) -> None:
        """Whoever runs the server has its backups (pg_dump, point-in-time recovery)."""

    def was_replaced(self) -> bool:
        return False

    def bell(self, folder: Path) -> Bell:
        return NotifyBell(self)

    def line(self) -> psycopg.Connection[Any]:
        """A connection of its own, outside any transaction."""
        plain = self.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True, application_name="overread", **PATIENCE)

    def translated(self, error: Exception) -> StoreError:
        cause = getattr(error, "orig", None) or error
        said = str(cause)
        if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
            said = cause.diag.message_primary  # the rest may quote a row
            if (cause.sqlstate or "").startswith(DATA):
                said = f"{type(cause).__name__} ({cause.sqlstate})"  # here the sentence itself quotes the value
            if cause.sqlstate == READ_ONLY:  # whoever takes its place has its address, and new connections lead there
                self.engine.dispose()
            for one in (cause, error):  # a traceback shows them too
                one.args = (said,)
        return StoreError(f"{self.name}: the database cannot be used: {' '.join(said.split())}")


def answers(url: str, password: str, *, seconds: float) -> str:
    """Whether a server has our tables; "" or what it says, with no value of a row."""
    limits = PATIENCE | {
        "connect_timeout": max(int(seconds), 1),
        "options": f"-c statement_timeout={int(seconds * 1000)}",
    }
    limits |= {"password": password} if password else {}
    try:
        with psycopg.connect(url, application_name="overread", **limits) as line:
            line.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.Error as error:
        return " ".join((error.diag.message_primary or str(error)).split())
    return ""


class NotifyBell:
    """Rings on all hosts: NOTIFY of the database that they share. While the server is away nobody hears anything, and
    looks at the rows when his time is out."""

    def __init__(self, database: PostgreSQL) -> None:
        self._database = database
        self._turn = threading.Lock()
        self._line: psycopg.Connection[Any] | None = None

    def ring(self, name: str) -> None:
        with self._turn:
            for _ in range(2):  # the first may find that the server was restarted
                try:
                    self._line = self._line or self._database.line()
                    self._line.execute("SELECT pg_notify(%s, %s)", (CHANNEL, name))
                    return
                except psycopg.Error:
                    self._hang_up()

    def listen(self, name: str) -> NotifyEar:
        return NotifyEar(self._database, name)

    def _hang_up(self) -> None:
        if self._line:
            self._line.close()
        self._line = None

    def close(self) -> None:
        with self._turn:
            self._hang_up()


class NotifyEar:
    """Its connection is made anew when it breaks; a ring that is lost meanwhile is made up for by one at once."""

    def __init__(self, database: PostgreSQL, name: str) -> None:
        self._database = database
        self._name = name
        self._line: psycopg.Connection[Any] | None = None
        self._begun = False

    def wait(self, timeout: float) -> bool:
        until = time.monotonic() + timeout
        try:
            if self._line is None:
                self._line = self._database.line()
                self._line.execute(f"LISTEN {CHANNEL}")
                missed, self._begun = self._begun, True
                if missed:
                    return True
            while (left := until - time.monotonic()) > 0:
                # all that came together are given at once
                rings = [ring.payload for ring in self._line.notifies(timeout=left, stop_after=1)]
                if any(self._name.startswith(ring) for ring in rings):
                    return True
            return False
        except psycopg.Error:
            self.close()
            time.sleep(max(until - time.monotonic(), 0.0))
            return False

    def close(self) -> None:
        if self._line:
            self._line.close()
        self._line = None


def shown(url: URL) -> str:
    """A URL as it may be shown: where the database is, and nothing secret."""
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host or 'local socket'}{port}/{url.database or ''}"
