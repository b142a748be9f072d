"""A database file on a network file system is refused where it is opened, whoever opens it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import needed
import pytest

from node.errors import StoreError
from node.storage import mounts
from node.storage.mounts import OVER_NETWORK, file_system, mount_of
from node.storage.move import copy_rows
from node.storage.store import Store


def mounted(monkeypatch: pytest.MonkeyPatch, folder: Path, place: Path, kind: str, options: str = "rw") -> None:
    table = folder / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 0:40 / {place} rw,relatime shared:2 master:1 - {kind} server:/export {options}\n"
    )
    monkeypatch.setattr(mounts, "MOUNTS", table)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs", "ceph", "9p"])
def test_a_database_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounted(monkeypatch, tmp_path, tmp_path / "share", kind)
    store = Store(tmp_path / "share" / "data" / "overread.db", tmp_path / "spool")
    with pytest.raises(StoreError) as found:
        store.open()
    assert str(found.value) == (
        f"{tmp_path}/share/data/overread.db: is on {kind}, a network file system, whose locks and fsync SQLite cannot "
        "rely on: choose node.data_dir on a disk of this machine, or let a server hold the rows (database.url)"
    )
    assert not (tmp_path / "share").exists(), "nothing was made there"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "fuseblk", "tmpfs"])
def test_a_database_on_a_disk_of_this_machine_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounted(monkeypatch, tmp_path, tmp_path / "disk", kind)
    store = Store(tmp_path / "disk" / "overread.db", tmp_path / "spool")
    store.open()
    store.close()


def test_a_copy_of_the_rows_may_lie_on_a_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "overread.db", tmp_path / "spool")
    store.open()
    (tmp_path / "share").mkdir()
    mounted(monkeypatch, tmp_path, tmp_path / "share", "nfs4")
    copy_rows(store, tmp_path / "share" / "copy.db")
    assert (tmp_path / "share" / "copy.db").is_file()
    store.close()


def test_the_options_of_a_mount_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, tmp_path, tmp_path / "share", "nfs4", "rw,vers=4.2,soft,local_lock=none,addr=10.0.0.1")
    mount = mount_of(tmp_path / "share" / "spool")
    assert mount and mount.kind == "nfs4" and "soft" in mount.options
    assert (mount.option("vers"), mount.option("local_lock"), mount.option("proto")) == ("4.2", "none", "")
    assert file_system(tmp_path) == "ext4"


@pytest.fixture
def sshfs(tmp_path: Path) -> Iterator[Path]:
    """A folder of this machine through a real file system over a network's protocol: sftp-server behind sshfs."""
    server = next((p for p in ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server") if Path(p).exists()), "")
    if not (shutil.which("sshfs") and shutil.which("fusermount3") and server and Path("/dev/fuse").exists()):
        needed.missing("sshfs with sftp-server and /dev/fuse")
    behind, place = tmp_path / "behind", tmp_path / "place"
    behind.mkdir()
    place.mkdir()
    # the server in the place of ssh: no daemon and no key is needed to be on the kernel's list of mounts
    script = tmp_path / "no-ssh"
    script.write_text(f"#!/bin/sh\nexec {server}\n")
    script.chmod(0o755)
    done = subprocess.run(
        ["sshfs", f"localhost:{behind}", place, "-o", f"ssh_command={script}"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    if done.returncode:
        needed.missing(f"the right to mount with FUSE ({done.stderr.strip()})")
    yield place
    subprocess.run(["fusermount3", "-u", "-z", place], check=True, timeout=20)


def test_a_real_mount_over_sftp_is_refused(sshfs: Path, tmp_path: Path) -> None:
    assert file_system(sshfs / "data") == "fuse.sshfs" in OVER_NETWORK
    store = Store(sshfs / "data" / "overread.db", tmp_path / "spool")
    with pytest.raises(StoreError, match=r"is on fuse\.sshfs, a network file system"):
        store.open()
