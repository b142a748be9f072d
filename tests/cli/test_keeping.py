"""Backup, restore and the tables of other versions, as an administrator types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import House, make_image

from node.domain import Study
from node.storage import roles, schema, studies, upkeep
from node.storage.spool import Spool
from node.storage.store import Store

Routed = Callable[[Path], Study]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_node_is_put_back_as_it_was(house: House, routed: Routed, overread: Any, tmp_path: Path) -> None:
    study = routed(make_image(tmp_path / "a.dcm"))
    files = tree(house.spool.root)
    serial = house.store.serial
    done = overread("backup", tmp_path / "copy")
    assert done.exit_code == 0, done.output
    house.store.close()
    shutil.rmtree(house.folder)
    done = overread("restore", tmp_path / "copy")
    assert done.exit_code == 0, done.output
    assert tree(house.spool.root) == files
    store = Store(house.store.path, house.spool.root)
    store.open(check=True)
    assert store.serial == serial
    assert studies.by_id(store, study.id).study_instance_uid == study.study_instance_uid
    assert upkeep.verify(store, Spool(house.spool.root), house.now) == []
    store.close()
    assert overread("verify").exit_code == 0


def test_a_second_backup_copies_what_is_new(house: House, overread: Any, tmp_path: Path) -> None:
    house.receive(make_image(tmp_path / "a.dcm"))
    first = json.loads(overread("backup", tmp_path / "copy", "--json").stdout)
    assert first["files"] == first["held"] > 0
    house.receive(make_image(tmp_path / "b.dcm"), association="b" * 12)
    second = json.loads(overread("backup", tmp_path / "copy", "--json").stdout)
    assert second["files"] == 2  # the image and who sent it
    assert second["held"] == first["held"] + 2


def test_nothing_is_half_copied_and_nobody_else_may_read_it(house: House, overread: Any, tmp_path: Path) -> None:
    house.receive(make_image(tmp_path / "a.dcm"))
    overread("backup", tmp_path / "copy")
    copied = list((tmp_path / "copy").rglob("*"))
    assert not [p for p in copied if p.suffix == ".part"]
    assert {p.stat().st_mode & 0o077 for p in copied} == {0}


@pytest.mark.usefixtures("house")
def test_a_copy_is_never_put_over_a_node(overread: Any, tmp_path: Path) -> None:
    overread("backup", tmp_path / "copy")
    done = overread_fails(overread, "restore", tmp_path / "copy")
    assert "a copy is put back into an empty data folder only; move it away first" in done


@pytest.mark.parametrize("place", ["data", "data/inside", "."])
@pytest.mark.usefixtures("house")
def test_a_node_is_never_copied_onto_itself(overread: Any, house: House, tmp_path: Path, place: str) -> None:
    before = (house.store.path.stat().st_ino, sorted(p.name for p in house.folder.iterdir()))
    assert "this is the node's own data folder" in overread_fails(overread, "backup", tmp_path / place)
    assert before == (house.store.path.stat().st_ino, sorted(p.name for p in house.folder.iterdir()))


def test_a_folder_that_is_no_copy_is_told(overread: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = overread_fails(overread, "restore", tmp_path / "empty")
    assert "identity.json is missing: this is no copy made by `overread backup`" in done


@pytest.mark.usefixtures("house")
def test_two_nodes_do_not_share_a_copy(overread: Any, tmp_path: Path) -> None:
    overread("backup", tmp_path / "copy")
    (tmp_path / "copy" / "identity.json").write_text("{}")
    done = overread_fails(overread, "backup", tmp_path / "copy")
    assert "holds the copy of another node; give each node a folder of its own" in done


@pytest.mark.usefixtures("house")
def test_the_tables_go_back_and_forth(overread: Any, house: House) -> None:
    assert json.loads(overread("database", "show", "--json").stdout)["revision"] == schema.REVISION
    house.store.close()
    back = overread("database", "downgrade", "--to", "0001")
    assert back.stdout.startswith("tables are 0001 now; copy of before: "), back.output
    assert "made by an earlier version of Overread" in overread_fails(overread, "status")
    forth = overread("database", "upgrade")
    assert forth.stdout.startswith(f"tables are {schema.REVISION} now; copy of before: ")
    assert "copy of before: not needed" in overread("database", "upgrade").stdout
    assert overread("verify").exit_code == 0


@pytest.mark.usefixtures("house")
def test_tables_are_not_changed_under_a_node_that_runs(overread: Any, house: House) -> None:
    with roles.own(house.folder, ["dispatch"]):
        done = overread_fails(overread, "database", "downgrade", "--to", "0001")
    assert "another `overread serve` has the role dispatch" in done


def overread_fails(overread: Any, *arguments: Any) -> str:
    from node.errors import OverreadError

    with pytest.raises(OverreadError) as caught:
        overread(*arguments)
    return str(caught.value)
