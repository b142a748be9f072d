"""Statements that run for every instance: written in SQLAlchemy's Core like all others, but compiled once and handed to
the driver as they are, because what SQLAlchemy does for each call takes longer than what SQLite does.

Values are converted as their column's type says; rows come as the driver gives them, so only columns that need no
conversion may be asked for.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Connection, Dialect, Select
from sqlalchemy.sql.expression import UpdateBase


class Prepared:
    """One statement, whose parameters all are named. `columns`: those that an INSERT fills; defaults do not count."""

    def __init__(self, statement: Select[Any] | UpdateBase, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._by_dialect: dict[str, _Compiled] = {}

    def run(self, connection: Connection, values: Mapping[str, Any]) -> None:
        """Execute it for what it does."""
        self.first(connection, values)

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Its first row, with the columns as attributes; None: there is none."""
        dialect = connection.dialect
        compiled = self._by_dialect.get(dialect.name)
        if compiled is None:
            compiled = self._by_dialect[dialect.name] = _Compiled(self._statement, self._columns, dialect)
        return compiled.first(connection.connection.cursor(), values)


class _Compiled:
    """A statement in the words of one dialect."""

    def __init__(self, statement: Select[Any] | UpdateBase, columns: Sequence[str] | None, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=columns)
        returned = [] if columns else compiled.statement.exported_columns.values()
        for column in returned:
            if isinstance(column.type, JSON):
                raise TypeError(f"{column.key} is {column.type}: only columns that the driver gives as they are")
        self._sql = str(compiled)
        self._returns = bool(returned)
        self._row = _record([column.key for column in returned])
        self._order: list[str] | None = compiled.positiontup
        self._converts: list[tuple[str, Callable[[Any], Any] | None]] = [
            (name, bind.type.dialect_impl(dialect).bind_processor(dialect)) for name, bind in compiled.binds.items()
        ]

    def first(self, cursor: Any, values: Mapping[str, Any]) -> Any:
        given = {name: convert(values[name]) if convert else values[name] for name, convert in self._converts}
        cursor.execute(self._sql, given if self._order is None else [given[name] for name in self._order])
        row = cursor.fetchone() if self._returns else None
        cursor.close()
        return None if row is None else self._row._make(row)


def _record(names: Sequence[str]) -> Any:
    return namedtuple("Row", names)
