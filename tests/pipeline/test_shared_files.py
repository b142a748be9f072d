"""A node whose files are in a bucket: any host goes on with what another began, and an outage loses nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buckets_made import Service
from house import House
from pydicom import dcmread
from whole_house import Bundles, Image, Reader, Whole, settings

from config.settings import Retention
from node.domain import DeliveryState, JobState, StudyState
from node.network.standin import StandIn
from node.pipeline import infer, pixels
from node.pipeline.receive import OUT_OF_RESOURCES
from node.storage import deliveries, instances, invariants, jobs, studies, upkeep
from node.storage.bell import LocalBell
from node.storage.shelf import Shelf
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

DAY = 24 * 3600
Host = Callable[..., Whole]


@pytest.fixture
def host(service: Service, pacs: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Hosts of one node: each has a folder of its own, all have one bucket and, unless it is lost, one database."""
    for name, value in (("asked", 0), ("score", 0.83)):
        monkeypatch.setattr(Reader, name, value)
    monkeypatch.setattr(infer, "Reader", Reader)
    opened: list[House] = []

    def make(name: str, *, database: str = "overread.db") -> Whole:
        root = tmp_path / name
        shelf = service.shelf(root / "spool", prefix="hospital/")
        spool = Spool(root / "spool", shelf=shelf)
        spool.open()
        store = Store(tmp_path / database, spool.root, shelf=shelf)
        store.open()
        opened.append(House(settings(pacs.port), store, spool, LocalBell(root / "run"), root, now=time.time()))
        return Whole(opened[-1], pacs, Bundles("1.0.0"))

    yield make
    for house in opened:
        house.store.close()
        house.bell.close()


def receive(whole: Whole, *paths: Path, association: str = "a" * 12) -> list[int]:
    return [answer.code for answer in whole.house.receive(*paths, association=association)]


def verified(whole: Whole) -> None:
    house = whole.house
    assert invariants.verify(house.store, house.spool, house.now + 10 * DAY) == []


def test_a_host_with_an_empty_folder_reads_and_delivers_what_another_received(
    host: Host, image: Image, service: Service
) -> None:
    first, second = host("1"), host("2")
    assert receive(first, image()) == [0]
    assert [path for path in second.house.spool.obj.rglob("*") if path.is_file()] == []
    second.work()
    third = host("3")
    third.house.now = second.house.now
    assert sorted(dcmread(path).Modality for path in first.pacs.received()) == ["OT", "SR"]
    assert first.house.store.serial == second.house.store.serial == third.house.store.serial
    for one in (first, second, third):
        verified(one)


def test_what_one_host_made_another_delivers(host: Host, image: Image) -> None:
    first, second = host("1"), host("2")
    receive(first, image())
    first.route()
    first.infer()
    assert first.held() == {}
    second.house.now = first.house.now
    second.deliver()
    assert len(first.held()) == 2
    verified(second)


def test_the_bucket_alone_is_enough_to_begin_again(host: Host, image: Image) -> None:
    first = host("1")
    films = [image(), image()]
    assert receive(first, *films) == [0, 0]
    first.work()
    before, serial = first.held(), first.house.store.serial
    first.house.store.close()
    shutil.rmtree(first.house.folder)
    again = host("2", database="another.db")
    again.house.now = first.house.now
    assert again.house.store.serial == serial
    again.start()
    again.work()
    assert (again.held(), Reader.asked) == (before, 2)
    found = [i for s in studies.latest(again.house.store, 9) for i in instances.of_study(again.house.store, s.id)]
    assert sorted(i.received_at for i in found) == pytest.approx([first.house.now - 100] * 2)
    verified(again)


def test_nothing_is_acknowledged_while_the_bucket_is_away_and_all_is_when_it_is_back(
    host: Host, image: Image, service: Service
) -> None:
    one, films = host("1"), [image(), image()]
    service.stop()
    one.house.begin()
    assert [one.house.put(path).code for path in films] == [OUT_OF_RESOURCES] * 2
    assert studies.latest(one.house.store, 9) == []
    service.start()
    assert [one.house.put(path).code for path in films] == [0, 0]
    one.house.receiver.on_end("a" * 12, "released")
    one.work()
    assert len(one.held()) == 4
    verified(one)


def test_an_outage_costs_a_job_no_attempt_and_loses_no_image(host: Host, image: Image, service: Service) -> None:
    first, second = host("1"), host("2")
    receive(first, image())
    first.route()
    second.house.now = first.house.now
    for at in ("reading", "writing"):
        service.refuses = 503
        if at == "writing":
            service.refuses = 0
            second.house.store.spool.shelf.bring(first.house.spool.objects())
            service.refuses = 503
        second.infer()
        (study,) = studies.in_state(second.house.store, StudyState.ROUTED)
        (job,) = jobs.of_study(second.house.store, study.id)
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        assert "cannot be had just now" in job.reason
        service.refuses = 0
        second.house.now += 60
    second.infer()
    second.deliver()
    assert len(first.held()) == 2
    verified(second)


