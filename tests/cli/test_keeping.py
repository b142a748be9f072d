"""Backup, restore and the tables of other versions, as an administrator types them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from databases_made import server
from hosts_made import say, store_on
from house import House, make_image

from config.settings import Settings
from node.domain import Study
from node.service import open_parts
from node.storage import hosts, invariants, roles, schema, studies
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
    assert invariants.verify(store, Spool(house.spool.root), house.now) == []
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


@pytest.fixture
def elsewhere() -> str:
    return server().new()


def test_a_node_moves_to_a_server_that_others_share(
    house: House, routed: Routed, overread: Any, tmp_path: Path, file: Path, elsewhere: str
) -> None:
    study = routed(make_image(tmp_path / "a.dcm"))
    serial = house.store.serial
    house.store.close()
    done = overread("migrate", "--to", elsewhere, "--deep")
    assert done.exit_code == 0, done.output
    assert "each was read again from both databases and is the same" in done.stdout
    told = done.stdout[done.stdout.index("[database]") :]
    assert f'url = "{elsewhere}"' in told
    file.write_text(f"{file.read_text()}\n{told}")
    assert json.loads(overread("database", "show", "--json").stdout)["path"].startswith("postgresql://127.0.0.1:")
    assert overread("verify").exit_code == 0
    with open_parts(Settings.load(file)) as parts:
        assert parts.store.serial == serial
        assert studies.by_id(parts.store, study.id).study_instance_uid == study.study_instance_uid
    there = overread("backup", tmp_path / "copy", "--json")
    assert json.loads(there.stdout)["files"] > 0
    copy = Store(tmp_path / "copy" / "overread.db", tmp_path / "copy" / "spool")
    assert studies.by_id(copy, study.id).study_instance_uid == study.study_instance_uid
    copy.close()
    assert "bring the rows to the server with `overread migrate --to`" in overread_fails(
        overread, "restore", tmp_path / "copy"
    )


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("mysql://x@y/z", "only postgresql://USER@HOST/DATABASE is allowed"),
        ("postgresql://u:secret@y/z", "holds no password: put it into a file"),
        ("postgresql:///z?host=a:1&host=b:2", "names a parameter twice"),
        ("postgresql://host", "only postgresql://USER@HOST/DATABASE is allowed"),
    ],
)
@pytest.mark.usefixtures("house")
def test_a_place_that_cannot_be_is_refused(overread: Any, to: str, words: str) -> None:
    done = overread("migrate", "--to", to)
    assert done.exit_code == 2
    assert words in done.output and "secret" not in done.stderr.replace(to, "")


@pytest.mark.usefixtures("house")
def test_a_node_that_runs_is_not_moved(overread: Any, house: House, elsewhere: str, tmp_path: Path) -> None:
    with roles.own(house.folder, ["receive"]):
        assert "has the role receive" in overread_fails(overread, "migrate", "--to", elsewhere)
    assert "copy the files of" in overread_fails(overread, "migrate", "--to", elsewhere, "--spool", tmp_path / "none")
    assert "name the file" in overread_fails(overread, "migrate", "--to", tmp_path)


@pytest.mark.usefixtures("house")
def test_rows_are_not_moved_while_a_pull_or_another_host_works_with_them(
    overread: Any, house: House, elsewhere: str, tmp_path: Path, file: Path
) -> None:
    with roles.own(house.folder, ["pull-7"]):
        assert "first stop pull-7" in overread_fails(overread, "migrate", "--to", elsewhere)
    there = store_on("b2", elsewhere, tmp_path / "spool")
    say(there, "receive")
    file.write_text(f'{file.read_text()}\n[database]\nurl = "{elsewhere}"\n[spool]\ndir = "{tmp_path / "spool"}"')
    back = ("migrate", "--to", tmp_path / "back" / "overread.db")
    assert "first stop name-b2 (receive)" in overread_fails(overread, *back)
    hosts.leave(there)
    there.close()
    assert overread(*back).exit_code == 0


@pytest.mark.usefixtures("house")
def test_nobody_answers_where_the_rows_are_to_go(overread: Any) -> None:
    done = overread_fails(overread, "migrate", "--to", "postgresql://overread@127.0.0.1:1/x")
    assert "postgresql://127.0.0.1:1/x: the database cannot be used: connection" in done


def overread_fails(overread: Any, *arguments: Any) -> str:
    from node.errors import OverreadError

    with pytest.raises(OverreadError) as caught:
        overread(*arguments)
    return str(caught.value)
