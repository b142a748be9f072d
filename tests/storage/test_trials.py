"""Test studies: their results go only where they are sent by hand, and nothing of them stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rows import NOW, ORIGIN, built, received
from sqlalchemy import update

from node.domain import DeliveryState, JobState, Matched, Origin, Study, StudyState
from node.storage import (
    browse,
    canaries,
    deliveries,
    figures,
    instances,
    jobs,
    ledger,
    pace,
    queue,
    readings,
    recalls,
    routing,
    schema,
    studies,
    trials,
)
from node.storage.store import Store
from node.storage.trials import OURSELVES, PATIENT_ID

Make = Callable[..., Study]
Decide = Callable[..., int]


@pytest.fixture
def tested(store: Store) -> Make:
    """A test study whose one job is done, with a report that goes nowhere; every file is there."""

    def make(uid: str = "2.25.7", *, ended: bool = True) -> Study:
        origin = Origin("b" * 12, "OVERREAD", "OVERREAD", "127.0.0.1", OURSELVES, NOW)
        if studies.origin(store, origin.id) is None:
            studies.begin_association(store, origin)
            store.spool.write_origin(origin)
        one = replace(received(store, uid), patient_id=PATIENT_ID, identification={"PatientID": PATIENT_ID})
        one.path.parent.mkdir(parents=True, exist_ok=True)
        one.path.write_bytes(b"image")
        study = instances.remember(store, one, origin, own_device_uid="", now=NOW)
        assert study is not None
        settled = studies.settle(store, study.study, "test", image_digest=uid, now=NOW)
        assert settled is not None
        members = tuple(i.id for i in instances.of_study(store, settled.id))
        wanted = routing.Wanted(Matched("chest", members, "1 of 1 images match"), "cardiomegaly@1.0.0", {})
        routed = routing.route(store, settled, [wanted], now=NOW)
        claimed = queue.claim(store, "w@h", 8, now=NOW, lease=60)
        (work,) = [w for w in claimed if w.study.id == routed.id]
        if ended:
            result = built(store, f"{uid}.1")
            result.path.write_bytes(b"report")
            assert jobs.finish(store, work.job, JobState.DONE, [], [result], reason="", now=NOW)
        return routed

    return make


def files(store: Store) -> list[str]:
    return sorted(p.name for p in store.spool_root.rglob("*") if p.is_file())


def rows(store: Store, *but: str) -> dict[str, int]:
    with store.read() as connection:
        counted = {t.name: len(connection.execute(t.select()).all()) for t in schema.metadata.sorted_tables}
    return {name: n for name, n in counted.items() if n and name not in but}


def test_results_of_a_test_go_to_one_peer_when_a_person_says_so(store: Store, tested: Make) -> None:
    study = tested()
    assert deliveries.of_study(store, study.id) == []
    assert trials.send_results(store, study, "pacs", [], routes=["other"], now=NOW) == 0
    assert trials.send_results(store, study, "pacs", ["sc"], routes=["chest"], now=NOW) == 0
    assert trials.send_results(store, study, "pacs", [], routes=["chest"], now=NOW) == 1
    (one,) = deliveries.of_study(store, study.id)
    assert (one.peer, one.kind, one.state) == ("pacs", "sr", DeliveryState.QUEUED)


def test_nothing_of_a_test_stays(store: Store, tested: Make, routed: Make) -> None:
    routed("1.2.3")
    before, kept = rows(store), files(store)
    study = tested()
    trials.send_results(store, study, "pacs", [], routes=["chest"], now=NOW)
    assert rows(store) != before and files(store) != kept
    assert trials.remove(store, store.spool, study.id)
    assert (rows(store), files(store)) == (before, kept)


def test_what_is_no_test_is_never_removed(store: Store, routed: Make) -> None:
    study = routed("1.2.3")
    before = rows(store)
    assert not trials.remove(store, store.spool, study.id)
    assert trials.sweep(store, store.spool, before=NOW + 1e9) == 0
    assert rows(store) == before


def test_a_test_that_is_worked_on_is_left_for_later(store: Store, tested: Make) -> None:
    study = tested(ended=False)
    assert not trials.remove(store, store.spool, study.id)
    jobs.give_back(store, "w", crashed=False, now=NOW)
    assert trials.remove(store, store.spool, study.id)


def test_a_test_whose_results_are_being_sent_is_left_for_later(store: Store, tested: Make) -> None:
    study = tested()
    trials.send_results(store, study, "pacs", [], routes=["chest"], now=NOW)
    (claimed,) = deliveries.claim(store, "pacs", 8, now=NOW, lease=60)
    assert not trials.remove(store, store.spool, study.id)
    deliveries.release(store, claimed)
    assert trials.remove(store, store.spool, study.id)


def test_what_somebody_else_sent_into_a_test_is_a_persons_to_decide(store: Store, tested: Make) -> None:
    study = tested()
    strange = replace(received(store, study.study_instance_uid, 2), identification={"PatientID": "P2"})
    instances.remember(store, strange, ORIGIN, own_device_uid="", now=NOW)
    assert studies.by_id(store, study.id).state is StudyState.HELD
    assert not trials.remove(store, store.spool, study.id)


@pytest.mark.parametrize("decide", [studies.accept, studies.reject])
def test_images_of_a_patient_are_kept_whatever_is_decided(store: Store, tested: Make, decide: Decide) -> None:
    """A PACS has merged the test study with a patient's, and sends what it has."""
    study = tested()
    strange = received(store, study.study_instance_uid, 2)
    strange.path.write_bytes(b"a patient's")
    instances.remember(store, strange, ORIGIN, own_device_uid="", now=NOW)
    decide(store, studies.by_id(store, study.id), now=NOW)
    assert not trials.remove(store, store.spool, study.id)
    assert trials.sweep(store, store.spool, before=NOW + 1e9) == 0
    assert [i.path.is_file() for i in instances.of_study(store, study.id)] == [True, True]