def test_routing_waits_while_the_bucket_is_away(host: Host, image: Image, service: Service) -> None:
    first, second = host("1"), host("2")
    receive(first, image())
    second.house.now = first.house.now
    service.refuses = 503
    with pytest.raises(OSError, match="refuses"):
        second.route()
    (study,) = studies.latest(second.house.store, 9)
    (instance,) = instances.of_study(second.house.store, study.id)
    assert (study.state, instance.gone) == (StudyState.SETTLED, "")
    service.refuses = 0
    second.work()
    assert len(first.held()) == 2


def test_a_delivery_waits_while_the_bucket_is_away(host: Host, image: Image, service: Service) -> None:
    first, second = host("1"), host("2")
    receive(first, image())
    first.route()
    first.infer()
    second.house.now = first.house.now
    service.refuses = 503
    second.deliver()
    (study,) = studies.latest(second.house.store, 9)
    assert {d.state for d in deliveries.of_study(second.house.store, study.id)} == {DeliveryState.QUEUED}
    service.refuses = 0
    second.house.now += DAY
    second.deliver()
    assert len(first.held()) == 2


def test_what_was_put_there_without_a_row_is_adopted_by_whoever_starts(
    host: Host, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        if name == "shelf.added" and die.armed:  # type: ignore[attr-defined]
            raise Killed

    from node.storage import bucket

    first = host("1")
    first.house.begin()
    assert first.house.put(image()).code == 0
    monkeypatch.setattr(bucket, "failpoint", die)
    die.armed = True  # type: ignore[attr-defined]
    with pytest.raises(Killed):
        first.house.put(image())
    die.armed = False  # type: ignore[attr-defined]
    assert len(studies.latest(first.house.store, 9)) == 1
    second = host("2")
    second.house.now = first.house.now
    second.start()
    assert len(studies.latest(second.house.store, 9)) == 2
    second.work()
    assert len(first.held()) == 4
    verified(second)


def test_a_purge_deletes_here_and_there(host: Host, image: Image, service: Service) -> None:
    one = host("1")
    receive(one, image())
    one.work()
    assert len([key for key in service.names() if "/obj/" in key or "/results/" in key]) == 3
    one.house.now += 400 * DAY
    upkeep.purge(one.house.store, Retention(), one.house.now)
    upkeep.purge_origins(one.house.store, one.house.spool, one.house.now)
    assert service.names() == ["hospital/identity.json"]
    assert list(one.house.spool.root.rglob("*.dcm")) == []
    verified(one)


@pytest.mark.parametrize("rots", [True, False])
@pytest.mark.parametrize("association", ["a" * 12, "b" * 12])
def test_an_object_that_was_altered_is_found_and_mended_by_the_same_bytes(
    host: Host, image: Image, service: Service, association: str, rots: bool
) -> None:
    one, path = host("1"), image()
    one.house.begin()
    assert one.house.put(path).code == 0
    (key,) = (key for key in service.names() if "/obj/" in key)
    good = service.body(key)
    said = service.s3.head_object(Bucket=service.bucket, Key=key)["Metadata"] if rots else {}
    service.s3.put_object(Bucket=service.bucket, Key=key, Body=good[:-1] + b"X", Metadata=said)
    (problem,) = invariants.verify(one.house.store, one.house.spool, one.house.now)
    assert problem.startswith("I1: instance 1 of study 1 ")
    one.house.begin(association)
    assert one.house.put(path, association=association).code == 0
    (instance,) = instances.of_study(one.house.store, one.house.only_study().id)
    assert service.body(f"hospital/{one.house.spool.relative(instance.path)}")[-100:] == good[-100:]
    if association == "b" * 12:  # nobody needs it now
        service.s3.delete_object(Bucket=service.bucket, Key=key)
    verified(one)


def test_an_object_that_is_gone_is_lost_and_comes_back_with_the_same_bytes(
    host: Host, image: Image, service: Service
) -> None:
    one, path = host("1"), image()
    receive(one, path)
    (key,) = (key for key in service.names() if "/obj/" in key)
    service.s3.delete_object(Bucket=service.bucket, Key=key)
    (problem,) = invariants.verify(one.house.store, one.house.spool, one.house.now)
    assert problem.startswith("I2: instance 1 of study 1 has no file obj/")
    assert receive(one, path, association="b" * 12) == [0]
    one.work()
    verified(one)


def test_images_are_read_from_scratch_and_only_there(whole: Whole, image: Image, tmp_path: Path) -> None:
    house = whole.house
    house.receive(image(), image())
    whole.route()
    shelf = Shelf(house.spool.root, scratch=tmp_path / "scratch")
    shelf.open()
    house.store.spool.shelf = shelf
    seen: list[Path] = []
    watched = pixels.digest_of
    pixels.digest_of = lambda path: (seen.append(path), watched(path))[1]  # type: ignore[assignment]
    try:
        whole.infer()
    finally:
        pixels.digest_of = watched
    assert len(seen) == 2 and all(path.is_relative_to(tmp_path / "scratch") for path in seen)
    assert list((tmp_path / "scratch").iterdir()) == []
    whole.deliver()
    assert len(whole.held()) == 4
    assert digest_of is watched
