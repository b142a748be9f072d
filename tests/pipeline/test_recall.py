"""A version of a model is recalled: its results are replaced, or taken back from whoever has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import EnhancedSRStorage, generate_uid
from whole_house import Reader, Whole

from config.settings import Retention
from node.domain import DeliveryState, JobState, StudyState
from node.errors import SettingsError
from node.pipeline import forms, recall
from node.pipeline.deliver import remedy
from node.pipeline.forms import AS_STORED
from node.pipeline.recall import Answer
from node.results.form import instance_uid
from node.storage import deliveries, invariants, jobs, notes, proofs, queue, recalls, routing, studies, upkeep
from node.storage import forms as stored_forms
from node.storage.recalls import Recalled

Make = Callable[..., Path]
OLD = "cardiomegaly@1.0.0"
DAY = 86400.0


def found(
    whole: Whole, bundle: str = OLD, *, since: float = 0.0, until: float = 1e12, route: str = ""
) -> list[Recalled]:
    return recall.find(whole.house.store, bundle, since=since, until=until, route=route)


def withdraw(whole: Whole, *, dry: bool = False) -> list[Answer]:
    house = whole.house
    return recall.withdraw(house.store, house.spool, found(whole), settings=house.settings, now=house.now, dry=dry)


def supersede(whole: Whole, *, dry: bool = False) -> list[Answer]:
    recall.see_routes(found(whole), whole.plans(), whole.house.settings)
    return recall.supersede(whole.house.store, found(whole), now=whole.house.now, dry=dry)


def at_pacs(whole: Whole, modality: str) -> list[Any]:
    return [ds for ds in map(dcmread, whole.pacs.received()) if ds.Modality == modality]


def referenced(document: Any) -> set[str]:
    return {r.ReferencedSOPInstanceUID for i in document.ContentSequence for r in i.get("ReferencedSOPSequence", [])}


def verified(whole: Whole) -> None:
    assert invariants.verify(whole.house.store, whole.house.spool, whole.house.now) == []


def test_every_result_of_a_version_is_found_with_where_it_went(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    (one,) = found(whole)
    assert [r.kind for r in one.results] == ["sc", "sr"]
    assert {pair for pairs in one.deliveries.values() for pair in pairs} == {("pacs", DeliveryState.SENT)}
    assert (one.superseded, one.asked, one.withdrawn) == (False, False, False)


def test_time_and_route_narrow_what_is_found(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    at = whole.house.now
    assert found(whole, since=at + 1) == found(whole, until=at) == found(whole, route="other") == []
    assert len(found(whole, since=at, until=at + 1, route="chest")) == 1


def test_a_version_that_made_nothing_is_said_with_those_that_did(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    with pytest.raises(SettingsError, match=r"nothing was ever made with it \(have: cardiomegaly@1.0.0\)"):
        found(whole, "cardiomegaly@9.0.0")
    with pytest.raises(SettingsError, match=r"--bundle cardiomegaly: which version\? Add it: cardiomegaly@1.0.0"):
        found(whole, "cardiomegaly")


def test_a_route_that_still_names_the_version_is_refused(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    with pytest.raises(SettingsError, match=r"route chest still names cardiomegaly@1\.0\.0: give it another version"):
        supersede(whole)
    whole.version = "2.0.0"
    with pytest.raises(SettingsError, match="no \\[\\[route\\]\\] is named chest any more"):
        recall.see_routes(found(whole), [], whole.house.settings)


def test_a_node_that_runs_with_the_version_is_to_be_restarted(
    whole: Whole, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole.house.receive(image())
    whole.work()
    whole.version = "2.0.0"
    said = {"dispatch": {"running": True, "routes": {"chest": OLD}}}
    monkeypatch.setattr("node.storage.roles.status", lambda *_: said)
    with pytest.raises(
        SettingsError, match=r"the running node still reads with cardiomegaly@1.0.0 .* `overread reload` first"
    ):
        supersede(whole)
    said["dispatch"]["routes"] = {"chest": "cardiomegaly@2.0.0"}
    assert supersede(whole)[0].done


def test_superseded_results_are_named_by_those_that_replace_them_and_nothing_is_done_twice(
    whole: Whole, image: Make
) -> None:
    whole.house.receive(image())
    whole.work()
    whole.version = "2.0.0"
    assert supersede(whole, dry=True)[0].done
    assert whole.house.only_study().state is StudyState.ROUTED, "only said"
    assert supersede(whole) == [Answer(1, True, "its routes are asked anew")]
    assert supersede(whole) == [Answer(1, False, "its routes are being asked")]
    whole.work()
    old, new = sorted(at_pacs(whole, "SR"), key=lambda ds: int(ds.InstanceNumber))
    (series,) = new.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert supersede(whole) == [Answer(1, False, "another version has taken its place already")]
    whole.work()
    assert (len(jobs.of_study(whole.house.store, 1)), Reader.asked) == (2, 2)
    verified(whole)


def test_two_routes_of_a_study_are_asked_once(whole: Whole, image: Make) -> None:
    route = whole.house.settings.route[0]
    both = [route, route.model_copy(update={"name": "second"})]
    whole.house.settings = whole.house.settings.model_copy(update={"route": both})
    whole.house.receive(image())
    whole.work()
    whole.version = "2.0.0"
    assert supersede(whole) == [Answer(1, True, "its routes are asked anew")]
    whole.work()
    assert whole.house.only_study().revision == 2
    assert len(jobs.of_study(whole.house.store, 1)) == 4


def test_a_study_whose_images_were_purged_can_only_be_withdrawn(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    whole.house.now += 31 * DAY
    upkeep.purge(whole.house.store, Retention(), whole.house.now)
    whole.version = "2.0.0"
    (said,) = supersede(whole)
    assert not said.done and said.text.startswith("its images were purged on 20")
    assert withdraw(whole)[0].done
    whole.deliver()
    assert len(at_pacs(whole, "KO")) == 1


def test_a_study_that_still_arrives_is_left_for_later(whole: Whole, image: Make) -> None:
    uid = generate_uid()
    whole.house.receive(image(StudyInstanceUID=uid))
    whole.work()
    whole.version = "2.0.0"
    whole.house.receive(image(StudyInstanceUID=uid))
    assert supersede(whole) == [Answer(1, False, "it is RECEIVING: say it again later")]


def test_a_study_that_no_route_takes_any_more_is_asked_once(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    whole.version = "2.0.0"
    route = whole.house.settings.route[0].model_copy(update={"when": {"Modality": ["CT"]}})
    whole.house.settings = whole.house.settings.model_copy(update={"route": [route]})
    assert supersede(whole)[0].done
    whole.work()
    assert supersede(whole) == [Answer(1, False, "its routes were asked, and none took it again")]


def test_a_withdrawal_goes_to_whoever_has_a_result_and_names_our_objects_only(whole: Whole, image: Make) -> None:
    path = image()
    whole.house.receive(path)
    whole.work()
    ours = set(whole.held())
    withdraw(whole)
    whole.deliver()
    (document,) = at_pacs(whole, "KO")
    assert referenced(document) == ours
    assert dcmread(path).SOPInstanceUID not in str(document)
    assert document.StudyInstanceUID == dcmread(path).StudyInstanceUID
    made = jobs.results(whole.house.store, 1)
    assert [r.kind for r in made if r.withdrawn_at] == ["sc", "sr"]
    assert [r.kind for r in made if not r.withdrawn_at] == ["withdrawal"]
    verified(whole)


def test_withdrawing_twice_does_nothing_new(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    assert withdraw(whole, dry=True)[0].done
    assert not any(r.withdrawn_at for r in jobs.results(whole.house.store, 1)), "only said"
    withdraw(whole)
    whole.deliver()
    before = whole.held()
    assert withdraw(whole) == [Answer(1, False, "withdrawn already")]
    whole.work()
    assert whole.held() == before


@pytest.mark.parametrize("place", ["stop", "written"])
def test_a_withdrawal_that_was_cut_off_is_completed(
    whole: Whole, image: Make, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    whole.house.receive(image())
    whole.work()
    where = ("node.pipeline.recall.withdrawal.build",) if place == "stop" else ("node.storage.recalls.withdraw",)
    monkeypatch.setattr(*where, die)
    with pytest.raises(Killed):
        withdraw(whole)
    monkeypatch.undo()
    assert all(r.withdrawn_at for r in jobs.results(whole.house.store, 1))
    written = list(whole.house.spool.results.rglob("*.dcm"))
    whole.house.now += 3600
    assert withdraw(whole)[0].done
    assert len(list(whole.house.spool.results.rglob("*.dcm"))) == 3
    assert set(written) <= set(whole.house.spool.results.rglob("*.dcm"))
    whole.deliver()
    assert len(at_pacs(whole, "KO")) == 1
    verified(whole)


def test_what_nobody_has_is_stopped_without_a_document(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.route()
    whole.infer()
    (said,) = withdraw(whole)
    assert said.text.endswith("nobody has any of it")
    whole.deliver()
    assert whole.held() == {}
    store = whole.house.store
    assert {d.state for d in deliveries.of_study(store, 1)} == {DeliveryState.DEAD}
    assert deliveries.retry(store, whole.house.only_study(), now=whole.house.now) == 0
    assert deliveries.retry_all(store, now=whole.house.now) == 0
    assert withdraw(whole) == [Answer(1, False, "withdrawn already")]
    verified(whole)


def test_what_may_have_arrived_counts_as_arrived(whole: Whole, image: Make) -> None:
    """It is being sent just now: the peer may keep it, whatever becomes of the answer."""
    whole.house.receive(image())
    whole.route()
    whole.infer()
    store = whole.house.store
    claimed = deliveries.claim(store, "pacs", 1, now=whole.house.now, lease=60)
    assert not withdraw(whole)[0].text.endswith("nobody has any of it")
    assert not deliveries.may_go(store, claimed[0])
    whole.deliver()
    (document,) = at_pacs(whole, "KO")
    assert referenced(document) == {claimed[0].sop_instance_uid}


def test_a_job_that_has_not_finished_never_will(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.route()
    (one,) = found(whole)
    assert one.results == ()
    withdraw(whole)
    whole.infer()
    assert jobs.of_study(whole.house.store, 1)[0].state is JobState.DEAD
    assert jobs.retry_all(whole.house.store, now=whole.house.now) == 0
    assert (found(whole), Reader.asked) == ([], 0)
    verified(whole)


def test_a_job_that_is_being_worked_on_ends_in_nothing(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.route()
    (work,) = queue.claim(whole.house.store, "w", 1, now=whole.house.now, lease=60)
    withdraw(whole)
    whole.worker()._run("chest", OLD, [work])
    assert jobs.results(whole.house.store, 1) == []
    assert list(whole.house.spool.notes.rglob("*.json")) == []


def test_withdrawn_results_are_not_sent_even_if_a_row_says_so(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    withdraw(whole)
    with whole.house.store.write() as connection:
        connection.exec_driver_sql("UPDATE delivery SET state = 'QUEUED' WHERE result_id < 3")
    for path in whole.pacs.received():
        path.unlink()
    whole.deliver()
    assert [ds.Modality for ds in map(dcmread, whole.pacs.received())] == ["KO"]


def test_a_study_can_be_superseded_and_withdrawn(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    whole.version = "2.0.0"
    supersede(whole)
    withdraw(whole)
    whole.work()
    assert sorted(ds.Modality for ds in map(dcmread, whole.pacs.received())) == ["KO", "OT", "OT", "SR", "SR"]
    (one,) = found(whole)
    assert (one.superseded, one.withdrawn) == (True, True)
    verified(whole)


def test_routes_asked_again_do_not_repeat_what_was_withdrawn(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.route()
    whole.infer()
    withdraw(whole)
    assert routing.again(whole.house.store, whole.house.only_study(), now=whole.house.now)
    whole.work()
    assert (len(jobs.of_study(whole.house.store, 1)), whole.held()) == (1, {})


def test_a_withdrawal_outlives_the_database(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    withdraw(whole)
    for path in whole.pacs.received():
        path.unlink()
    whole.lose_the_database()
    whole.work()
    assert [ds.Modality for ds in map(dcmread, whole.pacs.received())] == ["KO"]
    assert withdraw(whole) == [Answer(1, False, "withdrawn already")]
    assert studies.find(whole.house.store, "A1").state is StudyState.ROUTED
    verified(whole)


def test_after_a_rebuild_whatever_may_have_been_sent_is_withdrawn(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    whole.lose_the_database()
    assert {d.state for d in deliveries.of_study(whole.house.store, 1)} == {DeliveryState.QUEUED}
    assert "a withdrawal goes to pacs" in withdraw(whole)[0].text
    whole.deliver()
    assert len(at_pacs(whole, "KO")) == 1


def test_patient_and_study_are_known_when_images_and_results_were_purged(whole: Whole, image: Make) -> None:
    path = image(PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100")
    whole.house.receive(path)
    whole.work()
    whole.house.now += 400 * DAY
    upkeep.purge(whole.house.store, Retention(), whole.house.now)
    assert list(whole.house.spool.results.rglob("*.dcm")) == []
    withdraw(whole)
    whole.deliver()
    (document,) = at_pacs(whole, "KO")
    assert (str(document.PatientName), document.PatientID) == ("Müller^Änne", "P1")
    assert document.StudyInstanceUID == dcmread(path).StudyInstanceUID
    (note,) = whole.house.spool.notes.rglob("*.json")
    assert [r["kind"] for r in notes.read(whole.house.store, note)["results"]] == ["sc", "sr", recalls.KIND]
    verified(whole)


def test_a_withdrawal_that_a_peer_does_not_take_is_not_left_out_for_what_it_takes_back(
    whole: Whole, image: Make
) -> None:
    whole.house.receive(image())
    whole.work()
    withdraw(whole)
    (document,) = deliveries.claim(whole.house.store, "pacs", 8, now=whole.house.now, lease=60)
    assert (document.kind, deliveries.instead(whole.house.store, document)) == (recalls.KIND, "")
    assert "sc" not in remedy(document.kind, document.peer)


def test_what_is_withdrawn_waits_for_nobody_whatever_a_person_asks_for(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.route()
    whole.infer()
    store, now = whole.house.store, whole.house.now
    one, two = deliveries.claim(store, "pacs", 2, now=now, lease=60)
    deliveries.omit(store, one, status=None, reason="takes none", now=now)
    deliveries.sent(store, two, status=0, note="", now=now)
    withdraw(whole)
    assert proofs.ask_anew(store, ["pacs"], now=now) == 0
    assert deliveries.retry(store, whole.house.only_study(), now=now) == 1, "the withdrawal"
    states = [d.state for d in deliveries.of_study(store, 1)]
    assert states == [DeliveryState.OMITTED, DeliveryState.SENT, DeliveryState.QUEUED]
    assert all(d.proof_due_at is None for d in deliveries.of_study(store, 1))


def test_a_peer_is_told_the_names_under_which_it_has_the_results(whole: Whole, image: Make) -> None:
    """One has the report as another class and the picture in another transfer syntax, the other as they were made."""
    house = whole.house
    extra = house.settings.peer[0].model_copy(update={"name": "archive"})
    to = house.settings.route[0].model_copy(update={"deliver_to": ["pacs", "archive"]})
    house.settings = house.settings.model_copy(update={"peer": [*house.settings.peer, extra], "route": [to]})
    house.receive(image())
    whole.route()
    whole.infer()
    own = {r.kind: r.sop_instance_uid for r in jobs.results(house.store, 1)}
    for delivery in deliveries.claim(house.store, "archive", 2, now=house.now, lease=60):
        wanted = (str(EnhancedSRStorage), AS_STORED) if delivery.kind == "sr" else forms.of(delivery)[1]
        assert forms.take(house.store, house.spool, delivery, wanted, now=house.now)
        assert deliveries.sent(house.store, delivery, status=0, note="", now=house.now)
    whole.deliver()
    form = instance_uid(own["sr"], original_class="1.2", sop_class_uid=EnhancedSRStorage)
    withdraw(whole)
    told = {d.peer: referenced(dcmread(d.path)) for d in deliveries.of_study(house.store, 1) if d.kind == recalls.KIND}
    assert told == {"pacs": {own["sc"], own["sr"]}, "archive": {own["sc"], form}}
    assert withdraw(whole) == [Answer(1, False, "withdrawn already")]
    whole.deliver()
    verified(whole)


def test_names_of_forms_outlive_the_database(whole: Whole, image: Make) -> None:
    house = whole.house
    house.receive(image())
    whole.route()
    whole.infer()
    for delivery in deliveries.claim(house.store, "pacs", 2, now=house.now, lease=60):
        if delivery.kind == "sr":
            forms.take(house.store, house.spool, delivery, (str(EnhancedSRStorage), AS_STORED), now=house.now)
        deliveries.sent(house.store, delivery, status=0, note="", now=house.now)
    has = {d.sop_instance_uid for d in deliveries.of_study(house.store, 1)}
    (before,) = [r for r in jobs.results(house.store, 1) if r.kind == "sr"]
    known = stored_forms.of_result(house.store, before.id)
    whole.lose_the_database()
    (after,) = [r for r in jobs.results(house.store, 1) if r.kind == "sr"]
    assert known and stored_forms.of_result(house.store, after.id) == known
    withdraw(whole)
    whole.deliver()
    (document,) = at_pacs(whole, "KO")
    assert referenced(document) >= has
    verified(whole)
