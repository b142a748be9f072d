from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from rows import NOW, ORIGIN, built, received

from node.domain import FindingRow, JobState, Matched, Study, Work
from node.storage import deliveries, events, instances, jobs, queue, routing, studies
from node.storage.store import Store

Make = Callable[..., Study]


def claim(store: Store, worker: str = "w", limit: int = 8, *, now: float = NOW, lease: float = 60) -> list[Work]:
    return queue.claim(store, worker, limit, now=now, lease=lease)


def state(store: Store, study: Study) -> JobState:
    return jobs.of_study(store, study.id)[-1].state


def test_a_claim_leases_a_job_with_its_instances(store: Store, routed: Make) -> None:
    study = routed("1.1")
    (work,) = claim(store)
    assert (work.job.state, work.job.attempts, work.job.fence) == (JobState.LEASED, 1, 1)
    assert work.study.id == study.id
    assert [i.sop_instance_uid for i in work.instances] == ["1.1.1"]
    assert claim(store) == []


def test_eight_threads_never_claim_the_same_job(store: Store, routed: Make) -> None:
    for n in range(40):
        routed(f"1.{n}")
    taken: list[int] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        while mine := claim(store, name, 3):
            with lock:
                taken.extend(w.job.id for w in mine)

    threads = [threading.Thread(target=work, args=[f"w{n}"]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 40


def test_ending_a_job_writes_findings_results_and_deliveries_at_once(store: Store, routed: Make) -> None:
    study = routed("1.1", deliver_to={"pacs": [], "archive": []})
    (work,) = claim(store)
    row = FindingRow(work.instances[0].id, "analysed", "", "Cardiomegaly", 0.83, "PRESENT")
    made = [built(store, "2.25.1", "sc"), built(store, "2.25.2", "sr")]
    assert jobs.finish(store, work.job, JobState.DONE, [row], made, reason="", now=NOW)
    assert state(store, study) is JobState.DONE
    assert jobs.findings(store, work.job.id) == [row]
    assert [r.kind for r in jobs.results(store, study.id)] == ["sc", "sr"]
    assert sorted((d.peer, d.kind) for d in deliveries.of_study(store, study.id)) == [
        ("archive", "sc"),
        ("archive", "sr"),
        ("pacs", "sc"),
        ("pacs", "sr"),
    ]


def test_a_destination_gets_only_the_kinds_that_it_wants(store: Store, routed: Make) -> None:
    study = routed("1.1", deliver_to={"pacs": [], "viewer": ["sc"]})
    (work,) = claim(store)
    made = [built(store, "2.25.1", "sc"), built(store, "2.25.2", "sr")]
    assert jobs.finish(store, work.job, JobState.DONE, [], made, reason="", now=NOW)
    assert sorted((d.peer, d.kind) for d in deliveries.of_study(store, study.id)) == [
        ("pacs", "sc"),
        ("pacs", "sr"),
        ("viewer", "sc"),
    ]


def test_the_answer_of_a_worker_that_lost_its_lease_is_void(store: Store, routed: Make) -> None:
    study = routed("1.1")
    (late,) = claim(store, "slow", lease=10)
    (work,) = claim(store, "other", now=NOW + 11)
    assert work.job.fence == late.job.fence + 1
    assert not jobs.finish(store, late.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW + 12)
    assert jobs.results(store, study.id) == []
    assert jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW + 12)
    assert not jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.3")], reason="", now=NOW + 13)


def test_a_dead_workers_jobs_are_free_at_once(store: Store, routed: Make) -> None:
    routed("1.1")
    claim(store, "w@host", lease=3600)
    (job,) = jobs.give_back(store, "w", crashed=True, now=NOW)
    assert (job.state, job.crashes) == (JobState.QUEUED, 1)
    assert len(claim(store, "w@host")) == 1


def test_a_job_that_killed_its_worker_twice_is_dead_and_the_next_goes_on(store: Store, routed: Make) -> None:
    poison, healthy = routed("1.1"), routed("1.2")
    assert len(claim(store, "w@host")) == 2
    jobs.give_back(store, "w", crashed=True, now=NOW)
    # both are suspects now, and each is taken alone
    (first,) = claim(store, "w@host")
    assert first.study.id == poison.id
    jobs.give_back(store, "w", crashed=True, now=NOW)
    assert state(store, poison) is JobState.DEAD
    assert "ended 2 times" in jobs.of_study(store, poison.id)[0].reason
    (second,) = claim(store, "w@host")
    assert second.study.id == healthy.id


def test_an_orderly_end_is_no_crash(store: Store, routed: Make) -> None:
    routed("1.1")
    for _ in range(5):
        claim(store, "w@host")
        (job,) = jobs.give_back(store, "w", crashed=False, now=NOW)
        assert (job.state, job.crashes) == (JobState.QUEUED, 0)


def test_a_failed_job_is_tried_later_and_then_given_up(store: Store, routed: Make) -> None:
    study = routed("1.1")
    now = NOW
    for attempt in range(3):
        (work,) = claim(store, now=now)
        jobs.fail(store, work.job, "no such bundle", attempts=3, now=now, retry_after=10)
        assert claim(store, now=now + 9) == []
        assert state(store, study) is (JobState.DEAD if attempt == 2 else JobState.QUEUED)
        now += 10
    assert jobs.retry(store, study, now=now) == 1
    assert len(claim(store, now=now)) == 1


def test_a_held_study_s_jobs_are_not_claimed(store: Store, routed: Make) -> None:
    routed("1.1")
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE study SET state = 'HELD'")
    assert claim(store) == []


def test_a_revision_knows_its_predecessor(store: Store, routed: Make) -> None:
    study = routed("1.1")
    (work,) = claim(store)
    jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW)
    instances.remember(store, received(store, "1.1", 2), ORIGIN, own_device_uid="", now=NOW + 1)
    again = studies.settle(store, studies.by_id(store, study.id), "test", image_digest="other", now=NOW + 1)
    assert again is not None
    members = tuple(i.id for i in instances.of_study(store, study.id))
    routing.route(
        store, again, [routing.Wanted(Matched("chest", members, ""), "cardiomegaly@1.0.0", {"pacs": []})], now=NOW + 1
    )
    (second,) = claim(store, now=NOW + 2)
    assert [p.sop_instance_uid for p in second.predecessors] == ["2.25.1"]
    assert second.job.revision == 2


