"""A database that is rebuilt from the spool makes the results that were made before, under the names that they had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models_made
from databases_made import forget
from house import House
from pydicom.uid import generate_uid
from test_report import build, work_of

from node.domain import Work
from node.pipeline import recover
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import instances, queue

Make = Callable[..., Path]
READING = models_made.reading(0.83)


def rebuilt(house: House) -> None:
    forget(house.store)
    house.store.open()
    recover.recover(house.store, house.spool, own_device_uid=house.own, now=house.now)


def work_again(house: House) -> Work:
    house.now += 31
    settle_due(house.store, house.settings, house.now)
    plans = [Planned(r, f"{r.bundle}@1.0.0") for r in house.settings.route]
    route_study(house.store, house.only_study(), plans, house.now)
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    return work


def names(house: House, work: Work) -> list[tuple[str, int, str, str]]:
    built = build(house, work, [READING for _ in work.instances]).results
    return [(b.kind, b.ordinal, b.sop_instance_uid, b.digest) for b in built]


def test_images_that_came_at_the_same_time_keep_their_places(house: House, image: Make) -> None:
    uid = generate_uid()
    first = names(house, work_of(house, *[image(StudyInstanceUID=uid) for _ in range(5)]))
    for path in house.spool.results.rglob("*.dcm"):
        path.unlink()
    rebuilt(house)
    assert names(house, work_again(house)) == first


def test_a_file_that_came_again_is_as_old_as_it_was(house: House, image: Make) -> None:
    path = image()
    first = names(house, work_of(house, path))
    (instance,) = instances.of_study(house.store, house.only_study().id)
    instance.path.unlink()
    instances.lose(house.store, instance)
    house.now += 1000
    house.receive(path)
    for result in house.spool.results.rglob("*.dcm"):
        result.unlink()
    rebuilt(house)
    assert names(house, work_again(house)) == first


def test_a_picture_that_stood_alone_and_one_of_two_have_different_names(house: House, image: Make) -> None:
    uid = generate_uid()
    alone = {name for kind, _, name, _ in names(house, work_of(house, image(StudyInstanceUID=uid))) if kind == "sc"}
    rebuilt(house)
    house.receive(image(StudyInstanceUID=uid))
    pictures = {name for kind, _, name, _ in names(house, work_again(house)) if kind == "sc"}
    assert len(pictures) == 2 and not alone & pictures
