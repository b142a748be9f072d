from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from rows import NOW, ORIGIN, built, received

from node.domain import Delivery, DeliveryState, JobState, Study
from node.storage import deliveries, instances, jobs, queue, studies
from node.storage.store import Store

Make = Callable[..., Study]


@pytest.fixture
def reported(store: Store, routed: Make) -> Callable[..., Study]:
    def make(uid: str, *, deliver_to: Mapping[str, Sequence[str]] | None = None) -> Study:
        study = routed(uid, deliver_to=deliver_to)
        (work,) = queue.claim(store, "w", 8, now=NOW, lease=60)
        jobs.finish(store, work.job, JobState.DONE, [], [built(store, f"2.25.{uid}")], reason="", now=NOW)
        return study

    return make


def claim(store: Store, peer: str = "pacs", *, now: float = NOW) -> list[Delivery]:
    return deliveries.claim(store, peer, 10, now=now, lease=60)


def test_each_destination_has_its_own_queue(store: Store, reported: Make) -> None:
    reported("1.1", deliver_to={"pacs": [], "archive": []})
    assert [d.peer for d in claim(store, "pacs")] == ["pacs"]
    assert claim(store, "pacs") == []
    assert [d.peer for d in claim(store, "archive")] == ["archive"]


def test_sent_is_remembered_with_the_answer(store: Store, reported: Make) -> None:
    study = reported("1.1")
    (delivery,) = claim(store)
    assert deliveries.sent(store, delivery, status=0, note="", now=NOW + 1)
    (after,) = deliveries.of_study(store, study.id)
    assert (after.state, after.status, after.sent_at, after.attempts) == (DeliveryState.SENT, 0, NOW + 1, 1)


def test_a_retry_is_a_stored_time(store: Store, reported: Make) -> None:
    reported("1.1")
    (delivery,) = claim(store)
    deliveries.retry_later(store, delivery, status=0xA700, reason="full", refusals=0, due_at=NOW + 30, now=NOW)
    assert claim(store, now=NOW + 29) == []
    (again,) = claim(store, now=NOW + 30)
    assert (again.attempts, again.reason) == (1, "full")


def test_what_was_given_up_waits_for_a_person(store: Store, reported: Make) -> None:
    study = reported("1.1")
    (delivery,) = claim(store)
    deliveries.give_up(store, delivery, status=0xA900, reason="no", now=NOW)
    assert claim(store, now=NOW + 10**6) == []
    assert deliveries.retry(store, study, now=NOW + 1) == 1
    assert len(claim(store, now=NOW + 1)) == 1


def test_a_late_answer_after_the_lease_was_taken_over_is_void(store: Store, reported: Make) -> None:
    reported("1.1")
    (late,) = claim(store)
    (other,) = claim(store, now=NOW + 61)
    assert not deliveries.sent(store, late, status=0, note="", now=NOW + 62)
    assert deliveries.sent(store, other, status=0, note="", now=NOW + 62)


def test_results_of_a_held_study_wait(store: Store, reported: Make) -> None:
    reported("1.1")
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE study SET state = 'HELD'")
    assert claim(store) == []


def test_a_peer_that_does_not_take_results_is_told_with_its_time(store: Store, reported: Make) -> None:
    reported("1.1")
    assert deliveries.failing(store) == []
    (delivery,) = claim(store)
    deliveries.retry_later(store, delivery, status=None, reason="down", refusals=0, due_at=NOW + 30, now=NOW)
    assert deliveries.failing(store) == [("pacs", 1, NOW)]


def test_one_success_after_an_outage_wakes_what_waits(store: Store, reported: Make) -> None:
    for uid in ("1.1", "1.2"):
        reported(uid)
    for delivery in claim(store):
        due = NOW + 10 if delivery.id == 1 else NOW + 900
        deliveries.retry_later(store, delivery, status=None, reason="down", refusals=0, due_at=due, now=NOW)
    (first,) = claim(store, now=NOW + 10)
    deliveries.sent(store, first, status=0, note="", now=NOW + 11)
    assert [d.id for d in claim(store, now=NOW + 11)] == [2]


def test_the_more_urgent_is_sent_first_unless_it_is_somebody_elses_turn(store: Store, reported: Make) -> None:
    routine, stat = reported("1.1"), reported("1.2")
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET priority = 0 WHERE id = 2")
    assert [d.study_id for d in deliveries.claim(store, "pacs", 1, now=NOW, lease=-1)] == [stat.id]
    assert [d.study_id for d in deliveries.claim(store, "pacs", 1, now=NOW, lease=-1, by_age=True)] == [routine.id]
    assert [d.study_id for d in claim(store)] == [stat.id, routine.id]


def test_what_was_left_out_does_not_go_either_after_a_correction(store: Store, reported: Make) -> None:
    study = reported("1.1")
    (delivery,) = claim(store)
    deliveries.omit(store, delivery, status=None, reason="takes none", now=NOW)
    other = replace(received(store, "1.1"), digest="f" * 64, identification={"PatientID": "P2"})
    instances.remember(store, other, ORIGIN, own_device_uid="", now=NOW)
    studies.accept(store, studies.by_id(store, study.id), now=NOW)
    assert deliveries.retry(store, study, now=NOW) == 0
    assert claim(store) == []


def test_results_of_a_pull_are_sent_after_all_others_also_by_age(store: Store, reported: Make) -> None:
    bulk, low = reported("1.1"), reported("1.2")
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE delivery SET priority = 4, due_at = {NOW} - 1000 WHERE id = 1")
        connection.exec_driver_sql("UPDATE delivery SET priority = 3 WHERE id = 2")
    claimed = deliveries.claim(store, "pacs", 2, now=NOW, lease=60, by_age=True)
    assert {d.study_id for d in claimed} == {bulk.id, low.id}
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET state = 'QUEUED'")
    assert [d.study_id for d in deliveries.claim(store, "pacs", 1, now=NOW, lease=60, by_age=True)] == [low.id]