def test_every_step_is_told(store: Store, routed: Make) -> None:
    study = routed("1.1")
    assert [e.verb for e in events.of_study(store, study.id)] == ["receive", "settle", "route"]


def next_revision(store: Store, study: Study, *, images: int, now: float) -> Study:
    """Another image, settled and routed."""
    instances.remember(store, received(store, study.study_instance_uid, images), ORIGIN, own_device_uid="", now=now)
    again = studies.settle(store, studies.by_id(store, study.id), "test", image_digest=f"{images}", now=now)
    assert again is not None
    members = tuple(i.id for i in instances.of_study(store, study.id))
    wanted = routing.Wanted(Matched("chest", members, "match"), "cardiomegaly@1.0.0", {"pacs": []})
    return routing.route(store, again, [wanted], now=now)


def test_a_queued_job_is_superseded_by_the_next_revision(store: Store, routed: Make) -> None:
    study = routed("1.1")
    next_revision(store, study, images=2, now=NOW + 1)
    first, second = jobs.of_study(store, study.id)
    assert (first.state, first.reason) == (JobState.DEAD, "superseded by revision 2")
    assert [w.job.id for w in claim(store, now=NOW + 2)] == [second.id]
    assert jobs.retry(store, study, now=NOW + 3) == 0


def test_a_revision_waits_for_the_one_before_it(store: Store, routed: Make) -> None:
    study = routed("1.1")
    (first,) = claim(store)
    next_revision(store, study, images=2, now=NOW + 1)
    assert claim(store, now=NOW + 2) == []
    assert queue.next_due(store) is None
    jobs.finish(store, first.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW + 3)
    (second,) = claim(store, now=NOW + 4)
    assert [p.sop_instance_uid for p in second.predecessors] == ["2.25.1"]


@pytest.mark.parametrize("how", ["given back", "put back", "failed", "failed for good", "put off"])
def test_a_revision_that_comes_back_gives_way_to_the_next_one(store: Store, routed: Make, how: str) -> None:
    study = routed("1.1")
    (first,) = claim(store, worker="w@1")
    next_revision(store, study, images=2, now=NOW + 1)
    if how == "given back":
        jobs.give_back(store, "w", crashed=True, now=NOW + 2)
    elif how == "put back":
        queue.put_back(store, [first], now=NOW + 2)
    elif how == "put off":
        jobs.put_off(store, first.job, "away", now=NOW + 2, until=NOW + 2)
    else:
        jobs.fail(store, first.job, "x", attempts=1 if "good" in how else 3, now=NOW + 2, retry_after=0)
    before, after = jobs.of_study(store, study.id)
    assert (before.state, before.reason) == (JobState.DEAD, "superseded by a later revision")
    assert jobs.retry(store, study, now=NOW + 3) == 0
    assert [w.job.id for w in claim(store, now=NOW + 4)] == [after.id]
    assert claim(store, now=NOW + 5) == []


def test_a_held_study_gives_a_worker_nothing_to_wait_for(store: Store, routed: Make) -> None:
    routed("1.1")
    assert queue.next_due(store) == NOW
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE study SET state = 'HELD'")
    assert queue.next_due(store) is None


def test_routing_again_makes_a_job_only_where_something_changed(store: Store, routed: Make) -> None:
    study = routed("1.1")
    assert routing.again(store, study, now=NOW + 1)
    members = tuple(i.id for i in instances.of_study(store, study.id))
    wanted = [
        routing.Wanted(Matched("chest", members, "match"), "cardiomegaly@1.0.0", {"pacs": []}),
        routing.Wanted(Matched("new", members, "match"), "other@1.0.0", {"pacs": []}),
    ]
    routing.route(store, studies.by_id(store, study.id), wanted, now=NOW + 1)
    assert [(j.route, j.revision) for j in jobs.of_study(store, study.id)] == [("chest", 1), ("new", 2)]


