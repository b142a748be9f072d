"""A node of an earlier version is started as this one; a node is backed up under load: what it holds stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from acceptance_parts import uid_of
from running import RunningNode

from config.settings import Settings
from node.admin.backup import back_up, restore
from node.storage import invariants, jobs, schema, studies
from node.storage.move import copy_rows
from node.storage.spool import Spool
from node.storage.store import Store

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.orthanc, pytest.mark.dcmtk]

Film = Callable[..., Path]
Send = Callable[..., bool]


@pytest.mark.sqlite
def test_a_node_upgrades_its_tables_when_it_starts_and_goes_on(
    stubbed: RunningNode, film: Film, storescu: Send
) -> None:
    one, other = film(), film()
    assert storescu(stubbed, one)
    before = jobs.results(stubbed.parts.store, stubbed.finish(uid_of(one)).id)
    stubbed.stop()
    path = stubbed.settings.node.data_dir / "overread.db"
    store = Store(path, stubbed.settings.node.data_dir / "spool")
    store.migrate("0001")
    store.close()
    stubbed.start()
    assert f"database.upgraded tables={schema.REVISION} copy=overread.db.0001" in stubbed.log
    study = stubbed.finish(uid_of(one))
    assert jobs.results(stubbed.parts.store, study.id) == before
    assert storescu(stubbed, other)
    stubbed.finish(uid_of(other))
    assert stubbed.problems() == []


@pytest.mark.sqlite
def test_a_database_that_is_replaced_under_a_node_is_noticed_and_nothing_is_lost(
    stubbed: RunningNode, film: Film, storescu: Send, tmp_path: Path
) -> None:
    one, other = film(), film()
    assert storescu(stubbed, one)
    stubbed.finish(uid_of(one))
    copy = tmp_path / "copy.db"
    copy_rows(stubbed.parts.store, copy)
    stubbed.parts.close()
    stubbed._parts = None
    before = stubbed.pid("receive")
    copy.replace(stubbed.settings.node.data_dir / "overread.db")
    storescu(stubbed, other)  # taken or not: what is acknowledged has its file
    stubbed.wait_for(lambda: stubbed.is_ready() and stubbed.pid("receive") != before, seconds=60)
    assert "database.replaced" in stubbed.log
    assert storescu(stubbed, other)
    stubbed.finish(uid_of(other))
    stubbed.finish(uid_of(one))
    assert stubbed.problems() == []


def test_a_copy_made_under_load_is_whole(stubbed: RunningNode, film: Film, storescu: Send, tmp_path: Path) -> None:
    for _ in range(3):
        assert storescu(stubbed, *(film() for _ in range(10)))
        back_up(stubbed.parts.store, stubbed.parts.spool, tmp_path / "copy")
    restore(tmp_path / "copy", Settings(node={"data_dir": tmp_path / "data"}))
    store = Store(tmp_path / "data" / "overread.db", tmp_path / "data" / "spool")
    store.open(check=True)
    try:
        problems = invariants.verify(store, Spool(store.spool_root), time.time())
        # what came between the rows and the last files: a restart adopts it
        assert [p for p in problems if "a restart adopts it" not in p] == []
        assert store.serial == stubbed.parts.store.serial
        assert len(studies.latest(store, 1000)) >= 30
    finally:
        store.close()
