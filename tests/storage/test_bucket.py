"""Files in a bucket: what is kept is there, what is here are copies of it, and nothing is written over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets_made import KEYS, OTHER, Service

from node.errors import SpoolError
from node.storage import objects
from node.storage.bucket import AT_HAND_SECONDS, UNUSED_SECONDS, Bucket
from node.storage.shelf import Away, Shelf
from node.storage.spool import Spool, digest_of

HOUR = 3600
faulty = pytest.mark.skipif(bool(OTHER), reason="faults are moto's")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name, value in KEYS.items():
        if not OTHER:
            monkeypatch.setenv(name, value)
    made = Service()
    yield made
    made.stop()


def host(service: Service, folder: Path, *, cache_bytes: int = 1 << 30) -> Spool:
    shelf = service.shelf(folder, prefix="node/one/", cache_bytes=cache_bytes)
    made = Spool(folder, shelf=shelf)
    made.open()
    return made


def kept(spool: Spool, uid: str, data: bytes = b"pixels", *, at: float = 1_800_000_000.25) -> Path:
    tmp = spool.tmp / uid
    tmp.write_bytes(data)
    os.utime(tmp, (at, at))
    final = spool.object_path(uid, "f" * 64, "a" * 12)
    spool.keep(tmp, final)
    return final


def test_what_is_kept_is_in_the_bucket_and_another_host_reads_it_with_its_time(
    service: Service, tmp_path: Path
) -> None:
    one, other = host(service, tmp_path / "1"), host(service, tmp_path / "2")
    path = kept(one, "1.2.3")
    assert service.names() == [f"node/one/{one.relative(path)}"]
    theirs = other.root / one.relative(path)
    assert not theirs.exists() and other.shelf.holds(theirs)
    assert other.shelf.time_of(theirs) == 1_800_000_000.25
    assert other.shelf.at_hand(theirs).read_bytes() == b"pixels"
    assert theirs.stat().st_mtime == 1_800_000_000.25
    assert theirs.stat().st_mode & 0o777 == 0o600
    assert list(other.objects()) == [theirs]
    assert list(other.tmp.iterdir()) == []


def test_a_copy_at_hand_is_not_fetched_again(service: Service, tmp_path: Path) -> None:
    one = host(service, tmp_path / "1")
    path = kept(one, "1.2.3")
    asked = service.asked["GET"]
    one.shelf.at_hand(path)
    assert service.asked["GET"] == asked


def test_nothing_is_written_over_with_other_bytes(service: Service, tmp_path: Path) -> None:
    one, other = host(service, tmp_path / "1"), host(service, tmp_path / "2")
    if not one.shelf.keeps_first():
        pytest.skip("this service ignores If-None-Match")
    path = kept(one, "1.2.3")
    with pytest.raises(FileExistsError, match="has other bytes under that name"):
        kept(other, "1.2.3", b"pixelz")
    assert service.body(service.names()[0]) == b"pixels"
    assert not (other.root / one.relative(path)).exists()


def test_two_hosts_that_put_the_same_at_the_same_moment_both_succeed(service: Service, tmp_path: Path) -> None:
    hosts = [host(service, tmp_path / name) for name in "12"]
    at_once = threading.Barrier(2)
    failed = []

    def put(spool: Spool) -> None:
        try:
            for n in range(10):
                at_once.wait()
                kept(spool, f"1.2.{n}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=put, args=(spool,)) for spool in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and len(service.names()) == 10


def test_a_note_is_written_anew_and_every_host_reads_the_newest(service: Service, tmp_path: Path) -> None:
    one, other = host(service, tmp_path / "1"), host(service, tmp_path / "2")
    notes = [spool.notes / "ab" / "x.1.json" for spool in (one, other)]
    for said in (b"first", b"second"):
        one.write("note-x", said, notes[0])
        assert other.shelf.read(notes[1]) == said
    other.write("note-x", b"third", notes[1])
    assert one.shelf.read(notes[0]) == b"third"


def test_a_removed_file_is_gone_here_and_there(service: Service, tmp_path: Path) -> None:
    one = host(service, tmp_path / "1")
    path = kept(one, "1.2.3")
    one.shelf.remove(path)
    one.shelf.remove(path)
    assert service.names() == [] and not path.exists() and not one.shelf.holds(path)
    with pytest.raises(FileNotFoundError):
        one.shelf.at_hand(path)


def test_a_listing_has_all_pages(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = host(service, tmp_path / "1")
    paths = {kept(one, f"1.2.{n}") for n in range(7)}
    client = one.shelf._objects._client  # type: ignore[attr-defined]
    whole = client.list_objects_v2
    monkeypatch.setattr(client, "list_objects_v2", lambda **asked: whole(MaxKeys=2, **asked))
    found = list(one.shelf.files(one.obj))
    assert {k.path for k in found} == paths
    assert all(k.size == 6 and abs(k.at - time.time()) < HOUR for k in found)


def test_the_nodes_name_is_whoevers_comes_first(service: Service, tmp_path: Path) -> None:
    one, other = host(service, tmp_path / "1"), host(service, tmp_path / "2")
    assert one.shelf.first(one.root / "identity.json", b"1") == b"1"
    assert other.shelf.first(other.root / "identity.json", b"2") == b"1"


def test_copies_are_dropped_by_when_they_were_used_and_never_what_was_asked_for_of_late(
    service: Service, tmp_path: Path
) -> None:
    one = host(service, tmp_path / "1", cache_bytes=250)
    shelf = one.shelf
    assert isinstance(shelf, Bucket)
    paths = [kept(one, f"1.2.{n}", b"x" * 100) for n in range(4)]
    half_way = one.tmp / "half"
    half_way.write_bytes(b"x" * 1000)
    now = time.time()
    assert shelf.drop(now) == 0, "all were used of late"
    for n, path in enumerate(paths):
        os.utime(path, (now - 10 * HOUR + n, path.stat().st_mtime))
    shelf.at_hand(paths[0])
    assert shelf.drop(now) == 2
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert half_way.exists()
    assert shelf.drop(now + 2 * AT_HAND_SECONDS) == 0, "they fit"
    shelf.bring(paths)
    assert all(path.read_bytes() == b"x" * 100 for path in paths)


def test_a_copy_that_nobody_uses_goes_though_there_is_room(service: Service, tmp_path: Path) -> None:
    one, other = host(service, tmp_path / "1"), host(service, tmp_path / "2")
    path = kept(one, "1.2.3")
    theirs = other.shelf.at_hand(other.root / one.relative(path))
    one.shelf.remove(path)  # as a purge does, on whichever host it runs
    assert theirs.exists()
    assert isinstance(other.shelf, Bucket)
    assert other.shelf.drop(time.time() + UNUSED_SECONDS + 60) == 1
    assert not theirs.exists()


def test_copies_from_before_a_power_failure_are_not_trusted(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = host(service, tmp_path / "1")
    path = kept(one, "1.2.3")
    host(service, tmp_path / "1")
    assert path.exists(), "the machine was not started anew"
    path.write_bytes(b"")  # as a file is that was renamed and never synced
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr("node.storage.bucket.BOOT", boot)
    again = host(service, tmp_path / "1")
    assert again.shelf.at_hand(path).read_bytes() == b"pixels"
    asked = service.asked["GET"]
    assert host(service, tmp_path / "1").shelf.at_hand(path) and service.asked["GET"] == asked


@faulty
def test_a_download_that_breaks_off_is_tried_again_and_never_passes_for_whole(service: Service, tmp_path: Path) -> None:
    one, other = host(service, tmp_path / "1"), host(service, tmp_path / "2")
    path = kept(one, "1.2.3", os.urandom(300_000))
    theirs = other.root / one.relative(path)
    service.cuts = 5
    with pytest.raises(Away):
        other.shelf.at_hand(theirs)
    assert not theirs.exists() and list(other.tmp.iterdir()) == []
    assert other.shelf.at_hand(theirs).read_bytes() == path.read_bytes()


def test_wrong_bytes_under_a_key_are_never_handed_out(service: Service, tmp_path: Path) -> None:
    one, other = host(service, tmp_path / "1"), host(service, tmp_path / "2")
    path = kept(one, "1.2.3")
    (key,) = service.names()
    said = service.s3.head_object(Bucket=service.bucket, Key=key)["Metadata"]
    service.s3.put_object(Bucket=service.bucket, Key=key, Body=b"pixelz", Metadata=said)
    with pytest.raises(OSError, match="is not what was put there") as found:
        other.shelf.at_hand(other.root / one.relative(path))
    assert not isinstance(found.value, Away)
    assert not other.is_whole(other.root / one.relative(path), digest_of(path))


@faulty
def test_while_the_service_is_away_nothing_is_kept_and_nothing_passes_for_lost(
    service: Service, tmp_path: Path
) -> None:
    one = host(service, tmp_path / "1")
    path = kept(one, "1.2.3")
    for fault in ("gone", "refuses"):
        if fault == "gone":
            service.stop()
        else:
            service.refuses = 503
        for ask in (one.shelf.holds, one.shelf.time_of, one.shelf.remove, one.shelf.secure):
            with pytest.raises(Away):
                ask(path)
        with pytest.raises(Away):
            kept(one, "1.2.4")
        assert not one.object_path("1.2.4", "f" * 64, "a" * 12).exists()
        assert path.exists()
        service.refuses = 0
        if fault == "gone":
            service.start()
        assert one.shelf.holds(path)
    assert one.relative(kept(one, "1.2.4")) in "".join(service.names())


def test_a_bucket_that_is_not_there_does_not_pass_for_lost_files(service: Service, tmp_path: Path) -> None:
    one = host(service, tmp_path / "1")
    path = kept(one, "1.2.3")
    shelf = Bucket(
        one.root,
        objects.Objects("no-such-bucket", endpoint=service.url, region=None, timeout=2),
        cache_bytes=1 << 30,
    )
    for ask in (shelf.holds, shelf.time_of):
        with pytest.raises(Away, match="NoSuchBucket"):
            ask(path)
    path.unlink()
    with pytest.raises(Away):
        shelf.at_hand(path)


def test_without_a_key_the_error_says_so(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(Away, match="NoCredentialsError"):
        service.shelf(tmp_path / "1").holds(tmp_path / "1" / "x")


def test_a_folder_is_the_copy_of_one_bucket_and_never_of_none(service: Service, tmp_path: Path) -> None:
    host(service, tmp_path / "1")
    with pytest.raises(SpoolError, match="only holds copies of files in s3://"):
        Spool(tmp_path / "1").open()
    with pytest.raises(SpoolError, match=r"not in s3://.*/other/: name another spool\.dir"):
        Spool(tmp_path / "1", shelf=service.shelf(tmp_path / "1", prefix="other/")).open()
    used = Spool(tmp_path / "2")
    used.open()
    kept(used, "1.2.3")
    with pytest.raises(SpoolError, match="holds files that are not in s3://"):
        host(service, tmp_path / "2")


def test_a_time_that_was_set_here_is_set_there(service: Service, tmp_path: Path) -> None:
    one = host(service, tmp_path / "1")
    path = kept(one, "1.2.3")
    os.utime(path, (time.time(), 1_700_000_000))
    one.secure(path)
    assert one.shelf.time_of(path) == 1_700_000_000


def test_a_scratch_folder_has_the_jobs_files_while_the_job_lasts(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", shelf=Shelf(tmp_path / "spool", scratch=tmp_path / "scratch"))
    spool.open()
    paths = [kept(spool, f"1.2.{n}", b"x%d" % n) for n in range(3)]
    paths[1].unlink()
    with spool.shelf.near(paths) as copies:
        assert {path: copy.read_bytes() for path, copy in copies.items()} == {paths[0]: b"x0", paths[2]: b"x2"}
        assert all(copy.is_relative_to(tmp_path / "scratch") for copy in copies.values())
    assert list((tmp_path / "scratch").iterdir()) == []
