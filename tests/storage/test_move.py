from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import server
from rows import NOW, ORIGIN, received
from sqlalchemy import insert, select, update

from node.domain import Study
from node.errors import StoreError
from node.storage import events, instances, jobs, migrate, move, schema, studies
from node.storage.store import Store

S = schema.study
Routed = Callable[..., Study]


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    where = tmp_path / "there" / "overread.db" if request.param == "sqlite" else server().new()
    made = Store(where, tmp_path / "spool")
    yield made
    made.close()


def content(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    with store.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in schema.metadata.sorted_tables
        }


def test_all_rows_are_there_as_they_were(store: Store, target: Store, routed: Routed) -> None:
    for n in range(3):
        routed(f"1.2.{n}")
    told: list[tuple[str, int, int]] = []
    moved = move.move(store, target, told=lambda *said: told.append(said))
    assert content(target) == content(store)
    assert moved.rows["study"] == 3 and moved.rows["job"] == 3
    assert ("study", 3, 3) in told
    with target.read() as connection:
        assert migrate.revision(connection) == schema.REVISION


def test_what_comes_afterwards_gets_numbers_of_its_own(store: Store, target: Store, routed: Routed) -> None:
    routed("1.2.1")
    move.move(store, target)
    one = instances.remember(target, received(target, "1.2.2"), ORIGIN, own_device_uid="", now=NOW)
    assert one is not None and one.study.id == 2
    assert jobs.of_study(target, 1) == jobs.of_study(store, 1)


def test_there_and_back_nothing_is_lost(store: Store, target: Store, routed: Routed, tmp_path: Path) -> None:
    routed("1.2.1")
    move.move(store, target)
    back = Store(tmp_path / "back" / "overread.db", tmp_path / "spool")
    move.move(target, back)
    assert content(back) == content(store)
    back.close()


def test_hostile_texts_move_too(store: Store, target: Store, routed: Routed) -> None:
    study = routed("1.2.1")
    said = "x' ; drop table study; \x1b[31m \U0001f9e0 " + "long " * 500
    with store.write() as connection:
        connection.execute(update(S).values(patient_id=said, patient_key="a\x00b", accession_number=said))
        events.add(connection, study.id, "settle", said, now=NOW)
    move.move(store, target)
    with target.read() as connection:
        row = connection.execute(select(S)).one()
    assert row.patient_id == row.accession_number == said
    assert row.patient_key.replace("\x00", "\N{REPLACEMENT CHARACTER}") == "a\N{REPLACEMENT CHARACTER}b"


def test_what_breaks_in_the_middle_leaves_the_other_database_empty(
    store: Store, target: Store, routed: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed("1.2.1")

    def breaks(table: str, _done: int, _of: int) -> None:
        if table == "job":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move.move(store, target, told=breaks)
    assert not content(target)["study"]
    move.move(store, target)
    assert content(target) == content(store)


def test_a_row_that_is_not_written_as_it_was_read_ends_the_move(
    store: Store, target: Store, routed: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed("1.2.1")
    plain = move._plain
    monkeypatch.setattr(move, "_plain", lambda table, connection: (row[1:] for row in plain(table, connection)))
    move.move(store, target)
    monkeypatch.undo()
    calls = iter(range(1000))
    monkeypatch.setattr(move, "_plain", lambda table, connection: iter([(next(calls),)]))
    with pytest.raises(StoreError, match="has rows in it already"):
        move.move(store, target)
    with target.write() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(table.delete())
    with pytest.raises(StoreError, match=r"row 1 of \w+ was not written as it was read"):
        move.move(store, target)
    assert not content(target)["study"]


def test_a_database_with_rows_is_not_written_over(store: Store, target: Store, routed: Routed) -> None:
    routed("1.2.1")
    target.open()
    studies.begin_association(target, ORIGIN)
    with pytest.raises(StoreError, match="has rows in it already"):
        move.move(store, target)


def test_tables_of_another_version_are_brought_up_to_date_first(store: Store, target: Store) -> None:
    store.migrate("0002")
    with pytest.raises(StoreError, match="made by an earlier version"):
        move.move(store, target)


def test_a_database_without_tables_is_nothing_to_move(target: Store, tmp_path: Path) -> None:
    empty = Store(tmp_path / "empty.db", tmp_path)
    with pytest.raises(StoreError, match="nothing to move"):
        move.move(empty, target)
    empty.close()


def test_rows_of_a_server_are_copied_into_a_file(store: Store, routed: Routed, tmp_path: Path) -> None:
    shared = Store(server().new(), tmp_path / "spool")
    routed("1.2.1")
    move.move(store, shared)
    with shared.write() as connection:
        connection.execute(
            insert(schema.host).values(id="a", name="a", version="", settings="", roles=[], started_at=1.0, seen_at=1.0)
        )
    move.copy_rows(shared, tmp_path / "copy.db")
    copy = Store(tmp_path / "copy.db", tmp_path)
    assert content(copy)["job"] == content(store)["job"]
    assert not content(copy)["host"]
    with pytest.raises(StoreError, match="exists already"):
        move.copy_rows(shared, tmp_path / "copy.db")
    copy.close()
    shared.close()
