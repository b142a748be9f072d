"""The dispatch role sees that the clock was set: nothing is early, stuck, or deleted for an age that it may not be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from house import House
from pydicom.uid import generate_uid

from node.dispatch import DOUBT_SECONDS, Dispatcher, Watch
from node.domain import StudyState
from node.pipeline.route import Planned
from node.storage import instances

Make = Callable[..., Path]
DAY = 86400.0


class Uptime:
    """The clock that nobody sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def passes(house: House, uptime: Uptime, seconds: float) -> None:
    house.now += seconds
    uptime.seconds += seconds


def dispatcher(house: House, uptime: Uptime) -> Dispatcher:
    plans = [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route]
    return Dispatcher(
        house.store,
        house.spool,
        settings=house.settings,
        bell=house.bell,
        plans=plans,
        clock=lambda: house.now,
        monotonic=uptime,
    )


def test_a_watch_sees_each_jump_once_and_no_passing_of_time() -> None:
    clock, uptime = Uptime(), Uptime()
    watch = Watch(clock, uptime)
    for passed in (0.1, 3600.0):
        clock.seconds += passed
        uptime.seconds += passed
        assert watch.jump() == 0
    clock.seconds += 4
    assert watch.jump() == 0
    clock.seconds -= DAY
    assert watch.jump() == 4 - DAY
    assert watch.jump() == 0
    clock.seconds += DAY
    assert watch.jump() == DAY


def test_a_study_is_not_complete_because_the_clock_went_forward(house: House, image: Make) -> None:
    uid = generate_uid()
    uptime = Uptime()
    role = dispatcher(house, uptime)
    house.begin()
    house.put(image(StudyInstanceUID=uid))
    house.now += DAY
    role.advance()
    assert house.only_study().state is StudyState.RECEIVING
    house.put(image(StudyInstanceUID=uid))
    house.receiver.on_end("a" * 12, "released")
    passes(house, uptime, 4)
    role.advance()
    study = house.only_study()
    assert (study.state, study.revision) == (StudyState.ROUTED, 1)
    assert len(instances.of_study(house.store, study.id)) == 2


def test_a_study_settles_after_the_clock_went_back(house: House, image: Make) -> None:
    uptime = Uptime()
    role = dispatcher(house, uptime)
    house.receive(image())
    house.now -= DAY
    role.advance()
    assert house.only_study().state is StudyState.RECEIVING
    passes(house, uptime, 31)
    role.advance()
    assert house.only_study().state is StudyState.ROUTED


def test_a_study_settles_after_the_clock_went_back_while_the_node_was_off(house: House, image: Make) -> None:
    house.receive(image())
    house.now -= DAY
    uptime = Uptime()
    role = dispatcher(house, uptime)
    role.recover()
    passes(house, uptime, 31)
    role.advance()
    assert house.only_study().state is StudyState.ROUTED


def test_after_the_clock_was_set_nothing_is_deleted_for_a_day(house: House, image: Make) -> None:
    uptime = Uptime()
    role = dispatcher(house, uptime)
    house.receive(image(Modality="CT"))
    half = house.spool.tmp / "incoming-1.part"
    half.touch()
    os.utime(half, (house.now, house.now))
    passes(house, uptime, 31)
    role.advance()
    house.now += 365 * DAY
    assert (role.purge(), role.sweep_tmp()) == (0, 0)
    passes(house, uptime, DOUBT_SECONDS - 1)
    assert (role.purge(), role.sweep_tmp()) == (0, 0)
    passes(house, uptime, 2)
    assert (role.purge(), role.sweep_tmp()) == (1, 1)
