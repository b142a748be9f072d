from __future__ import annotations

from collections.abc import Callable

from rows import NOW, built

from node.domain import JobState, Priority, Study
from node.storage import deliveries, jobs, queue, routing
from node.storage.store import Store
from node.storage.turnaround import Spread, Turnaround, turnaround

Make = Callable[..., Study]


def finish(store: Store, uid: str, at: float, *, sent_at: float | None = None) -> None:
    (work,) = queue.claim(store, "w", 1, now=NOW, lease=60)
    jobs.finish(store, work.job, JobState.DONE, [], [built(store, uid)], reason="", now=at)
    if sent_at is not None:
        (delivery,) = deliveries.claim(store, "pacs", 1, now=at, lease=60)
        deliveries.sent(store, delivery, status=0, note="", now=sent_at)


def test_each_class_has_its_median_and_its_95_per_cent(store: Store, routed: Make) -> None:
    for n in range(1, 21):
        routed(f"1.{n}")
        finish(store, f"2.25.{n}", NOW + n, sent_at=NOW + 2 * n)
    (said,) = turnaround(store, since=NOW)
    assert said == Turnaround(Priority.ROUTINE, 20, Spread(10.5, 19.0), Spread(21.0, 38.0))


def test_what_was_not_sent_yet_is_not_counted_as_sent(store: Store, routed: Make) -> None:
    routed("1.1")
    finish(store, "2.25.1", NOW + 5)
    (said,) = turnaround(store, since=NOW)
    assert (said.stored, said.sent) == (Spread(5.0, 5.0), Spread(None, None))


def test_what_is_older_or_was_asked_for_by_a_person_is_left_out(store: Store, routed: Make) -> None:
    study = routed("1.1")
    finish(store, "2.25.1", NOW + 5)
    assert turnaround(store, since=NOW + 6) == []
    routing.again(store, study, now=NOW + 10)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE job SET revision = 2")
    assert turnaround(store, since=NOW) == []
