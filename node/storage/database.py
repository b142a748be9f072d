"""What differs between the databases that hold the rows: one module beside this for each, and nothing of it elsewhere.

A path is a SQLite file, a node by itself; a URL is a PostgreSQL server, which many hosts share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from enum import Enum
from pathlib import Path

from sqlalchemy import Connection, Engine

from node.errors import StoreError
from node.storage.bell import Bell

BUSY_SECONDS = 10
"""How long a transaction waits for others."""


class Scope(Enum):
    """Whom a transaction that writes keeps from writing meanwhile.

    What is decided from rows and then written must not be decided by two at once. SQLite has one writer at a time,
    whatever the scope; PostgreSQL has many, and is told.
    """

    ALL = "all"
    """Everybody: the rule, where nothing better is known."""
    STUDY = "study"
    """Whoever writes of the same study, or of all."""
    NAMES = "names"
    """Whoever writes of the same names (UIDs that a peer chose, of which there need be no row yet), or of all."""
    CLAIM = "claim"
    """Only those who write of all: claims take what no other claim has locked."""


class Database(ABC):
    """One database: opened, asked what time it is, and spoken of."""

    name: str
    """As it is called in messages; without a password."""
    shared: bool
    """Whether other hosts may work with it."""
    engine: Engine
    """For what only reads; its transactions see one state."""
    writing: Engine
    """For what writes."""
    errors: tuple[type[Exception], ...]
    """Those of SQLAlchemy, and of the driver where it is called without it."""
    identity: Path
    """The file that says who this node is."""

    @abstractmethod
    def begin(
        self, connection: Connection, scope: Scope | None, *, study: int = 0, names: Collection[str] = ()
    ) -> None:
        """What a transaction does first; `scope` None: it only reads."""

    @abstractmethod
    def keep_study(self, connection: Connection, study: int) -> None:
        """From now on, in a transaction of some names, nobody else writes of this study."""

    @abstractmethod
    def make(self) -> None:
        """See to it that there is a place for tables."""

    @abstractmethod
    def made(self) -> None:
        """The tables were made, or found to be ours."""

    @abstractmethod
    def check(self, connection: Connection) -> None:
        """Read everything, if that is this program's business.

        Raises:
            DatabaseDamaged: it is damaged.
        """

    @abstractmethod
    def clock(self, connection: Connection) -> float:
        """The time by which all hosts go, in seconds since the epoch."""

    @abstractmethod
    def size(self, connection: Connection) -> int:
        """Bytes that it takes."""

    @abstractmethod
    def count_on(self, connection: Connection, table: str, last: int) -> None:
        """See to it that the next row of a table has an id above this one."""

    @abstractmethod
    def copy_beside(self, name: str) -> Path | None:
        """A copy for the case that the tables' change is regretted; None where people make their own.

        Raises:
            StoreError: there is no room for it.
        """

    @abstractmethod
    def was_replaced(self) -> bool:
        """Whether another database, or none, is where the one is that was opened: what is written goes nowhere then."""

    @abstractmethod
    def bell(self, folder: Path) -> Bell:
        """What wakes the roles; `folder`: where those of one host meet."""

    @abstractmethod
    def translated(self, error: Exception) -> StoreError:
        """An error of the driver in our words; neither holds a value of a row any more."""


def database(where: Path | str, spool_root: Path, *, durable: bool, password: str = "") -> Database:
    """The database of a path or URL; what it needs is loaded only now.

    Raises:
        StoreError: its driver is not installed.
    """
    if isinstance(where, Path):
        from node.storage.sqlite import SQLite

        return SQLite(where, durable=durable)
    try:
        from node.storage.postgres import PostgreSQL
    except ImportError:
        how = "pip install 'overread[postgres]'"
        raise StoreError(f"database.url: the driver for PostgreSQL is not installed: {how}") from None
    return PostgreSQL(where, spool_root, durable=durable, password=password)
