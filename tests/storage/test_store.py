from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from databases_made import forget, place, where
from rows import NOW, ORIGIN, received
from sqlalchemy import Connection, event, insert, select

from node.errors import AmbiguousStudy, DatabaseDamaged, NoSuchStudy, StoreError
from node.storage import instances, schema, studies
from node.storage.sqlite import set_aside
from node.storage.store import Store


def test_the_log_hash_is_the_same_each_time_and_says_nothing(store: Store) -> None:
    one = store.log_id("1.2.3")
    assert one == store.log_id("1.2.3") != store.log_id("1.2.4")
    assert "1.2.3" not in one


def test_two_nodes_hash_alike_only_by_chance(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Store(place(elsewhere), elsewhere)
    other.open()
    assert other.log_id("1.2.3") != store.log_id("1.2.3")
    assert other.serial != store.serial
    other.close()


@pytest.mark.sqlite
def test_a_damaged_file_is_told_from_a_busy_one(tmp_path: Path) -> None:
    path = tmp_path / "overread.db"
    path.write_bytes(b"this is not a database, it only looks like a file" * 100)
    with pytest.raises(DatabaseDamaged):
        Store(path, tmp_path).open(check=True)
    aside = set_aside(path, NOW)
    assert aside.exists() and not path.exists()
    Store(path, tmp_path).open(check=True)


@pytest.mark.sqlite
def test_others_may_write_while_a_database_is_checked(store: Store, tmp_path: Path) -> None:
    checked = Store(where(store), tmp_path)
    written = []

    @event.listens_for(checked.engine, "after_cursor_execute")
    def _meanwhile(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "quick_check" in statement:
            with store.write() as connection:
                connection.exec_driver_sql("UPDATE study SET revision = revision")
            written.append(statement)

    checked.open(check=True)
    checked.close()
    assert len(written) == 1


def test_an_error_of_the_database_quotes_no_values(store: Store) -> None:
    row = {"id": 1, "study_id": 1, "at": NOW, "verb": "^".join(("Doe", "Jane")), "text": "P1"}
    with pytest.raises(StoreError) as caught, store.write() as connection:
        for _ in range(2):
            connection.execute(insert(schema.event).values(row))
    assert str(row["verb"]) not in "".join(traceback.format_exception(caught.value))


def test_an_exception_rolls_everything_back(store: Store) -> None:
    with pytest.raises(RuntimeError), store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '99'")
        raise RuntimeError
    fresh = Store(where(store), store.spool_root)
    fresh.open()
    fresh.close()


def together(store: Store, *do: Callable[[Connection], Any]) -> list[Any]:
    """What each gives or raises, in threads that all wait while somebody else writes."""
    found: list[Any] = [None] * len(do)

    def run(number: int) -> None:
        try:
            found[number] = store.write_together(do[number])
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(do))]
    with store.write():
        for thread in threads:
            thread.start()
        until = time.monotonic() + 10
        while len(store._waiting) < len(do) and time.monotonic() < until:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    return found


def note(name: str) -> Callable[[Connection], Connection]:
    def do(connection: Connection) -> Connection:
        connection.execute(insert(schema.meta).values(name=name, value=""))
        return connection

    return do


def noted(store: Store) -> set[str]:
    with store.read() as connection:
        return set(connection.execute(select(schema.meta.c.name)).scalars()) - {"floor"}


def test_what_waits_at_the_same_time_is_written_as_one_transaction(store: Store) -> None:
    assert len(set(together(store, *map(note, "abcd")))) == 1
    assert noted(store) == set("abcd")


def test_nobody_hears_of_success_before_it_is_committed(store: Store) -> None:
    others = Store(where(store), store.spool_root)
    seen = []

    def run(name: str) -> None:
        store.write_together(note(name))
        seen.append(name in noted(others))

    threads = [threading.Thread(target=run, args=(str(number),)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    others.close()
    assert seen == [True] * 40


def test_one_that_fails_takes_no_other_with_it(store: Store) -> None:
    def fails(connection: Connection) -> None:
        note("nothing")(connection)
        raise KeyError

    written, failed, *same = together(store, note("a"), fails, note("b"), note("b"))
    assert isinstance(written, Connection) and isinstance(failed, KeyError)
    assert {type(found) for found in same} == {Connection, StoreError}
    assert noted(store) == {"a", "b"}


def test_while_another_process_writes_all_wait_together_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite", "postgres"):
        monkeypatch.setattr(f"node.storage.{module}.BUSY_SECONDS", 0.5)
    at = place(tmp_path)
    made = [Store(at, tmp_path) for _ in range(2)]
    made[0].open()
    ran: list[Connection] = []
    with made[1].write(), ThreadPoolExecutor(3) as threads:
        began = time.monotonic()
        futures = [threads.submit(made[0].write_together, ran.append) for _ in range(3)]
        errors = [future.exception() for future in futures]
        took = time.monotonic() - began
    for store in made:
        store.close()
    assert [type(error) for error in errors] == [StoreError] * 3
    assert not ran and took < 3


def test_a_thread_whose_turn_does_not_come_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.storage.store.BUSY_SECONDS", 0.1)
    with store.write(), ThreadPoolExecutor(1) as other:
        error = other.submit(store.write_together, note("a")).exception()
    assert isinstance(error, StoreError) and "another thread" in str(error)


def test_a_node_stays_who_it_is_when_its_database_is_rebuilt(store: Store) -> None:
    before = store.serial, store.log_id("1.2.3")
    forget(store)
    fresh = Store(where(store), store.spool_root)
    fresh.open()
    assert (fresh.serial, fresh.log_id("1.2.3")) == before
    fresh.close()


def test_a_study_is_found_by_all_its_names(store: Store) -> None:
    study = instances.remember(store, received(store, "1.2.3"), ORIGIN, own_device_uid="", now=NOW).study
    for name in (str(study.id), study.log_id, "1.2.3", "ACC1.2.3", " ACC1.2.3 "):
        assert studies.find(store, name).id == study.id


def test_a_name_that_is_nobodys_says_what_is_allowed(store: Store) -> None:
    with pytest.raises(NoSuchStudy, match="row number, a log hash"):
        studies.find(store, "nobody")
    with pytest.raises(NoSuchStudy):
        studies.find(store, "")


def test_an_accession_number_that_two_studies_share_is_ambiguous(store: Store) -> None:
    for uid in ("1.1", "1.2"):
        instances.remember(store, received(store, uid), ORIGIN, own_device_uid="", now=NOW)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE study SET accession_number = 'SAME'")
    with pytest.raises(AmbiguousStudy, match="rows #1, #2"):
        studies.find(store, "SAME")
