"""A finished job leaves a note of its rows, and its rows can be made of the note again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import place
from rows import NOW, built

from config.settings import Retention
from node.domain import DeliveryState, FindingRow, Gone, JobState, Study, StudyState
from node.storage import adoption, deliveries, instances, invariants, jobs, notes, queue, studies, upkeep
from node.storage.store import Store

Make = Callable[..., Study]
DAY = 86400.0


@pytest.fixture
def finished(store: Store, routed: Make) -> Callable[..., Study]:
    """A study whose job is done: one finding, a picture and a report for two destinations; its files are there."""

    def make(uid: str = "1.1") -> Study:
        study = routed(uid, deliver_to={"pacs": [], "archive": []})
        (work,) = queue.claim(store, "w", 8, now=NOW, lease=60)
        for one in work.instances:
            one.path.parent.mkdir(parents=True, exist_ok=True)
            one.path.write_bytes(b"x")
        row = FindingRow(work.instances[0].id, "analysed", "", "Cardiomegaly", 0.1 + 0.2, "PRESENT")
        made = [built(store, f"2.25.{uid}.1", "sc"), built(store, f"2.25.{uid}.2", "sr")]
        with_what = {"bundle": "cardiomegaly@1.0.0", "device": "/CPU:0"}
        assert jobs.finish(store, work.job, JobState.DONE, [row], made, reason="ok", ran_with=with_what, now=NOW)
        return study

    return make


@pytest.fixture
def lost(store: Store, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """A new, empty database over the same spool."""
    made: list[Store] = []

    def make() -> Store:
        fresh = Store(place(tmp_path, f"again{len(made)}.db"), store.spool_root)
        fresh.open()
        made.append(fresh)
        return fresh

    yield make
    for fresh in made:
        fresh.close()


def the_note(store: Store) -> Path:
    (path,) = store.spool.notes.rglob("*.json")
    return path


def adopt(store: Store, *provable: str, now: float = NOW + 100) -> None:
    for path in adoption.missing(store):
        adoption.adopt(store, path, provable=provable, now=now)


def told(store: Store) -> dict[str, Any]:
    """All that a note holds, by the rows of this database."""
    with store.read() as connection:
        return {str(path): notes._content(connection, n) for path, n in notes.expected(store, connection).items()}


def test_a_note_makes_the_same_rows_again(store: Store, finished: Make, lost: Any) -> None:
    study = finished()
    fresh = lost()
    adopt(fresh)
    again = studies.find(fresh, "1.1")
    assert (again.patient_id, again.peer, again.revision, again.log_id) == ("P1", "pacs", 1, fresh.log_id("1.1"))
    (before,), (after,) = jobs.of_study(store, study.id), jobs.of_study(fresh, again.id)
    for name in ("revision", "route", "bundle", "state", "reason", "input_digest", "finished_at", "ran_with"):
        assert getattr(after, name) == getattr(before, name)
    assert jobs.findings(fresh, after.id) == jobs.findings(store, before.id)
    results = [(r.kind, r.sop_instance_uid, r.path, r.digest, r.created_at) for r in jobs.results(store, study.id)]
    assert results == [(r.kind, r.sop_instance_uid, r.path, r.digest, r.created_at) for r in jobs.results(fresh, 1)]
    assert studies.route_reasons(fresh, again)[0].reason == "1 of 1 images match"
    assert adoption.missing(fresh) == []
    assert not [p for p in invariants.verify(fresh, fresh.spool, NOW) if p[:2] not in ("I1", "I2")]


def test_nothing_is_adopted_where_the_rows_are_there(store: Store, finished: Make) -> None:
    finished()
    assert adoption.missing(store) == []


def test_what_may_have_been_sent_is_asked_for_where_that_can_be_proven_and_else_sent_again(
    finished: Make, lost: Any
) -> None:
    finished()
    fresh = lost()
    adopt(fresh, "pacs")
    said = {(d.peer, d.state, d.proof_due_at) for d in deliveries.of_study(fresh, 1)}
    assert said == {("pacs", DeliveryState.SENT, NOW + 100), ("archive", DeliveryState.QUEUED, None)}
    assert {d.proof for d in deliveries.of_study(fresh, 1)} == {adoption.UNKNOWN}
    assert len(deliveries.claim(fresh, "archive", 8, now=NOW + 100, lease=60)) == 2


def test_a_study_with_images_is_decided_anew_and_one_whose_images_were_purged_is_not(
    store: Store, finished: Make, lost: Any
) -> None:
    finished("1.1")
    for peer in ("pacs", "archive"):
        for delivery in deliveries.claim(store, peer, 8, now=NOW, lease=60):
            deliveries.sent(store, delivery, status=0, note="", now=NOW)
    assert len(upkeep.purge(store, Retention(), NOW + 31 * DAY)) == 1
    finished("1.2")
    fresh = lost()
    adopt(fresh)
    assert studies.find(fresh, "1.1").state is StudyState.ROUTED
    (gone,) = instances.of_study(fresh, studies.find(fresh, "1.1").id)
    assert (gone.gone, gone.gone_at) == (Gone.PURGED, NOW + 31 * DAY)
    assert studies.find(fresh, "1.2").state is StudyState.RECEIVING
    over = deliveries.of_study(fresh, studies.find(fresh, "1.1").id)
    assert {d.state for d in over} == {DeliveryState.SENT}, "the purge had noted that they were sent"
    assert invariants.verify(fresh, fresh.spool, NOW, deep=False) != []
    assert not any(p.startswith("I2: instance") for p in invariants.verify(fresh, fresh.spool, NOW, deep=False))


def test_a_file_that_nobody_purged_is_lost(finished: Make, lost: Any, store: Store) -> None:
    study = finished()
    (path,) = (i.path for i in instances.of_study(store, study.id))
    path.unlink()
    fresh = lost()
    adopt(fresh)
    assert [i.gone for i in instances.of_study(fresh, 1)] == [Gone.LOST]


def test_a_note_goes_with_the_last_of_its_results(store: Store, finished: Make) -> None:
    finished()
    with store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET state = 'SENT' WHERE result_id = 1")
        connection.exec_driver_sql("UPDATE delivery SET state = 'DEAD' WHERE result_id = 2")
    # The undelivered report is kept a little longer than its picture
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE delivery SET created_at = {NOW + 300 * DAY} WHERE result_id = 2")
    upkeep.purge(store, Retention(), NOW + 366 * DAY)
    said = notes.read(store, the_note(store))
    assert [r["purged"] for r in said["results"]] == [True, False]
    upkeep.purge(store, Retention(), NOW + 400 * DAY)
    assert list(store.spool.notes.rglob("*.json")) == []
    assert not any(p.startswith("I9") for p in invariants.verify(store, store.spool, NOW))


def test_a_missing_note_violates_an_invariant(store: Store, finished: Make) -> None:
    finished()
    the_note(store).unlink()
    assert [p for p in invariants.verify(store, store.spool, NOW) if p.startswith("I9")] == [
        "I9: job 1 has no note: a rebuilt database would do it again"
    ]


def test_a_worker_that_lost_its_lease_leaves_no_note(store: Store, routed: Make) -> None:
    routed("1.1")
    (late,) = queue.claim(store, "slow", 8, now=NOW, lease=10)
    (work,) = queue.claim(store, "other", 8, now=NOW + 11, lease=60)
    assert not jobs.finish(store, late.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW + 12)
    assert list(store.spool.notes.rglob("*.json")) == []
    assert jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.2")], reason="", now=NOW + 12)
    assert [r["sop_instance_uid"] for r in notes.read(store, the_note(store))["results"]] == ["2.25.2"]


def test_a_job_whose_note_cannot_be_kept_is_not_finished(
    store: Store, routed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    study = routed("1.1")
    (work,) = queue.claim(store, "w", 8, now=NOW, lease=60)
    monkeypatch.setattr(store.spool, "write", full)
    with pytest.raises(OSError, match="No space"):
        jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW)
    assert jobs.of_study(store, study.id)[0].state is JobState.LEASED
    assert jobs.results(store, study.id) == []


def test_a_damaged_note_is_refused(store: Store, finished: Make, lost: Any) -> None:
    finished()
    path = the_note(store)
    path.write_bytes(path.read_bytes().replace(b"P1", b"P2"))
    fresh = lost()
    with pytest.raises(ValueError, match="damaged"):
        adopt(fresh)
    assert studies.latest(fresh, 10) == []


def test_a_note_that_contradicts_the_rows_changes_nothing(store: Store, finished: Make, lost: Any) -> None:
    finished()
    fresh = lost()
    adopt(fresh)
    with fresh.write() as connection:
        connection.exec_driver_sql("UPDATE job SET route = 'renamed'")
    before = told(fresh)
    with pytest.raises(ValueError, match="contradicts"):
        adopt(fresh)
    assert told(fresh) == before


def test_a_note_with_a_column_of_another_version_is_read(store: Store, finished: Make, lost: Any) -> None:
    from blake3 import blake3

    finished()
    path = the_note(store)
    said = notes.read(store, path)
    said["job"] |= {"colour": "blue"}
    del said["results"][0]["quarantine"]
    body = json.dumps(said).encode()
    path.write_bytes(body + b"\n" + blake3(body).hexdigest().encode())
    fresh = lost()
    adopt(fresh)
    assert [r.quarantine for r in jobs.results(fresh, 1)] == ["", ""]


def test_what_a_peer_cannot_prove_to_have_is_sent_after_all(finished: Make, lost: Any) -> None:
    finished()
    fresh = lost()
    adopt(fresh, "pacs", "archive")
    assert deliveries.send_unanswered(fresh, now=NOW + 101) == 0, "it is still being asked"
    with fresh.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET proof_due_at = NULL WHERE peer = 'pacs'")
    assert deliveries.send_unanswered(fresh, now=NOW + 101) == 2
    claimed = deliveries.claim(fresh, "pacs", 8, now=NOW + 101, lease=60)
    assert len(claimed) == 2
    for delivery in claimed:
        deliveries.sent(fresh, delivery, status=0, note="", now=NOW + 102)
    assert deliveries.send_unanswered(fresh, now=NOW + 103) == 0
