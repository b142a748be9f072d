"""A node whose database was lost keeps its results: nothing is computed again, and nothing new is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from databases_made import back_up, put_back
from pydicom import dcmread
from pydicom.uid import generate_uid
from whole_house import Reader, Whole

from config.settings import Retention
from node.domain import DeliveryState, InstanceState, JobState, StudyState
from node.pipeline.deliver import orphans
from node.storage import deliveries, instances, invariants, jobs, notes, proofs, queue, studies, upkeep

Make = Callable[..., Path]
DAY = 86400.0


def reports(whole: Whole) -> list[Any]:
    found = [dcmread(path) for path in whole.pacs.received()]
    return sorted((ds for ds in found if ds.Modality == "SR"), key=lambda ds: int(ds.InstanceNumber))


def test_results_that_were_delivered_are_adopted_and_not_made_again(whole: Whole, image: Make) -> None:
    uid = generate_uid()
    whole.house.receive(image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    whole.work()
    before, asked = whole.held(), Reader.asked
    findings = jobs.findings(whole.house.store, 1)
    assert (len(before), asked) == (3, 2)
    whole.lose_the_database()
    whole.work()
    assert (whole.held(), Reader.asked) == (before, asked)
    study = whole.house.only_study()
    assert study.state is StudyState.ROUTED
    (job,) = jobs.of_study(whole.house.store, study.id)
    assert (job.state, job.revision) == (JobState.DONE, 1)
    assert jobs.findings(whole.house.store, job.id) == findings
    assert "unchanged since revision 1" in studies.route_reasons(whole.house.store, study)[0].reason
    assert {d.state for d in deliveries.of_study(whole.house.store, study.id)} == {DeliveryState.SENT}
    assert invariants.verify(whole.house.store, whole.house.spool, whole.house.now) == []


def test_results_that_nobody_got_yet_are_delivered(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.route()
    whole.infer()
    whole.lose_the_database()
    assert whole.held() == {}
    whole.work()
    assert (len(whole.held()), Reader.asked) == (2, 1)
    assert invariants.verify(whole.house.store, whole.house.spool, whole.house.now) == []


def test_a_late_image_after_a_rebuild_makes_a_report_that_names_its_predecessor(whole: Whole, image: Make) -> None:
    uid = generate_uid()
    whole.house.receive(image(StudyInstanceUID=uid))
    whole.work()
    (first,) = reports(whole)
    whole.lose_the_database()
    whole.house.receive(image(StudyInstanceUID=uid))
    whole.work()
    _, second = reports(whole)
    assert [j.revision for j in jobs.of_study(whole.house.store, 1)] == [1, 2]
    (predecessor,) = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert predecessor.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_what_was_not_finished_is_done_after_the_rebuild(whole: Whole, image: Make) -> None:
    """One route's job was done, the other's waited: only that is done, and its study knows both."""
    route = whole.house.settings.route[0]
    both = [route, route.model_copy(update={"name": "second"})]
    whole.house.settings = whole.house.settings.model_copy(update={"route": both})
    whole.house.receive(image())
    whole.route()
    (work,) = queue.claim(whole.house.store, "w", 1, now=whole.house.now, lease=0.0)
    assert work.job.route == "chest"
    worker = whole.worker()
    worker._run("chest", work.job.bundle, [work])
    whole.lose_the_database()
    assert [(j.route, j.state) for j in jobs.of_study(whole.house.store, 1)] == [("chest", JobState.DONE)]
    whole.work()
    assert {j.route for j in jobs.of_study(whole.house.store, 1)} == {"chest", "second"}
    assert (len(whole.held()), Reader.asked) == (4, 2)
    assert invariants.verify(whole.house.store, whole.house.spool, whole.house.now) == []


def test_two_routes_share_the_rows_of_their_images_after_a_rebuild(whole: Whole, image: Make) -> None:
    route = whole.house.settings.route[0]
    both = [route, route.model_copy(update={"name": "second"})]
    whole.house.settings = whole.house.settings.model_copy(update={"route": both})
    whole.house.receive(image())
    whole.work()
    before, asked = whole.held(), Reader.asked
    whole.lose_the_database()
    whole.work()
    assert (whole.held(), Reader.asked) == (before, asked)
    assert len(instances.of_study(whole.house.store, 1)) == 1
    assert len(jobs.of_study(whole.house.store, 1)) == 2


def test_a_study_whose_images_were_purged_keeps_its_results(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    purged_at = whole.house.now = whole.house.now + 31 * DAY
    upkeep.purge(whole.house.store, Retention(), purged_at)
    before = whole.held()
    whole.lose_the_database()
    whole.work()
    study = whole.house.only_study()
    assert (study.state, study.revision) == (StudyState.ROUTED, 1)
    assert (whole.held(), Reader.asked) == (before, 1)
    (instance,) = instances.of_study(whole.house.store, study.id)
    assert instance.gone_at == purged_at
    assert len(jobs.results(whole.house.store, study.id)) == 2
    assert invariants.verify(whole.house.store, whole.house.spool, whole.house.now) == []


def test_a_decision_about_a_contradiction_outlives_the_database(whole: Whole, image: Make) -> None:
    """What a correction stopped is not sent by a rebuilt node, and the person is not asked again."""
    house = whole.house
    first = image()
    house.receive(first)
    whole.route()
    whole.infer()
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    house.receive(image(**same, PatientID="P2"))
    assert house.only_study().state is StudyState.HELD
    studies.accept(house.store, house.only_study(), now=house.now)
    whole.lose_the_database()
    assert house.only_study().patient_id == "P2"
    states = {i.state for i in instances.of_study(house.store, 1)}
    assert states == {InstanceState.SUPERSEDED, InstanceState.CURRENT}
    whole.work()
    assert {ds.PatientID for ds in map(dcmread, whole.pacs.received())} == {"P2"}
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_the_same_images_are_reported_again_when_a_correction_had_stopped_their_report(
    whole: Whole, image: Make
) -> None:
    """An unfinished report of an image that a correction did not touch must not be lost with the others."""
    house, uid = whole.house, generate_uid()
    other = image(StudyInstanceUID=uid, Modality="CT")
    house.receive(image(StudyInstanceUID=uid), other)
    whole.route()
    whole.infer()
    ds = dcmread(other)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")}
    house.receive(image(**same, AccessionNumber="A2"))
    studies.accept(house.store, house.only_study(), now=house.now)
    whole.work()
    assert [(j.revision, j.state) for j in jobs.of_study(house.store, 1)] == [(1, JobState.DONE), (2, JobState.DONE)]
    assert len(whole.held()) == 2


def test_a_damaged_note_costs_only_that_its_job_is_done_again(
    whole: Whole, image: Make, caplog: pytest.LogCaptureFixture
) -> None:
    whole.house.receive(image())
    whole.work()
    before = whole.held()
    (note,) = whole.house.spool.notes.rglob("*.json")
    note.write_bytes(note.read_bytes()[:-80])
    whole.lose_the_database()
    whole.work()
    assert "note.not-adopted" in caplog.text
    assert (whole.held(), Reader.asked) == (before, 2)
    assert invariants.verify(whole.house.store, whole.house.spool, whole.house.now) == []


def test_a_database_from_an_older_backup_is_completed(whole: Whole, image: Make, tmp_path: Path) -> None:
    house = whole.house
    house.receive(image())
    whole.work()
    house.store.close()
    backup = back_up(house.store, tmp_path)
    house.receive(image(PatientID="P2"))
    whole.work()
    before = whole.held()
    house.store.close()
    put_back(house.store, backup)
    whole.start()
    whole.work()
    assert len(studies.latest(house.store, 10)) == 2
    assert (whole.held(), Reader.asked) == (before, 2)
    assert invariants.verify(house.store, house.spool, house.now) == []


def test_what_was_to_be_asked_about_is_sent_again_when_nobody_asks_any_more(whole: Whole, image: Make) -> None:
    house = whole.house
    silent = house.settings
    asking = [p.model_copy(update={"proof": "auto"}) for p in silent.peer]
    house.receive(image())
    whole.work()
    before = whole.held()
    house.settings = silent.model_copy(update={"peer": asking})
    whole.lose_the_database()
    assert {d.state for d in deliveries.of_study(house.store, 1)} == {DeliveryState.SENT}
    orphans(house.store, silent, house.now)
    deliveries.send_unanswered(house.store, now=house.now)
    house.settings = silent
    for path in whole.pacs.received():
        path.unlink()
    whole.deliver()
    assert whole.held() == before


def test_a_peer_that_gets_nothing_any_more_is_not_asked_either(whole: Whole, image: Make) -> None:
    house = whole.house
    house.receive(image())
    whole.work()
    sender = [p.model_copy(update={"proof": "auto", "may": ["send"]}) for p in house.settings.peer]
    house.settings = house.settings.model_copy(update={"peer": sender})
    whole.lose_the_database()
    assert orphans(house.store, house.settings, house.now) == 2
    assert {d.state for d in deliveries.of_study(house.store, 1)} == {DeliveryState.DEAD}


def test_what_a_peer_had_refused_before_the_rebuild_is_sent_when_it_cannot_say_whether_it_has_it(
    whole: Whole, image: Make
) -> None:
    house = whole.house
    house.receive(image())
    whole.route()
    whole.infer()
    for one in deliveries.claim(house.store, "pacs", 9, now=house.now, lease=60):
        again = {"status": 0xA700, "reason": "full", "refusals": 0, "due_at": house.now + 60}
        deliveries.retry_later(house.store, one, **again, now=house.now)
    with house.store.write() as connection:
        notes.keep_all(house.store, connection, house.only_study().id)
    silent = house.settings
    asking = [p.model_copy(update={"proof": "auto"}) for p in silent.peer]
    house.settings = silent.model_copy(update={"peer": asking})
    whole.lose_the_database()
    proofs.refuse(house.store, proofs.due(house.store, "pacs", 9, now=house.now), "offers no proof", now=house.now)
    assert deliveries.send_unanswered(house.store, now=house.now) == 2
