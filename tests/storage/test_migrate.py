from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from databases_made import WANTED, place
from sqlalchemy import inspect

from node.domain import Study
from node.errors import StoreError
from node.storage import instances, jobs, migrate, pulls, schema
from node.storage.store import Store

FIRST = "0001"


@pytest.fixture
def closed(store: Store, routed: Callable[..., Study]) -> Store:
    """A database with a routed study in it that nobody else has open."""
    routed("1.2.3")
    store.engine.dispose()
    return store


def tables(store: Store) -> dict[str, Any]:
    with store.read() as connection:
        look = inspect(connection)
        return {t: (look.get_columns(t), look.get_indexes(t), look.get_foreign_keys(t)) for t in look.get_table_names()}


def test_all_changes_together_make_the_tables_of_this_version(closed: Store) -> None:
    closed.migrate(FIRST)
    closed.migrate()
    with closed.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
        assert migrate.revision(connection) == schema.REVISION


def test_new_tables_and_changed_ones_are_the_same(closed: Store, tmp_path: Path) -> None:
    fresh = Store(place(tmp_path / "fresh"), tmp_path)
    fresh.open()
    closed.migrate(FIRST)
    closed.migrate()
    ours, theirs = tables(closed), tables(fresh)
    fresh.close()
    assert ours.keys() == theirs.keys()
    assert {t: sorted(c["name"] for c in ours[t][0]) for t in ours} == {
        t: sorted(c["name"] for c in theirs[t][0]) for t in theirs
    }
    assert {t: sorted(str(i["name"]) for i in ours[t][1]) for t in ours} == {
        t: sorted(str(i["name"]) for i in theirs[t][1]) for t in theirs
    }


def test_the_last_change_is_the_one_that_the_tables_name() -> None:
    assert migrate.revisions()[-1] == schema.REVISION


def test_rows_outlive_the_way_back_and_forth(closed: Store) -> None:
    before = instances.of_study(closed, 1), jobs.of_study(closed, 1)
    back = closed.migrate(FIRST)
    forth = closed.migrate()
    if WANTED == "sqlite":  # who runs a server has backups of his own
        assert back is not None and forth is not None and back.name != forth.name
        assert back.stat().st_mode & 0o777 == 0o600
    closed.open(check=True)
    assert before == (instances.of_study(closed, 1), jobs.of_study(closed, 1))
    assert all(before)


def test_a_pull_knows_what_it_asks_for_on_the_way_back_and_forth(closed: Store) -> None:
    asked = {"any": [{"study_instance_uids": ["1.2.3"]}]}
    pulls.begin(closed, "pacs", asked, {}, route="", mode="", now=1)
    pulls.begin(closed, "pacs", {"any": []}, {}, route="", mode="", now=1)
    pulls.found(closed, 2, {"1.2.3": 1}, missing=(), now=1)
    closed.engine.dispose()
    closed.migrate("0002")
    closed.migrate()
    closed.open()
    assert (pulls.wanted(closed, 1), pulls.find(closed, 1).asked, pulls.find(closed, 2).asked) == (asked, 0, None)


def test_a_database_from_before_there_were_changes_is_known(closed: Store) -> None:
    closed.migrate(FIRST)
    with closed.write() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    assert closed.revision() == FIRST
    closed.migrate()
    closed.open()


def test_nothing_is_copied_where_there_is_nothing_to_change(closed: Store, tmp_path: Path) -> None:
    assert closed.migrate() is None
    none = Store(place(tmp_path, "none.db"), tmp_path)
    assert none.migrate() is None
    none.close()


def test_an_earlier_version_s_tables_are_not_used_before_they_were_changed(closed: Store) -> None:
    closed.migrate(FIRST)
    words = f"made by an earlier version of Overread (tables 0001, this is {schema.REVISION}): `overread serve` copies"
    with pytest.raises(StoreError, match=re.escape(words)):
        closed.open()


def test_a_later_version_s_tables_are_left_alone(closed: Store) -> None:
    later(closed, floor="9999")
    words = f"made by a later version of Overread (tables 9999, this knows 0001 to {schema.REVISION}): install that"
    with pytest.raises(StoreError, match=re.escape(words)):
        closed.open()
    with pytest.raises(StoreError, match="revision 9999: not known to this version"):
        closed.migrate()


def later(store: Store, *, floor: str) -> None:
    """As a later version leaves its tables."""
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql(f"UPDATE meta SET value = '{floor}' WHERE name = 'floor'")


def test_a_later_version_s_tables_are_used_where_it_only_added_to_ours(closed: Store) -> None:
    later(closed, floor=schema.REVISION)
    closed.open()
    assert jobs.of_study(closed, 1)


def test_what_an_earlier_version_cannot_work_with_is_not_said_to_be_so(closed: Store) -> None:
    closed.migrate(FIRST)
    with closed.read() as connection:
        assert not connection.exec_driver_sql("SELECT value FROM meta WHERE name = 'floor'").all()
    closed.migrate()
    with closed.read() as connection:
        assert connection.exec_driver_sql("SELECT value FROM meta WHERE name = 'floor'").scalar() == schema.FLOOR


@pytest.mark.sqlite
def test_tables_that_nothing_leads_on_from_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "overread.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)")
        connection.execute("INSERT INTO meta VALUES ('schema', '1')")
    connection.close()
    store = Store(path, tmp_path)
    with pytest.raises(StoreError, match="its tables are of version 1"):
        store.open()
    store.close()


def test_a_change_that_fails_changes_nothing(closed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    closed.migrate(FIRST)
    before, bring = tables(closed), migrate.bring

    def breaks(connection: Any, to: str) -> None:
        bring(connection, to)
        raise StoreError("power failed")

    monkeypatch.setattr(migrate, "bring", breaks)
    with pytest.raises(StoreError, match="power failed"):
        closed.migrate()
    assert tables(closed).keys() == before.keys()
    assert closed.revision() == FIRST