def test_a_test_into_which_a_patient_was_accepted_is_a_study_like_every_other(store: Store, tested: Make) -> None:
    study = tested()
    canaries.begin(store, ["chest"], study.study_instance_uid, now=NOW)
    canaries.end_all(store, "stopped", now=NOW)
    assert (studies.latest(store, 10), canaries.left_over(store)) == ([], [study.id])
    instances.remember(store, received(store, study.study_instance_uid, 2), ORIGIN, own_device_uid="", now=NOW)
    studies.accept(store, studies.by_id(store, study.id), now=NOW)
    (now,) = studies.latest(store, 10)
    assert (now.peer, now.patient_id) == ("pacs", "P1")
    assert canaries.left_over(store) == []


def test_what_a_test_left_behind_is_swept(store: Store, tested: Make) -> None:
    tested()
    assert trials.sweep(store, store.spool, before=NOW) == 0
    assert trials.sweep(store, store.spool, before=NOW + 1) == 1
    assert studies.latest(store, 10) == []


def test_a_test_does_not_take_a_study_that_is_somebodys(store: Store, tested: Make, routed: Make) -> None:
    routed("1.2.3")
    tested()
    assert [trials.is_free(store, uid) for uid in ("1.2.3", "2.25.7", "1.2.4")] == [False, True, True]


def test_whoever_sent_something_since_then_is_found(store: Store, routed: Make) -> None:
    found = trials.came_from(store, "pacs", since=NOW - 1)
    assert found is not None and found.id == ORIGIN.id
    assert trials.came_from(store, "pacs", since=NOW + 1) is None
    assert trials.came_from(store, "other", since=0) is None


def test_what_comes_back_of_a_test_is_counted(store: Store, tested: Make) -> None:
    study = tested()
    assert trials.came_back(store, study) == 0
    again = replace(received(store, study.study_instance_uid, 2), identification={"PatientID": PATIENT_ID})
    instances.remember(store, again, ORIGIN, own_device_uid="", now=NOW)
    assert trials.came_back(store, study) == 1
    with store.write() as connection:
        connection.execute(update(schema.instance).where(schema.instance.c.digest == f"{1:064x}").values(receipts=2))
    assert trials.came_back(store, study) == 2


def test_a_quarantined_result_and_its_reasons_go_too(store: Store, tested: Make, tmp_path: Path) -> None:
    study = tested()
    path = store.spool.quarantine_path("2.25.9")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"bad")
    path.with_suffix(".txt").write_text("why")
    with store.write() as connection:
        changed = {"quarantine": "why", "path": store.spool.relative(path)}
        connection.execute(update(schema.result).values(**changed))
    assert trials.send_results(store, study, "pacs", [], routes=["chest"], now=NOW) == 0
    assert trials.remove(store, store.spool, study.id)
    assert not list(store.spool.quarantine.rglob("2.25.9*"))


def seen(store: Store) -> dict[str, Any]:
    """What people and their programs are told of all studies."""
    time = {"since": NOW - 60, "until": NOW + 60}
    return {
        "counts": studies.counts(store),
        "figures": replace(figures.figures(store), bytes=0),
        "latest": studies.latest(store, 9),
        "list": browse.studies(store, browse.Wanted()),
        "given up": browse.dead_jobs(store),
        "export": [account.study for account in readings.accounts(store, **time)],
        "day": ledger.settled(store, **time),
        "recall": [one.study for one in recalls.of_bundle(store, "cardiomegaly@1.0.0", **time)],
        "pace": pace.paces(store, give_up_hours=72, now=NOW + 60),
        "oldest": pace.oldest(store),
        "associations": pace.open_associations(store),
    }


def test_a_test_is_counted_listed_and_taken_along_nowhere(store: Store, tested: Make, routed: Make) -> None:
    routed("1.2.3", now=NOW - 30)
    (work,) = queue.claim(store, "w@h", 8, now=NOW - 20, lease=60)
    assert jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.5")], reason="", now=NOW - 10)
    before = seen(store)
    ended, waiting = tested(), tested("2.25.9", ended=False)
    assert trials.send_results(store, ended, "pacs", [], routes=["chest"], now=NOW) == 1
    assert seen(store) == before
    assert before["figures"].last_received_at == NOW - 30
    with store.write() as connection:
        connection.execute(update(schema.job).where(schema.job.c.study_id == waiting.id).values(state=JobState.DEAD))
    assert seen(store) == before


def test_a_test_that_a_person_must_decide_on_is_seen(store: Store, tested: Make) -> None:
    study = tested()
    with store.write() as connection:
        connection.execute(update(schema.study).values(state=StudyState.HELD))
    assert studies.counts(store)["study.HELD"] == 1
    assert [s.id for s in browse.studies(store, browse.Wanted(state=StudyState.HELD))] == [study.id]
