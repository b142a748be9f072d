"""Many share a server: it goes on though one of them stands still, and none of them works on a read-only one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hosts_made import new_database, store_on

from node.errors import StoreError
from node.storage import postgres
from node.storage.store import Store

CHANGE = "UPDATE study SET reason = reason"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Store, Store, str]]:
    url = new_database()
    made = store_on("a1", url, tmp_path / "spool"), store_on("b2", url, tmp_path / "spool")
    yield *made, url
    for one in made:
        one.close()


def test_who_stalls_in_a_transaction_is_cut_off(two: tuple[Store, Store, str], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there, _ = two
    quick = {scope: text.replace(f"'{postgres.STALLED_SECONDS}s'", "'1s'") for scope, text in postgres.BEGIN.items()}
    monkeypatch.setattr(postgres, "BEGIN", quick)
    with pytest.raises(StoreError), here.write() as stalled:
        with there.write() as connection:  # it waits for the other one, which says nothing more
            connection.exec_driver_sql(CHANGE)
        stalled.exec_driver_sql(CHANGE)
    with here.write() as connection:
        connection.exec_driver_sql(CHANGE)


def test_the_server_looks_whether_a_host_is_still_there(two: tuple[Store, Store, str]) -> None:
    here, *_ = two
    with here.read() as connection:
        said = {key: connection.exec_driver_sql(f"SHOW {key}").scalar() for key in postgres.ITS_PATIENCE}
    assert said["tcp_keepalives_idle"] == "10"
    assert said["tcp_user_timeout"] == "20000"


def test_a_server_that_became_read_only_is_left(two: tuple[Store, Store, str]) -> None:
    here, _, url = two
    database = url.rpartition("/")[2]

    def be_read_only(how: str) -> None:
        with psycopg.connect(url, autocommit=True) as line:
            line.execute("SET default_transaction_read_only = off")
            line.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = {how}".encode())

    with here.write() as connection:  # the pool has one for later
        connection.exec_driver_sql("SET default_transaction_read_only = on")
    with pytest.raises(StoreError, match="read-only"), here.write() as connection:
        connection.exec_driver_sql(CHANGE)
    with here.write() as connection:
        connection.exec_driver_sql(CHANGE)
    be_read_only("on")
    here.database.engine.dispose()
    with pytest.raises(StoreError, match="read-only"), here.read():
        pass
    be_read_only("off")
    with here.write() as connection:
        connection.exec_driver_sql(CHANGE)


@pytest.fixture
def true(two: tuple[Store, Store, str], monkeypatch: pytest.MonkeyPatch) -> float:
    """The server's time; this machine's clock is an hour ahead of it."""
    now = two[0].now()
    monkeypatch.setattr("node.storage.store.time.time", lambda: now + 3600)
    return now


def test_nobody_goes_by_this_machines_clock_while_the_server_is_asked(
    two: tuple[Store, Store, str], true: float, tmp_path: Path
) -> None:
    *_, url = two
    fresh = store_on("c3", url, tmp_path / "spool")
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(fresh.now())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh.close()
    assert max(found) - true < 60


def test_a_server_that_was_away_at_first_is_asked_again(
    two: tuple[Store, Store, str], true: float, tmp_path: Path
) -> None:
    here, _, url = two
    late = Store(url.replace("127.0.0.1", "127.0.0.2"), tmp_path / "spool", host="c3")  # nobody listens there
    assert late.now() - true > 3000
    late.database = here.database
    assert late.now() - true < 60
