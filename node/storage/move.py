"""All rows from one database into another, of whichever kind: all or nothing, and held against each other."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, Integer, Table, func, insert, select

from node.errors import StoreError
from node.storage import migrate, schema
from node.storage.mounts import OVER_NETWORK, file_system
from node.storage.sqlite import SQLite
from node.storage.store import Store

ROWS = 500
"""So many are read, written and compared at a time."""
OF_ONE_HOST = ("host", "duty")
"""Who works on a database now; the other one will have its own."""

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Moved:
    """How many rows each table has, in both."""

    rows: dict[str, int]


def move(source: Store, target: Store, *, told: Told = lambda table, done, of: None) -> Moved:
    """Copy all rows of one moment in one transaction, then read both databases and compare them row by row.

    `told`: which table, how many rows of how many are done.

    Raises:
        StoreError: the source's tables are not this version's, the target has rows already, one of both cannot be used,
            or what was written is not what was read; the target is then as it was.
    """
    with source.read() as connection:
        found = migrate.revision(connection)
    if found != schema.REVISION:
        raise StoreError(f"{source.name}: {migrate.foreign(found) if found else 'has no tables: nothing to move'}")
    target.open()
    with source.read() as reading, target.write() as writing:
        _assert_empty(target, writing)
        rows = {}
        for table in _tables():
            rows[table.name] = _copy(table, reading, writing, told)
            _compare(target, table, reading, writing)
        _count_on(target, writing)
        return Moved(rows)


def copy_rows(store: Store, path: Path) -> None:
    """Write all rows, as they are at one moment, into a new SQLite file; others may write meanwhile.

    Raises:
        StoreError: there is such a file, or no room for it.
    """
    if isinstance(store.database, SQLite):
        store.database.copy_to(path)
        return
    if path.exists():
        raise StoreError(f"{path}: exists already")
    if file_system(path) not in OVER_NETWORK:
        _move_into(store, path)
        return
    # A database that is worked on may not lie there; one that is only written once, and whole, may
    with tempfile.TemporaryDirectory(prefix="overread-rows-") as folder:
        near = Path(folder) / path.name
        _move_into(store, near)
        SQLite(near, durable=True).copy_to(path)


def _move_into(store: Store, path: Path) -> None:
    copy = Store(path, store.spool_root)
    try:
        move(store, copy)
    finally:
        copy.close()


def _tables() -> list[Table]:
    """Those that are referred to before those that refer."""
    return [table for table in schema.metadata.sorted_tables if table.name not in OF_ONE_HOST]


def _assert_empty(target: Store, connection: Connection) -> None:
    for table in _tables():
        if table is not schema.meta and connection.execute(select(table).limit(1)).first():
            raise StoreError(f"{target.name}: has rows in it already ({table.name}); name an empty database")
    connection.execute(schema.meta.delete())


def _copy(table: Table, reading: Connection, writing: Connection, told: Told) -> int:
    of = int(reading.execute(select(func.count()).select_from(table)).scalar_one())
    done = 0
    for rows in _rows(table, reading).partitions(ROWS):
        writing.execute(insert(table), [dict(row._mapping) for row in rows])
        done += len(rows)
        told(table.name, done, of)
    return done


def _rows(table: Table, connection: Connection) -> Any:
    query = select(table).order_by(*table.primary_key.columns)
    return connection.execute(query.execution_options(yield_per=ROWS))


def _compare(target: Store, table: Table, reading: Connection, writing: Connection) -> None:
    theirs, ours = _plain(table, reading), _plain(table, writing)
    for number, (read, written) in enumerate(zip_longest(theirs, ours), 1):
        if read != written:
            raise StoreError(f"{target.name}: row {number} of {table.name} was not written as it was read")


def _plain(table: Table, connection: Connection) -> Iterator[tuple[Any, ...]]:
    """Rows in a form in which both databases give the same: one of them takes no NUL in a text."""
    as_text = [isinstance(column.type, JSON) for column in table.columns]
    for row in _rows(table, connection):
        yield tuple(
            json.dumps(value, sort_keys=True) if is_json else _text(value) if isinstance(value, str) else value
            for value, is_json in zip(row, as_text, strict=True)
        )


def _text(value: str) -> str:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _count_on(target: Store, connection: Connection) -> None:
    """Ids that are given out from now on come after the last one that was copied."""
    for table in _tables():
        key = list(table.primary_key.columns)
        if [column.name for column in key] == ["id"] and isinstance(key[0].type, Integer):  # BigInteger is one too
            last = connection.execute(select(func.max(key[0]))).scalar()
            if last is not None:
                target.database.count_on(connection, table.name, last)
