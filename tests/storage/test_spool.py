from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node.domain import Origin
from node.errors import SpoolError
from node.storage.spool import Spool, digest_of


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    made.open()
    return made


def part10(path: Path, data: bytes, *, meta: bytes = b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0") -> Path:
    head = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    path.write_bytes(b"\0" * 128 + b"DICM" + head + meta + data)
    return path


def test_keeping_syncs_the_file_then_renames_then_syncs_the_folder(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append("sync " + Path(f"/proc/self/fd/{fd}").readlink().name), real_fsync(fd))[1]
    )
    monkeypatch.setattr(Path, "rename", lambda a, b: (order.append(f"rename {a.name}"), real_rename(a, b))[1])
    tmp = part10(spool.tmp / "x", b"data")
    final = spool.object_path("1.2.3", "f" * 64, "a" * 12)
    spool.keep(tmp, final)
    assert order[:3] == ["sync x", "rename x", f"sync {final.parent.name}"]
    # the two fan-out folders are new, so their parents' listings are synced too
    assert order[3:] == ["sync obj"]
    assert final.is_file()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files and folders that were synced, in order."""
    order: list[Path] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append(Path(f"/proc/self/fd/{fd}").readlink()), real(fd))[1])
    return order


def test_a_folder_that_somebody_else_just_made_is_synced_all_the_same(spool: Spool, synced: list[Path]) -> None:
    final = spool.object_path("1.2.3", "f" * 64, "a" * 12)
    final.parent.mkdir(parents=True)
    spool.keep(part10(spool.tmp / "x", b"data"), final)
    assert synced[1:] == [final.parent, spool.obj]
    del synced[:]
    spool.keep(part10(spool.tmp / "y", b"data"), final.with_name("other.dcm"))
    assert synced[1:] == [final.parent], "once is enough"


def test_a_folder_that_was_removed_is_made_and_synced_again(spool: Spool, synced: list[Path]) -> None:
    final = spool.object_path("1.2.3", "f" * 64, "a" * 12)
    spool.keep(part10(spool.tmp / "x", b"data"), final)
    final.unlink()
    final.parent.rmdir()
    del synced[:]
    spool.keep(part10(spool.tmp / "y", b"data"), final)
    assert synced[1:] == [final.parent, final.parent.parent]


def test_no_instance_waits_for_a_folder_that_was_laid_out(spool: Spool, synced: list[Path]) -> None:
    spool.lay_out()
    assert synced == [spool.obj]
    for uid in ("1.2.3", "1.2.4"):
        del synced[:]
        final = spool.object_path(uid, "f" * 64, "a" * 12)
        spool.keep(part10(spool.tmp / "x", b"data"), final)
        assert synced[1:] == [final.parent]


def test_opening_syncs_the_folders_that_it_makes(tmp_path: Path, synced: list[Path]) -> None:
    root = tmp_path / "data" / "spool"
    Spool(root).open()
    assert set(synced) == {root, tmp_path / "data", tmp_path}


def test_a_failed_sync_keeps_nothing(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    tmp = part10(spool.tmp / "x", b"data")
    final = spool.object_path("1.2.3", "f" * 64, "a" * 12)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        spool.keep(tmp, final)
    assert not final.exists()


def test_a_file_name_holds_nothing_that_a_peer_sent(spool: Spool) -> None:
    path = spool.object_path("../../etc/passwd", "ab" * 32, "c" * 12)
    assert path.parent.parent == spool.obj
    assert "passwd" not in str(path)


def test_the_digest_is_of_the_data_set_alone(tmp_path: Path) -> None:
    one = part10(tmp_path / "1", b"pixels")
    other = part10(tmp_path / "2", b"pixels", meta=b"\x02\x00\x10\x00UI\x12\x001.2.840.10008.1.2\0" + b"more" * 9)
    assert digest_of(one) == digest_of(other) != digest_of(part10(tmp_path / "3", b"pixelz"))


def test_an_origin_is_found_again_by_the_name_of_its_files(spool: Spool) -> None:
    origin = Origin("a" * 12, "PACS", "OVERREAD", "127.0.0.1", "pacs", 1.0)
    spool.write_origin(origin)
    assert spool.origin_of(spool.object_path("1.2", "f" * 64, origin.id)) == origin
    assert spool.origin_of(spool.object_path("1.2", "f" * 64, "b" * 12)) is None


def test_only_old_leftovers_are_swept(spool: Spool) -> None:
    old, new = spool.tmp / "old", spool.tmp / "new"
    for path in (old, new):
        path.touch()
    os.utime(old, (1000, 1000))
    os.utime(new, (2000, 2000))
    assert spool.sweep_tmp(2010, older_than=60) == 1
    assert [p.name for p in spool.tmp.iterdir()] == ["new"]


def test_a_room_is_left_alone_while_its_process_lives_and_swept_once_it_is_gone(spool: Spool) -> None:
    code = (
        "import sys; from pathlib import Path; from node.storage.spool import Spool\n"
        "with Spool(Path(sys.argv[1])).room('pull') as room:\n"
        "    (room / 'half').touch(); print(room, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, spool.root], stdin=-1, stdout=-1, text=True)
    assert other.stdout
    theirs = Path(other.stdout.readline().strip())
    with spool.room("pull") as mine:
        assert spool.sweep_tmp(time.time() + 1e6, older_than=60) == 0
        assert mine.stat().st_mode & 0o777 == 0o700
    assert not mine.exists() and (theirs / "half").exists()
    other.kill()
    other.communicate()
    assert (theirs / "half").exists()
    assert spool.sweep_tmp(time.time(), older_than=60) == 0, "not so soon"
    with spool.room("pull") as mine:
        assert list(spool.tmp.iterdir()) == [mine]
    theirs.mkdir()
    assert spool.sweep_tmp(time.time() + 61, older_than=60) == 1
    assert list(spool.tmp.iterdir()) == []


def test_a_spool_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="file"):
        Spool(tmp_path / "file" / "spool").open()
