"""Disks that are full, ports that are taken, files that are not what they should be: a clear error, nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from running import RunningNode

from models.registry import BUNDLES
from node.network.orthanc import free_port

pytestmark = [pytest.mark.fault, pytest.mark.slow]

NOWHERE = ("PACS", 9)


def overread(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=False).returncode != 0:
        pytest.skip("this machine does not let us mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.dcmtk
def test_a_full_disk_refuses_and_recovers_and_loses_nothing(
    small_disk: Path, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    node = RunningNode(small_disk, NOWHERE, route="")
    node.start()
    try:
        films = [film() for _ in range(4)]
        taken = [storescu(node, path) for path in films]
        assert taken[0] and not all(taken)
        for path, acknowledged in zip(films, taken, strict=True):
            uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
            assert (node.study(uid) is not None) == acknowledged
        assert node.problems() == []
        subprocess.run(["mount", "-o", "remount,size=96m", small_disk], check=True)
        for path in films:
            node.wait_for(lambda path=path: storescu(node, path), seconds=20)
        assert node.problems() == []
        assert node.is_ready()
    finally:
        node.stop()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = RunningNode(tmp_path, NOWHERE, port=taken.getsockname()[1], route="")
        node.start(wait=False)
        assert node.process is not None
        assert node.process.wait(30) == 2
    assert f"127.0.0.1:{node.port}" in node.log or str(node.port) in node.log
    assert "Traceback" not in node.log


def test_a_second_node_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    node = RunningNode(tmp_path, NOWHERE, route="")
    node.start()
    try:
        other = overread("serve", "--config", node.file, cwd=tmp_path)
        assert other.returncode == 2
        assert "another `overread serve` has the role receive" in other.stderr
        assert node.is_ready()
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("[listner]\nport = 1\n", "listner: no such key"),
        ("[listener]\nport = 99999\n", "listener.port = 99999"),
        ("[listener\n", "not TOML"),
        ('[[route]]\nname = "x"\nbundle = "nih15"\nmode = "shadow"\n', "route[0].bundle = 'nih15'"),
        ('[[route]]\nname = "x"\nbundle = "chest-findings"\nmode = "shadow"\nwhen = { Modalty = "CR" }\n', "Modalty"),
    ],
)
def test_bad_settings_are_told_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "overread.toml"
    file.write_text(text)
    done = overread("serve", "--roles", "none" if not text else "receive", "--config", file, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_settings_the_places_that_were_looked_at_are_named(tmp_path: Path) -> None:
    done = overread("check", cwd=tmp_path)
    assert done.returncode == 2
    assert "overread init" in done.stderr


@pytest.mark.model
def test_a_bundle_with_a_flipped_byte_does_not_start(tmp_path: Path) -> None:
    for bundle in BUNDLES.iterdir():
        if bundle.is_dir():
            shutil.copytree(bundle, tmp_path / "bundles" / bundle.name)
    model = next((tmp_path / "bundles").glob("chest-findings-*")) / "model.keras"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    file = tmp_path / "overread.toml"
    file.write_text(
        f'[node]\nbundle_dirs = ["bundles"]\n[listener]\nport = {free_port()}\n'
        '[[route]]\nname = "x"\nbundle = "chest-findings"\nmode = "shadow"\n'
    )
    done = overread("serve", "--config", file, cwd=tmp_path)
    assert done.returncode == 2
    assert "model.keras" in done.stderr


@pytest.mark.sqlite
def test_a_damaged_database_is_set_aside_and_rebuilt(
    tmp_path: Path, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    node = RunningNode(tmp_path, NOWHERE, route="")
    node.start()
    path = film()
    assert storescu(node, path)
    uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    node.finish(uid)
    node.stop()
    database = tmp_path / "data" / "overread.db"
    for extra in ("-wal", "-shm"):
        database.with_name(database.name + extra).unlink(missing_ok=True)
    data = bytearray(database.read_bytes())
    data[0:4096] = os.urandom(4096)
    database.write_bytes(data)
    node.start()
    try:
        node.wait_for(lambda: node.finished(uid))
        assert "set aside" in node.log
        assert list(database.parent.glob("overread.db.damaged-*"))
        assert node.problems() == []
    finally:
        node.stop()
