from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import models_made
import pytest
from house import SETTINGS, House
from pydicom import dcmread
from sqlalchemy import select
from test_report import build, work_of

from config.settings import Deliver
from node.domain import Delivery, DeliveryState, JobState, StudyState
from node.network.orthanc import free_port
from node.network.sender import Outcome
from node.network.standin import StandIn
from node.pipeline import deliver
from node.pipeline.deliver import Courier
from node.storage import deliveries, departed, events, invariants, jobs, ledger, schema, studies

Make = Callable[..., Path]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


SELDOM: dict[str, Any] = {"deliver": {"retry_cap_seconds": 36 * 3600}}
"""Two tries are all that 72 hours hold."""


def peers(port: int, **more: Any) -> dict[str, Any]:
    return {"peer": [SETTINGS["peer"][0] | {"port": port}, SETTINGS["peer"][1] | more]}


def report(house: House, *paths: Path) -> None:
    work = work_of(house, *paths)
    outcome = build(house, work, [models_made.reading(0.83) for _ in paths])
    assert jobs.finish(
        house.store, work.job, JobState.DONE, outcome.findings, outcome.results, reason="", now=house.now
    )


def courier(house: House, name: str = "pacs") -> Courier:
    peer = house.settings.peer_named(name)
    assert peer is not None
    return Courier(
        house.store, peer, spool=house.spool, settings=house.settings, clock=lambda: house.now, chance=lambda _a, b: b
    )


def of_study(house: House) -> list[Delivery]:
    return deliveries.of_study(house.store, house.only_study().id)


def test_results_arrive_as_the_bytes_that_were_stored(build_house: Any, image: Make, pacs: StandIn) -> None:
    house = build_house(**peers(pacs.port))
    report(house, image())
    one = courier(house)
    assert one.deliver_due() == 2
    one.close()
    assert {d.state for d in of_study(house)} == {DeliveryState.SENT}
    held = {dcmread(p).SOPInstanceUID: dcmread(p) for p in pacs.received()}
    for delivery in of_study(house):
        kept = dcmread(delivery.path)
        kept.file_meta = held[delivery.sop_instance_uid].file_meta
        assert held[delivery.sop_instance_uid] == kept


def test_a_pacs_that_is_down_loses_nothing_and_gets_it_later(build_house: Any, image: Make, tmp_path: Path) -> None:
    port = free_port()
    house = build_house(**peers(port))
    report(house, image())
    one = courier(house)
    for _ in range(5):
        assert one.deliver_due() == 2
        assert {d.state for d in of_study(house)} == {DeliveryState.QUEUED}
        due = of_study(house)[0].due_at
        assert due > house.now
        house.now = due
    assert [d.attempts for d in of_study(house)] == [5, 5]
    assert "nothing listens" in of_study(house)[0].reason
    scp = StandIn(tmp_path / "late", ae_title="PACS", port=port)
    scp.start()
    one.deliver_due()
    one.close()
    scp.stop()
    assert {d.state for d in of_study(house)} == {DeliveryState.SENT}


def test_waiting_times_double_up_to_the_cap() -> None:
    rules = Deliver(retry_base_seconds=5, retry_cap_seconds=900)
    assert [deliver.ceiling(n, rules) for n in (0, 1, 2, 7, 8, 1000)] == [5, 10, 20, 640, 900, 900]


def test_an_object_that_the_pacs_cannot_take_is_dead_after_three_tries(
    build_house: Any, image: Make, pacs: StandIn
) -> None:
    pacs.answer = lambda _uid: 0xA900
    house = build_house(**peers(pacs.port))
    report(house, image())
    one = courier(house)
    for n in range(3):
        house.now += 1000
        assert one.deliver_due() == 2, n
    assert {(d.state, d.status) for d in of_study(house)} == {(DeliveryState.DEAD, 0xA900)}
    pacs.answer = None
    assert deliveries.retry(house.store, house.only_study(), now=house.now) == 2
    one.deliver_due()
    one.close()
    assert {d.state for d in of_study(house)} == {DeliveryState.SENT}


def test_a_busy_pacs_is_tried_until_the_time_is_over(build_house: Any, image: Make, pacs: StandIn) -> None:
    pacs.answer = lambda _uid: 0xA700
    house = build_house(**peers(pacs.port), **SELDOM)
    report(house, image())
    one = courier(house)
    one.deliver_due()
    assert {d.state for d in of_study(house)} == {DeliveryState.QUEUED}
    house.now += 72 * 3600
    one.deliver_due()
    one.close()
    assert {d.state for d in of_study(house)} == {DeliveryState.DEAD}


def test_a_warning_counts_as_stored_and_is_noted(build_house: Any, image: Make, pacs: StandIn) -> None:
    pacs.answer = lambda _uid: 0xB000
    house = build_house(**peers(pacs.port))
    report(house, image())
    one = courier(house)
    one.deliver_due()
    one.close()
    assert {(d.state, d.status) for d in of_study(house)} == {(DeliveryState.SENT, 0xB000)}
    assert all(d.reason for d in of_study(house))


def test_a_second_sop_class_not_supported_is_the_last() -> None:
    before = Delivery(1, 1, 1, "pacs", DeliveryState.LEASED, 1, 1, 0.0, 0x0122, "", 0.0, None)
    answer = Outcome(0x0122, "SOP class not supported", "retry")
    assert deliver.gives_up(before, answer, Deliver(), 1.0)


def test_results_of_a_held_study_stop(build_house: Any, image: Make, pacs: StandIn) -> None:
    house = build_house(**peers(pacs.port))
    first = image()
    report(house, first)
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    house.receive(image(**same, PatientID="P2"))
    assert house.only_study().state is StudyState.HELD
    one = courier(house)
    assert one.deliver_due() == 0
    studies.accept(house.store, house.only_study(), now=house.now)
    assert {d.state for d in of_study(house)} == {DeliveryState.DEAD}
    assert deliveries.retry(house.store, house.only_study(), now=house.now) == 0
    one.close()
    assert pacs.received() == []


