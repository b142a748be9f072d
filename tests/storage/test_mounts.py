from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import StoreError
from node.storage import mounts, sqlite
from node.storage.store import Store


def test_the_file_system_of_a_folder_is_that_of_its_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    data = tmp_path / "with space" / "data"
    data.mkdir(parents=True)
    place = str(tmp_path / "with space").replace(" ", "\\040")
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"23 22 0:40 / {place} rw,relatime shared:2 master:1 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert mounts.file_system(data) == "nfs4"
    assert mounts.file_system(tmp_path) == "ext4"
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    assert mounts.file_system(data) == ""


def test_the_options_are_those_that_the_driver_goes_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"23 22 0:40 / {tmp_path} rw,relatime - nfs4 server:/export rw,soft,vers=4.2\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    found = mounts.mount_of(tmp_path / "spool")
    assert found is not None and "soft" in found.options


@pytest.mark.parametrize("kind", sorted(mounts.OVER_NETWORK))
def test_a_database_file_is_not_opened_where_a_network_lies_between(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "file_system", lambda _: kind)
    store = Store(tmp_path / "data" / "overread.db", tmp_path / "spool")
    with pytest.raises(StoreError, match=rf"overread.db: is on {kind}, a network file system, .*\(database.url\)"):
        store.open()
    assert not store.path.exists()
    store.close()