def test_routing_again_with_another_destination_makes_a_job_because_somebody_asked(store: Store, routed: Make) -> None:
    study = routed("1.1")
    members = tuple(i.id for i in instances.of_study(store, study.id))
    wanted = routing.Wanted(Matched("chest", members, "match"), "cardiomegaly@1.0.0", {"pacs": [], "archive": ["sr"]})
    assert routing.again(store, study, now=NOW + 1)
    routing.route(store, studies.by_id(store, study.id), [wanted], now=NOW + 1)
    assert [j.revision for j in jobs.of_study(store, study.id)] == [1, 2]
    # and none when nothing is different
    assert routing.again(store, studies.by_id(store, study.id), now=NOW + 2)
    routing.route(store, studies.by_id(store, study.id), [wanted], now=NOW + 2)
    assert [j.revision for j in jobs.of_study(store, study.id)] == [1, 2]


def test_a_stale_answer_of_routing_is_void(store: Store, routed: Make) -> None:
    study = routed("1.1")
    routing.again(store, study, now=NOW)
    before = studies.by_id(store, study.id)
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE study SET revision = 9")
    assert routing.route(store, before, [], now=NOW).state == "SETTLED"


def test_all_dead_jobs_are_retried_at_once(store: Store, routed: Make) -> None:
    for uid in ("1.1", "1.2"):
        routed(uid)
    for work in claim(store):
        jobs.fail(store, work.job, "x", attempts=1, now=NOW, retry_after=0)
    assert jobs.retry_all(store, now=NOW) == 2
    assert len(claim(store)) == 2


def urgent(store: Store, routed: Make, uid: str, priority: int, *, images: int = 1, now: float = NOW) -> Study:
    study = routed(uid, now=now)
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE job SET priority = {priority} WHERE study_id = {study.id}")
    return study


def test_the_more_urgent_goes_first_and_a_claim_holds_one_class(store: Store, routed: Make) -> None:
    low, routine, stat = (urgent(store, routed, f"1.{p}", p, now=NOW - p) for p in (3, 2, 0))
    assert [[w.study.id for w in claim(store)] for _ in range(3)] == [[stat.id], [routine.id], [low.id]]


def test_by_age_the_class_that_has_waited_longest_goes_first(store: Store, routed: Make) -> None:
    low, stat = urgent(store, routed, "1.1", 3, now=NOW - 100), urgent(store, routed, "1.2", 0)
    also = urgent(store, routed, "1.3", 3)
    assert [w.study.id for w in queue.claim(store, "w", 8, now=NOW, lease=60, by_age=True)] == [low.id, also.id]
    assert [w.study.id for w in claim(store)] == [stat.id]


def test_a_suspect_job_is_taken_alone_and_after_what_is_more_urgent(store: Store, routed: Make) -> None:
    suspect = routed("1.1")
    claim(store, "w@host")
    jobs.give_back(store, "w", crashed=True, now=NOW)
    stat, other = urgent(store, routed, "1.2", 0), routed("1.3", now=NOW - 50)
    assert [[w.study.id for w in claim(store)] for _ in range(3)] == [[stat.id], [suspect.id], [other.id]]


def test_a_claim_takes_no_more_than_one_batch_of_images(store: Store, routed: Make) -> None:
    for n in range(4):
        routed(f"1.{n}")
    with store.write() as connection:
        # as if the second job had three images
        for other in (1, 3):
            connection.exec_driver_sql(f"INSERT INTO job_instance (job_id, instance_id) VALUES (2, {other})")
    assert [[w.job.id for w in claim(store, limit=3)] for _ in range(3)] == [[1], [2], [3, 4]]


def test_what_a_pull_brought_comes_after_all_others_however_long_it_has_waited(store: Store, routed: Make) -> None:
    bulk = urgent(store, routed, "1.1", 4, now=NOW - 1000)
    low = urgent(store, routed, "1.2", 3)
    assert [w.study.id for w in queue.claim(store, "w", 8, now=NOW, lease=-1, by_age=True)] == [low.id]
    assert [w.study.id for w in queue.claim(store, "w", 8, now=NOW, lease=60)] == [low.id]
    assert queue.next_due(store) == NOW - 1000
    assert [w.study.id for w in queue.claim(store, "w", 8, now=NOW, lease=60, by_age=True)] == [bulk.id]


def test_of_what_a_pull_brought_a_quarter_of_a_batch_is_taken_at_once(store: Store, routed: Make) -> None:
    for n in range(4):
        urgent(store, routed, f"1.{n}", 4)
    assert [len(queue.claim(store, "w", limit, now=NOW, lease=60)) for limit in (8, 1, 3)] == [2, 1, 1]