def test_a_destination_that_left_the_settings_is_given_up_aloud(build_house: Any, image: Make) -> None:
    house = build_house()
    report(house, image())
    other = house.settings.model_copy(update={"peer": [house.settings.peer[1]]})
    assert departed.left_with(house.store, "pacs") == (2, 0)
    assert deliver.orphans(house.store, other, house.now) == 2
    assert {d.reason for d in of_study(house)} == {"no [[peer]] named pacs is in the settings"}
    assert departed.left_with(house.store, "pacs") == (0, 0)


def test_what_a_peer_that_left_the_settings_never_got_alarms_nobody_and_stays_so(build_house: Any, image: Make) -> None:
    house = build_house(**peers(free_port()))
    report(house, image())
    one = courier(house)
    one.deliver_due()
    one.close()
    assert deliveries.failing(house.store)
    other = house.settings.model_copy(update={"peer": [house.settings.peer[1]]})
    deliver.orphans(house.store, other, house.now)
    assert deliver.orphans(house.store, house.settings, house.now) == 0
    assert deliveries.failing(house.store) == []
    assert studies.counts(house.store)["delivery.stopped"] == 2 and "delivery.DEAD" not in studies.counts(house.store)
    assert deliveries.retry(house.store, house.only_study(), now=house.now) == 0
    assert deliveries.retry_all(house.store, now=house.now) == 0
    assert {d.state for d in of_study(house)} == {DeliveryState.DEAD}
    said = events.of_study(house.store, house.only_study().id)[-1].text
    assert said == "pacs: gave up sr: no [[peer]] named pacs is in the settings"
    # The results themselves count: the job is not one that a correction has stopped
    assert [d.state for d in ledger.deliveries_of(house.store, house.only_study().id)] == [DeliveryState.DEAD] * 2
    with house.store.read() as connection:
        assert connection.execute(select(schema.delivery.c.id).where(departed.STOPPED)).all() == []
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_what_was_given_up_before_the_peer_left_ends_too(build_house: Any, image: Make) -> None:
    house = build_house(**peers(free_port()))
    report(house, image())
    for one in deliveries.claim(house.store, "pacs", 9, now=house.now, lease=60):
        deliveries.give_up(house.store, one, status=None, reason="no answer", now=house.now)
    assert studies.counts(house.store)["delivery.DEAD"] == 2
    other = house.settings.model_copy(update={"peer": [house.settings.peer[1]]})
    assert deliver.orphans(house.store, other, house.now) == 2
    assert "delivery.DEAD" not in studies.counts(house.store)


def test_all_invariants_hold_after_delivery(build_house: Any, image: Make, pacs: StandIn) -> None:
    house = build_house(**peers(pacs.port))
    report(house, image())
    one = courier(house)
    one.deliver_due()
    one.close()
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_what_is_stopped_while_a_batch_goes_out_does_not_go(build_house: Any, image: Make, pacs: StandIn) -> None:
    house = build_house(**peers(pacs.port))
    first = image()
    report(house, first)
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    correction = image(**same, PatientID="P2")

    def correct(_uid: str) -> int:
        if house.only_study().state is not StudyState.HELD:
            house.receive(correction)
            studies.accept(house.store, house.only_study(), now=house.now)
        return 0x0000

    pacs.answer = correct
    one = courier(house)
    one.deliver_due()
    one.close()
    assert len(pacs.received()) == 1
    assert {(d.state, d.reason[:7]) for d in of_study(house)} == {(DeliveryState.DEAD, "stopped")}
    story = [e.text for e in events.of_study(house.store, house.only_study().id)]
    assert any("reached the peer before it could be stopped" in text for text in story)


def test_one_refusal_after_a_long_outage_is_not_the_end(build_house: Any, image: Make, tmp_path: Path) -> None:
    port = free_port()
    house = build_house(**peers(port))
    report(house, image())
    one = courier(house)
    for _ in range(5):
        one.deliver_due()
        house.now += 1000
    scp = StandIn(tmp_path / "late", ae_title="SOMEBODY", port=port)
    scp.start()
    one.deliver_due()
    one.close()
    scp.stop()
    assert {(d.state, d.refusals) for d in of_study(house)} == {(DeliveryState.QUEUED, 1)}


def test_the_time_to_give_up_begins_with_the_first_failure(build_house: Any, image: Make) -> None:
    house = build_house(**peers(free_port()), **SELDOM)
    report(house, image())
    house.now += 100 * 3600
    one = courier(house)
    one.deliver_due()
    assert {d.state for d in of_study(house)} == {DeliveryState.QUEUED}
    house.now += 73 * 3600
    one.deliver_due()
    assert {d.state for d in of_study(house)} == {DeliveryState.DEAD}
    assert deliveries.retry_all(house.store, "pacs", now=house.now) == 2


def test_hours_in_which_nobody_tried_do_not_count(build_house: Any, image: Make) -> None:
    house = build_house(**peers(free_port()))
    report(house, image())
    one = courier(house)
    one.deliver_due()
    house.now += 96 * 3600  # the node was off, its machine slept, or the clock was set
    one.deliver_due()
    assert {d.state for d in of_study(house)} == {DeliveryState.QUEUED}
    rules = house.settings.deliver
    for attempts, over in ((270, False), (278, True)):
        delivery = replace(of_study(house)[0], attempts=attempts)
        assert deliver.gives_up(delivery, Outcome(None, "nothing listens", "retry"), rules, house.now) is over
