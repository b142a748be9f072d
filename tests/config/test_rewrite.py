"""A settings file is replaced as a whole, or stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config import rewrite as rewriting
from config.edit import add_peer, remove_peer
from config.rewrite import rewrite
from config.settings import EXAMPLE, SettingsFileError

CT = {"name": "ct", "ae_title": "CT1", "networks": ["10.1.7.22"], "may": ["send"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "overread.toml"
    path.write_bytes(EXAMPLE.read_bytes())
    path.chmod(0o640)
    return path


def refusal(file: Path, change: object = None) -> str:
    before = file.read_bytes()
    with pytest.raises(SettingsFileError) as caught:
        rewrite(file, change or (lambda text: add_peer(text, CT)))  # type: ignore[arg-type]
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir() if p.suffix == ".part"] == []
    return str(caught.value)


def test_mode_and_owner_stay(file: Path) -> None:
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)
    before = file.stat()
    settings = rewrite(file, lambda text: add_peer(text, CT))
    after = file.stat()
    assert [p.name for p in settings.peer] == ["pacs", "xray-room-1", "ct"]
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_link_stays_a_link(file: Path) -> None:
    link = file.parent / "etc" / "overread.toml"
    link.parent.mkdir()
    link.symlink_to(file)
    rewrite(link, lambda text: add_peer(text, CT))
    assert link.is_symlink() and 'name = "ct"' in file.read_text()


def test_a_byte_order_mark_and_line_ends_stay(file: Path) -> None:
    before = b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n")
    file.write_bytes(before)
    rewrite(file, lambda text: add_peer(text, CT))
    assert b'\r\nname = "ct"\r\n' in file.read_bytes()
    rewrite(file, lambda text: remove_peer(text, "ct"))
    assert file.read_bytes() == before


def test_what_would_not_be_valid_is_not_written(file: Path) -> None:
    wrong = CT | {"ae_title": "SEVENTEEN_LETTERS"}
    assert refusal(file, lambda text: add_peer(text, wrong)) == (
        f"{file}: peer[2].ae_title = 'SEVENTEEN_LETTERS': an AE title is 1 to 16 printable ASCII characters without "
        "backslash"
    )
    assert refusal(file, lambda text: remove_peer(text, "ct")) == (
        f"{file}: there is no [[peer]] named ct (have: pacs, xray-room-1)"
    )


def test_a_file_that_nobody_may_write_is_not_replaced(file: Path) -> None:
    file.chmod(0o440)
    assert refusal(file) == f"{file}: is read-only; nothing was changed"


def test_a_file_that_changed_meanwhile_is_not_replaced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = file.read_bytes() + b"# an administrator\n"

    def change(text: str) -> str:
        file.write_bytes(theirs)
        return add_peer(text, CT)

    with pytest.raises(SettingsFileError) as caught:
        rewrite(file, change)
    assert str(caught.value) == f"{file}: was changed by somebody else meanwhile; nothing was changed, try again"
    assert file.read_bytes() == theirs
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_full_disk_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rewriting.os, "fsync", full)
    assert refusal(file) == f"{file}: cannot be replaced: No space left on device; nothing was changed"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsFileError, match=r"cannot be read: .*No such file"):
        rewrite(tmp_path / "none.toml", lambda text: text)
