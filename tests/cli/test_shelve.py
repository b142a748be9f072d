"""A node's files go into a bucket, from a folder that it had; what works on all of them works there too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from buckets_made import Service
from click.testing import Result
from house import House, make_image
from typer.testing import CliRunner

from config.settings import Settings
from node.cli import app
from node.errors import BackupError, SpoolError
from node.service import open_parts


@pytest.fixture
def run(file: Path) -> Callable[..., Result]:
    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [*map(str, arguments), "--config", str(file)], catch_exceptions=False)

    return invoke


@pytest.fixture
def filled(file: Path, tmp_path: Path) -> str:
    """A node of which something was received, in a folder; its serial number."""
    settings = Settings.load(file)
    parts = open_parts(settings)
    house = House(settings, parts.store, parts.spool, parts.bell, settings.node.data_dir)
    assert [a.code for a in house.receive(make_image(tmp_path / "1.dcm"), make_image(tmp_path / "2.dcm"))] == [0, 0]
    serial = parts.store.serial
    parts.close()
    return serial


def name_bucket(file: Path, service: Service) -> None:
    with file.open("a") as text:
        text.write(f'\n[spool]\nbucket = "{service.bucket}"\nprefix = "one"\nendpoint = "{service.url}"\n')


def test_files_go_into_a_bucket_once_and_the_node_stays_who_it_is(
    file: Path, filled: str, run: Callable[..., Result], service: Service
) -> None:
    with pytest.raises(SpoolError, match=r"spool\.bucket: is not in the settings"):
        run("shelve")
    name_bucket(file, service)
    with pytest.raises(SpoolError, match="bring them there with `overread shelve`"):
        run("verify")
    assert json.loads(run("shelve", "--json").output)["files"] == 3
    assert sorted(key.split("/")[1] for key in service.names()) == ["assoc", "identity.json", "obj", "obj"]
    again = json.loads(run("shelve", "--json").output)
    assert (again["held"], again["to"]) == (3, f"s3://{service.bucket}/one/")
    said = run("verify")
    assert said.exit_code == 0, said.output
    parts = open_parts(Settings.load(file))
    assert parts.store.serial == filled
    parts.close()


def test_a_folder_that_has_copies_of_one_bucket_goes_into_no_other(
    file: Path, filled: str, run: Callable[..., Result], service: Service
) -> None:
    name_bucket(file, service)
    assert run("shelve").exit_code == 0
    file.write_text(file.read_text().replace('prefix = "one"', 'prefix = "two"'))
    with pytest.raises(SpoolError, match="only holds copies of files in s3://"):
        run("shelve")


def test_a_backup_has_the_files_of_the_bucket(
    file: Path, filled: str, run: Callable[..., Result], service: Service, tmp_path: Path
) -> None:
    name_bucket(file, service)
    assert run("shelve").exit_code == 0
    for path in (Settings.load(file).spool_dir / "obj").rglob("*.dcm"):
        path.unlink()
    said = run("backup", tmp_path / "copy", "--json")
    assert said.exit_code == 0, said.output
    copies = sorted((tmp_path / "copy" / "spool").rglob("*.dcm"))
    assert len(copies) == 2
    asked = service.asked["GET"]
    assert run("backup", tmp_path / "copy").exit_code == 0
    assert service.asked["GET"] - asked < 25, "images are not copied twice"
    with pytest.raises(BackupError, match="overread shelve"):
        run("restore", tmp_path / "copy")


def test_rows_move_while_the_files_stay_in_the_bucket(
    file: Path, filled: str, run: Callable[..., Result], service: Service, tmp_path: Path
) -> None:
    name_bucket(file, service)
    assert run("shelve").exit_code == 0
    said = run("migrate", "--to", tmp_path / "other" / "overread.db", "--deep")
    assert said.exit_code == 0, said.output
    assert "[spool] as it is" in said.output
