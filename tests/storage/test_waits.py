from __future__ import annotations

from collections.abc import Callable

from rows import NOW, ORIGIN, built, received

from node.domain import JobState, Study
from node.storage import deliveries, instances, jobs, queue, studies, waits
from node.storage.store import Store

Make = Callable[..., Study]
DAY = 86400.0
LEASES = {"job_lease": 600.0, "delivery_lease": 900.0}


def bound(store: Store, now: float) -> int:
    return waits.bound(store, now=now, wait=900, proof_wait=3600, **LEASES)


def postpone(store: Store, seconds: float) -> int:
    return waits.postpone(store, seconds, now=NOW + seconds, **LEASES)


def arrived(store: Store, *, now: float = NOW) -> None:
    instances.remember(store, received(store, "1.1"), ORIGIN, own_device_uid="", now=now)


def only(store: Store) -> Study:
    (study,) = studies.latest(store, 10)
    return study


def test_a_study_is_not_from_the_future(store: Store) -> None:
    arrived(store)
    assert bound(store, NOW - DAY) == 1
    assert only(store).last_received_at == NOW - DAY
    assert bound(store, NOW - DAY) == 0


def test_what_waits_as_it_may_is_left_alone(store: Store, routed: Make) -> None:
    study = routed("1.1")
    (work,) = queue.claim(store, "w@host", 8, now=NOW, lease=600)
    assert bound(store, NOW) == 0
    jobs.fail(store, work.job, "x", attempts=3, now=NOW, retry_after=900)
    assert bound(store, NOW) == 0
    assert jobs.of_study(store, study.id)[0].due_at == NOW + 900


def test_a_job_waits_no_longer_than_it_ever_may(store: Store, routed: Make) -> None:
    routed("1.1")
    (work,) = queue.claim(store, "w@host", 8, now=NOW, lease=600)
    jobs.fail(store, work.job, "x", attempts=3, now=NOW, retry_after=10)
    assert queue.claim(store, "w@host", 8, now=NOW - DAY, lease=600) == []
    assert bound(store, NOW - DAY) == 1
    assert len(queue.claim(store, "w@host", 8, now=NOW - DAY, lease=600)) == 1


def test_a_lease_lasts_no_longer_than_a_lease(store: Store, routed: Make) -> None:
    routed("1.1")
    queue.claim(store, "w@host", 8, now=NOW, lease=600)
    assert bound(store, NOW - DAY) == 1
    assert queue.claim(store, "v@host", 8, now=NOW - DAY + 599, lease=600) == []
    assert len(queue.claim(store, "v@host", 8, now=NOW - DAY + 601, lease=600)) == 1


def test_a_delivery_waits_no_longer_than_it_ever_may(store: Store, routed: Make) -> None:
    routed("1.1")
    (work,) = queue.claim(store, "w@host", 8, now=NOW, lease=600)
    jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW)
    assert bound(store, NOW - DAY) == 1
    assert len(deliveries.claim(store, "pacs", 8, now=NOW - DAY, lease=900)) == 1
    assert bound(store, NOW - 2 * DAY) == 1
    assert len(deliveries.claim(store, "pacs", 8, now=NOW - 2 * DAY + 901, lease=900)) == 1


def test_a_clock_that_goes_forward_does_not_complete_a_study(store: Store) -> None:
    arrived(store)
    assert postpone(store, DAY) == 1
    assert only(store).last_received_at == NOW + DAY


def test_what_came_after_the_clock_was_set_is_as_it_was_noted(store: Store) -> None:
    arrived(store, now=NOW + DAY + 0.5)
    assert waits.postpone(store, DAY, now=NOW + DAY + 1, **LEASES) == 0


def test_a_clock_that_goes_forward_ends_no_lease(store: Store, routed: Make) -> None:
    routed("1.1")
    queue.claim(store, "w@host", 8, now=NOW, lease=600)
    assert postpone(store, DAY) == 1
    assert queue.claim(store, "v@host", 8, now=NOW + DAY + 599, lease=600) == []
    assert len(queue.claim(store, "v@host", 8, now=NOW + DAY + 601, lease=600)) == 1


def test_a_clock_that_goes_forward_ends_no_sending(store: Store, routed: Make) -> None:
    routed("1.1")
    (work,) = queue.claim(store, "w@host", 8, now=NOW, lease=600)
    jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW)
    assert len(deliveries.claim(store, "pacs", 8, now=NOW, lease=900)) == 1
    assert postpone(store, DAY) == 1
    assert deliveries.claim(store, "pacs", 8, now=NOW + DAY + 899, lease=900) == []
