"""The database: opened, checked, and handed out one transaction at a time.

The functions that read and write rows stand by noun in `instances`, `studies`, `jobs`, `deliveries` and `upkeep`; rows
leave them as the frozen records of `node.domain`. No connection, cursor or dict leaves `node.storage`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3
from sqlalchemy import Connection, Engine

from node.errors import StoreError
from node.storage import migrate, schema
from node.storage.database import BUSY_SECONDS, Scope, database
from node.storage.shelf import Shelf
from node.storage.spool import Spool
from node.storage.sqlite import SQLite

CLOCK_SECONDS = 60
"""How long the difference between the database's clock and ours is believed."""

RUNNING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

T = TypeVar("T")
Entry = tuple[Callable[[Connection], Any], "Future[Any]", tuple[str, ...]]
"""What writes, where its result goes, and of which names it writes; none: of all."""


def elapsed() -> float:
    """Seconds that only go on, also while the machine sleeps: the other hosts did not."""
    return time.clock_gettime(RUNNING)


class Store:
    """The rows of one node: a SQLite file of its own, or a PostgreSQL database that many hosts share. Safe to use from
    many threads and processes. `host` says which of the hosts we are.
    """

    def __init__(
        self,
        where: Path | str,
        spool_root: Path,
        *,
        durable: bool = True,
        host: str = "",
        password: str = "",
        shelf: Shelf | None = None,
    ) -> None:
        self.database = database(where, spool_root, durable=durable, password=password)
        self.host = host
        self.spool_root = spool_root
        self.spool = Spool(spool_root, durable=durable, host=host, shelf=shelf)
        """Where rows leave notes of themselves, and the files are that they speak of."""
        self._turn = threading.Lock()
        self._waiting: deque[Entry] = deque()
        self._identity: dict[str, str] = {}
        self._started: float | None = None
        self._asked = 0.0

    @property
    def name(self) -> str:
        """What the database is called in messages."""
        return self.database.name

    @property
    def engine(self) -> Engine:
        return self.database.engine

    @property
    def path(self) -> Path:
        """The file; only where the database is one."""
        assert isinstance(self.database, SQLite), "a server's database has no file here"
        return self.database.path

    @property
    def identity(self) -> Path:
        """The file that says who this node is: where the files are that bear its name, if they are elsewhere."""
        return self.database.identity if self.spool.shelf.is_here else self.spool_root / self.database.identity.name

    def now(self) -> float:
        """The time by which leases and waits go, in seconds since the epoch: the database's, so that hosts whose clocks
        differ agree. Its server is asked once a minute; meanwhile, and while it is away, time goes on from what it
        said, whatever becomes of this machine's clock."""
        if not self.database.shared:
            return time.time()
        if self._started is None or elapsed() - self._asked > CLOCK_SECONDS:
            self._asked = elapsed()
            with contextlib.suppress(StoreError), self.read() as connection:
                self._set_clock(connection)
        # Never asked, and it is away: nothing can be done by this time, and the next who asks may learn a better one
        return time.time() if self._started is None else self._started + elapsed()

    def _set_clock(self, connection: Connection) -> None:
        before = elapsed()
        self._started = self.database.clock(connection) - (before + elapsed()) / 2

    def open(self, *, check: bool = False) -> None:
        """Make the tables, or see that they are ours; `check` also reads every page for damage.

        Raises:
            StoreError: the file cannot be written, or belongs to another version.
            DatabaseDamaged: it is no database, or a damaged one.
        """
        try:
            self.database.make()
            if check:
                with self.read() as connection:
                    self.database.check(connection)
            with self.write() as connection:
                found = migrate.revision(connection)
                if not found:
                    schema.metadata.create_all(connection)
                    migrate.stamp(connection)
                elif not migrate.fits(connection, found):
                    raise StoreError(f"{self.name}: {migrate.foreign(found)}")
                self._set_clock(connection)
            self.database.made()
            self._identity = self._identify()
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.name}: the database cannot be used: {error}") from None

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
        copy = self.database.copy_beside(found)
        with self.write() as connection:
            migrate.bring(connection, to)
        return copy

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; committed at the end, rolled back by an exception. Nobody else writes then.

        Raises:
            StoreError: the database is full, damaged, or was busy for too long; nothing was written.
        """
        with self._its_turn(), self._writes() as connection:
            yield connection

    @contextlib.contextmanager
    def write_of(self, study_id: int) -> Iterator[Connection]:
        """The same, for what concerns the rows of one study only: others may write of other studies meanwhile."""
        with self._turn_or_none(), self._writes(Scope.STUDY, study=study_id) as connection:
            yield connection

    @contextlib.contextmanager
    def claim(self) -> Iterator[Connection]:
        """The same, for leasing what no other claim has locked (`FOR UPDATE SKIP LOCKED`), or extending leases."""
        with self._turn_or_none(), self._writes(Scope.CLAIM) as connection:
            yield connection

    def write_together(self, do: Callable[[Connection], T], *names: str) -> T:
        """What `do` gives, committed when this returns: in one transaction with what other threads wait to write, as
        making it durable takes far longer than writing it. Where that fails each is written alone: `do` may run twice.
        With `names` others may write of other names meanwhile.

        Raises:
            StoreError: as `write`; as after a crash, it may be written all the same.
            Exception: what `do` raises.
        """
        mine: Future[T] = Future()
        self._waiting.append((do, mine, names))
        with self._its_turn():
            if not mine.done():  # whoever had the turn before may have written it
                self._write_all([self._waiting.popleft() for _ in range(len(self._waiting))])
        return mine.result()

    def _write_all(self, entries: Sequence[Entry]) -> None:
        begun = False
        try:
            named = [name for _, _, names in entries for name in names]
            scope = Scope.NAMES if all(names for _, _, names in entries) else Scope.ALL
            with self._writes(scope, names=named) as connection:
                begun = True
                results = [do(connection) for do, _, _ in entries]
        except BaseException as error:
            if begun and len(entries) > 1:  # nobody knows yet whose error it is
                for entry in entries:
                    self._write_all([entry])
                return
            for _, future, _ in entries:
                future.set_exception(error)
        else:
            for (_, future, _), result in zip(entries, results, strict=True):
                future.set_result(result)

    @contextlib.contextmanager
    def _writes(self, scope: Scope = Scope.ALL, *, study: int = 0, names: Sequence[str] = ()) -> Iterator[Connection]:
        with self._translated(), self.database.writing.connect() as connection, connection.begin():
            self.database.begin(connection, scope, study=study, names=names)
            yield connection

    def _turn_or_none(self) -> contextlib.AbstractContextManager[None]:
        """Where the database lets many write at once, nobody need wait for this process's other threads."""
        return contextlib.nullcontext() if self.database.shared else self._its_turn()

    @contextlib.contextmanager
    def _its_turn(self) -> Iterator[None]:
        """One thread after the other: whom SQLite keeps waiting sleeps for milliseconds, and longer each time."""
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StoreError(f"{self.name}: the database cannot be used: another thread writes for too long")
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._translated(), self.database.engine.connect() as connection, connection.begin():
            self.database.begin(connection, None)
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
        """Read or make the file that says who this node is."""
        made = json.dumps({"serial": secrets.token_hex(6), "log_key": secrets.token_hex(32)}).encode()
        with contextlib.suppress(FileNotFoundError):
            made = self.database.identity.read_bytes()  # a node whose files went elsewhere stays who it was
        return dict(json.loads(self.spool.shelf.first(self.identity, made)))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self.database.errors as error:
            raise self.database.translated(error) from error

    def close(self) -> None:
        self.database.engine.dispose()
