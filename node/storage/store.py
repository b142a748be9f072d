"""The database: opened, checked, and handed out one transaction at a time.

The functions that read and write rows stand by noun in `instances`, `studies`, `jobs`, `deliveries` and `upkeep`; rows
leave them as the frozen records of `node.domain`. No connection, cursor or dict leaves `node.storage`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from node.errors import DatabaseDamaged, StoreError
from node.storage import migrate, schema
from node.storage.spool import Spool

BUSY_SECONDS = 10

T = TypeVar("T")
Entry = tuple[Callable[[Connection], Any], "Future[Any]"]
"""What writes, and where its result goes."""


class Store:
    """One SQLite file with its write-ahead log. Safe to use from many threads and processes."""

    def __init__(self, path: Path, spool_root: Path, *, durable: bool = True) -> None:
        self.path = path
        self.spool_root = spool_root
        self.spool = Spool(spool_root, durable=durable)
        """Where rows leave notes of themselves."""
        self._turn = threading.Lock()
        self._waiting: deque[Entry] = deque()
        self._identity: dict[str, str] = {}
        self._opened = 0
        self.engine = create_engine(f"sqlite:///{path}", pool_size=16, max_overflow=16, hide_parameters=True)
        self._writing = self.engine.execution_options(overread_write=True)
        # NORMAL may lose the last commits at power loss, and with them rows that were acknowledged
        synchronous = "FULL" if durable else "OFF"

        @event.listens_for(self.engine, "connect")
        def _connected(connection: sqlite3.Connection, _record: Any) -> None:
            connection.isolation_level = None
            connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")

        @event.listens_for(self.engine, "begin")
        def _begun(connection: Connection) -> None:
            # A deferred transaction that writes later can fail with SQLITE_BUSY at once; an immediate one waits
            write = connection.get_execution_options().get("overread_write")
            connection.connection.cursor().execute("BEGIN IMMEDIATE" if write else "BEGIN")

    def open(self, *, check: bool = False) -> None:
        """Make the tables, or see that they are ours; `check` also reads every page for damage.

        Raises:
            StoreError: the file cannot be written, or belongs to another version.
            DatabaseDamaged: it is no database, or a damaged one.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if check:
                self._check()
            with self.write() as connection:
                found = migrate.revision(connection)
                if not found:
                    schema.metadata.create_all(connection)
                    migrate.stamp(connection)
                elif found != schema.REVISION:
                    raise StoreError(f"{self.path}: {migrate.foreign(found)}")
            self.path.chmod(0o600)
            self._opened = self.path.stat().st_ino
            self._identity = self._identify()
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path}: the database cannot be used: {error}") from None

    def revision(self) -> str:
        """Which revision the tables are of; "" where there are none yet.

        Raises:
            StoreError: they are of a version that nothing leads on from.
            DatabaseDamaged: it is no database, or a damaged one.
        """
        with self.read() as connection:
            return migrate.revision(connection)

    def migrate(self, to: str = schema.REVISION) -> Path | None:
        """Bring the tables to another revision, all or nothing, after the database was copied beside itself.

        No other process may have the database open.

        Returns:
            The copy; None where there is nothing to change.

        Raises:
            StoreError: one of the revisions is not known here, or there is no room for the copy.
            DatabaseDamaged: it is no database, or a damaged one.
        """
        found = self.revision()
        if found in ("", to):
            return None
        copy = self.path.with_name(f"{self.path.name}.{found}")
        copy.unlink(missing_ok=True)
        self.copy_to(copy)
        with self.write() as connection:
            migrate.bring(connection, to)
        return copy

    def copy_to(self, path: Path) -> None:
        """Write all rows, as they are at one moment, into a new database file; others may write meanwhile.

        Raises:
            StoreError: there is such a file, or no room for it.
        """
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as connection:
                connection.execute("VACUUM INTO ?", (str(path),))
            path.chmod(0o600)
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: the database cannot be copied there: {error}") from None

    def _check(self) -> None:
        """Takes seconds on a large file; only reads, so that receivers go on writing meanwhile."""
        with self.read() as connection:
            if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
                raise DatabaseDamaged(f"{self.path}: the database is damaged")

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end, rolled back by an exception.

        Raises:
            StoreError: the database is full, damaged, or was busy for too long; nothing was written.
        """
        with self._its_turn(), self._writes() as connection:
            yield connection

    def write_together(self, do: Callable[[Connection], T]) -> T:
        """What `do` gives, committed when this returns: in one transaction with what other threads wait to write, as
        making it durable takes far longer than writing it. Where that fails each is written alone: `do` may run twice.

        Raises:
            StoreError: as `write`; as after a crash, it may be written all the same.
            Exception: what `do` raises.
        """
        mine: Future[T] = Future()
        self._waiting.append((do, mine))
        with self._its_turn():
            if not mine.done():  # whoever had the turn before may have written it
                self._write_all([self._waiting.popleft() for _ in range(len(self._waiting))])
        return mine.result()

    def _write_all(self, entries: Sequence[Entry]) -> None:
        begun = False
        try:
            with self._writes() as connection:
                begun = True
                results = [do(connection) for do, _ in entries]
        except BaseException as error:
            if begun and len(entries) > 1:  # nobody knows yet whose error it is
                for entry in entries:
                    self._write_all([entry])
                return
            for _, future in entries:
                future.set_exception(error)
        else:
            for (_, future), result in zip(entries, results, strict=True):
                future.set_result(result)

    @contextlib.contextmanager
    def _writes(self) -> Iterator[Connection]:
        with _translated(self.path), self._writing.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def _its_turn(self) -> Iterator[None]:
        """One thread after the other: whom SQLite keeps waiting sleeps for milliseconds, and longer each time."""
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StoreError(f"{self.path}: the database cannot be used: another thread writes for too long")
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with _translated(self.path), self.engine.connect() as connection, connection.begin():
            yield connection

    @property
    def serial(self) -> str:
        """This node's serial number: made with the data folder, the same ever after."""
        return self._identity["serial"]

    def log_id(self, study_instance_uid: str) -> str:
        """A name for a study in logs: the same each time, and of no use without this node's key."""
        return self._keyed(study_instance_uid)

    def pseudonym(self, patient: str) -> str:
        """A name for a patient in files that travel; likewise, and never that of a study."""
        return self._keyed(f"patient\x1f{patient}")

    def _keyed(self, text: str) -> str:
        return blake3(text.encode(), key=bytes.fromhex(self._identity["log_key"])).hexdigest()[:12]

    def _identify(self) -> dict[str, str]:
        """Read or make the file that says who this node is.

        It stands beside the database, not in it: a database rebuilt from the spool must know its own results again.
        """
        file = self.path.with_name("identity.json")
        if not file.exists():
            made = {"serial": secrets.token_hex(6), "log_key": secrets.token_hex(32)}
            part = file.with_name(f"identity.{os.getpid()}.part")
            with part.open("w") as out:
                json.dump(made, out)
                out.flush()
                os.fsync(out.fileno())
            part.chmod(0o600)
            # Whoever comes first decides; linking fails where renaming would overwrite
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(part)
            part.unlink()
        return dict(json.loads(file.read_text()))

    def was_replaced(self) -> bool:
        """Whether another file, or none, is where the one is that was opened: what is written goes nowhere then."""
        try:
            return self.path.stat().st_ino != self._opened
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        self.engine.dispose()


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


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlite_errorcode", 0)
        # Extended codes carry the primary one in their low byte
        kind = DatabaseDamaged if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) else StoreError
        raise kind(f"{path}: the database cannot be used: {cause}") from error
