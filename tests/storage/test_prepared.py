"""What is compiled once says the same as what SQLAlchemy runs, and fails in the same way."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from rows import NOW, ORIGIN, received
from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from node.errors import StoreError
from node.storage import instances, schema
from node.storage.prepared import Prepared
from node.storage.store import Store

M = schema.meta


def test_a_row_is_the_one_that_sqlalchemy_finds(store: Store) -> None:
    instances.remember(store, received(store, "1.2.3"), ORIGIN, own_device_uid="", now=NOW)
    query = select(schema.study).where(schema.study.c.study_instance_uid == bindparam("uid"))
    with store.read() as connection:
        row = Prepared(query).first(connection, {"uid": "1.2.3"})
        assert tuple(row) == tuple(connection.execute(query, {"uid": "1.2.3"}).one())
        assert row.study_instance_uid == "1.2.3"
        assert Prepared(query).first(connection, {"uid": "1.2.4"}) is None


def test_what_goes_in_is_read_again_by_sqlalchemy(store: Store) -> None:
    one = received(store, "1.2.3")
    instances.remember(store, one, ORIGIN, own_device_uid="", now=NOW)
    with store.read() as connection:
        row = connection.execute(select(schema.instance)).one()
    assert row.identification == one.identification and row.differs == [] and row.gone == ""
    assert (row.state, row.receipts, row.received_at, row.gone_at) == ("CURRENT", 1, NOW, None)


def test_it_belongs_to_the_transaction_and_goes_with_it(store: Store) -> None:
    statement = Prepared(insert(M), ["name", "value"])
    with pytest.raises(RuntimeError), store.write() as connection:
        statement.run(connection, {"name": "a", "value": "b"})
        raise RuntimeError
    with store.read() as connection:
        assert connection.execute(select(M.c.name).where(M.c.name == "a")).first() is None


def test_an_error_is_the_store_s_and_quotes_no_values(store: Store) -> None:
    statement = Prepared(insert(M), ["name", "value"])
    with pytest.raises(StoreError) as caught, store.write() as connection:
        for _ in range(2):
            statement.run(connection, {"name": "^".join(("Doe", "Jane")), "value": "b"})
    assert "Doe^Jane" not in "".join(traceback.format_exception(caught.value))


def test_columns_that_need_a_conversion_are_refused(store: Store) -> None:
    statement = Prepared(select(schema.instance.c.identification))
    with pytest.raises(TypeError, match="identification"), store.read() as connection:
        statement.first(connection, {})


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=lambda d: d.name)
def test_both_ways_to_hand_over_parameters_are_known(dialect: Any) -> None:
    class Cursor:
        def execute(self, sql: str, given: Any) -> None:
            self.sql, self.given = sql, given

        def close(self) -> None: ...

    class Connection:
        def __init__(self) -> None:
            self.dialect, self.connection, self.last = dialect, self, Cursor()

        def cursor(self) -> Cursor:
            return self.last

    connection = Connection()
    Prepared(insert(M), ["name", "value"]).run(connection, {"name": "a", "value": "b"})  # type: ignore[arg-type]
    assert list(getattr(connection.last.given, "values", lambda: connection.last.given)()) == ["a", "b"]
    assert connection.last.sql.startswith("INSERT INTO meta (name, value) VALUES")
