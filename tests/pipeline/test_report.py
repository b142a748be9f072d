from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models_made
import pytest
from house import SETTINGS, House
from pydicom import dcmread
from pydicom.uid import generate_uid
from test_route import run

from models.bundle import Bundle
from models.findings import Reading
from models.pixels import read
from node.domain import JobState, Work
from node.pipeline import report
from node.storage import queue

Make = Callable[..., Path]


def work_of(house: House, *paths: Path) -> Work:
    house.receive(*paths)
    run(house)
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    return work


def build(house: House, work: Work, readings: Sequence[Reading], *, bundle: Bundle | None = None) -> report.Outcome:
    images = [
        report.Image(i, read(i.path) if r.status == "analysed" else None, r)
        for i, r in zip(work.instances, readings, strict=True)
    ]
    return report.build(
        work,
        images,
        house.settings.route[0],
        spool=house.spool,
        store=house.store,
        settings=house.settings,
        bundle=bundle or models_made.bundle(),
    )


def kinds(outcome: report.Outcome) -> list[str]:
    return [r.kind for r in outcome.results]


def test_a_flagged_image_gets_a_picture_and_a_report(house: House, image: Make) -> None:
    work = work_of(house, image())
    outcome = build(house, work, [models_made.reading(0.83)])
    assert (outcome.state, kinds(outcome)) == (JobState.DONE, ["sc", "sr"])
    (row,) = outcome.findings
    assert (row.label, row.score, row.presence) == ("Cardiomegaly", 0.83, "PRESENT")
    picture, paper = (dcmread(r.path) for r in outcome.results)
    assert (picture.Modality, paper.Modality) == ("OT", "SR")
    assert paper.StudyInstanceUID == work.study.study_instance_uid == picture.StudyInstanceUID


def test_an_image_above_no_threshold_gets_one_card(house: House, image: Make) -> None:
    uid = generate_uid()
    work = work_of(house, image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    assert kinds(build(house, work, [models_made.reading(0.1), models_made.reading(0.2)])) == ["sc", "sr"]


def test_two_flagged_images_get_two_pictures(house: House, image: Make) -> None:
    uid = generate_uid()
    work = work_of(house, image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    assert kinds(build(house, work, [models_made.reading(0.9), models_made.reading(0.8)])) == ["sc", "sc", "sr"]


def test_a_refused_image_ends_in_results_that_say_why(house: House, image: Make) -> None:
    work = work_of(house, image())
    outcome = build(house, work, [models_made.reading(None, reason="The gate says leg")])
    assert (outcome.state, outcome.reason, kinds(outcome)) == (JobState.REFUSED, "The gate says leg", ["sc", "sr"])
    assert [(f.status, f.label, f.score) for f in outcome.findings] == [("refused", "", None)]


def test_a_job_with_one_refused_image_is_done(house: House, image: Make) -> None:
    uid = generate_uid()
    work = work_of(house, image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    outcome = build(house, work, [models_made.reading(0.9), models_made.reading(None, reason="lateral")])
    assert outcome.state is JobState.DONE
    assert outcome.reason == "1 of 2 images not analysed: lateral"


def changed_route(**more: Any) -> dict[str, Any]:
    return {"route": [SETTINGS["route"][0] | more]}


def test_pictures_only_of_flagged_images_if_so_set(build_house: Callable[..., House], image: Make) -> None:
    house = build_house(**changed_route(sc="flagged"))
    work = work_of(house, image())
    assert kinds(build(house, work, [models_made.reading(0.1)])) == ["sr"]


def test_no_pictures_if_so_set(build_house: Callable[..., House], image: Make) -> None:
    house = build_house(**changed_route(sc="never"))
    work = work_of(house, image())
    assert kinds(build(house, work, [models_made.reading(0.9)])) == ["sr"]


def test_a_repeated_job_writes_the_same_bytes_under_the_same_uids(house: House, image: Make) -> None:
    work = work_of(house, image())
    first = build(house, work, [models_made.reading(0.83)])
    for made in first.results:
        made.path.unlink()
    house.now += 1000
    again = build(house, work, [models_made.reading(0.83)])
    assert [(r.sop_instance_uid, r.digest) for r in first.results] == [
        (r.sop_instance_uid, r.digest) for r in again.results
    ]


def test_stored_bytes_are_never_made_anew(house: House, image: Make) -> None:
    work = work_of(house, image())
    (first, *_) = build(house, work, [models_made.reading(0.83)]).results
    before = first.path.stat().st_mtime_ns
    build(house, work, [models_made.reading(0.83)])
    assert first.path.stat().st_mtime_ns == before


def test_another_bundle_or_setting_gives_other_uids(house: House, image: Make) -> None:
    work = work_of(house, image())
    one = build(house, work, [models_made.reading(0.83)])
    other = build(house, work, [models_made.reading(0.83)], bundle=models_made.bundle(digest="e" * 64))
    assert {r.sop_instance_uid for r in one.results}.isdisjoint(r.sop_instance_uid for r in other.results)


def test_a_failed_audit_is_said_in_the_report(house: House, image: Make) -> None:
    from node.results.text import as_text

    work = work_of(house, image())
    outcome = build(house, work, [models_made.reading(0.83)], bundle=models_made.bundle(audit="fail"))
    assert "audit of this model failed" in as_text(dcmread(outcome.results[-1].path))


EVERYTHING = ["sr", "sc", "gsps", "kos", "pdf"]


def test_each_kind_is_made_where_the_route_asks_for_it(build_house: Callable[..., House], image: Make) -> None:
    house = build_house(**changed_route(results=EVERYTHING))
    uid = generate_uid()
    work = work_of(house, image(StudyInstanceUID=uid), image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    readings = [models_made.reading(0.9), models_made.reading(0.1), models_made.reading(0.7)]
    outcome = build(house, work, readings)
    assert kinds(outcome) == ["sc", "sc", "sr", "gsps", "gsps", "kos", "pdf"]
    made = [dcmread(r.path) for r in outcome.results]
    assert [ds.SeriesNumber for ds in made] == [9002, 9002, 9001, 9003, 9003, 9004, 9005]
    assert len({ds.SeriesInstanceUID for ds in made}) == 5
    assert len({ds.SOPInstanceUID for ds in made}) == 7
    assert {ds.StudyInstanceUID for ds in made} == {uid}
    marked = {
        i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in made[5].ContentSequence if i.ValueType == "IMAGE"
    }
    assert marked == {work.instances[0].sop_instance_uid, work.instances[2].sop_instance_uid} | {
        ds.SOPInstanceUID for ds in made[:2]
    }


def test_of_what_is_not_flagged_only_the_kinds_that_always_speak(
    build_house: Callable[..., House], image: Make
) -> None:
    house = build_house(**changed_route(results=EVERYTHING))
    assert kinds(build(house, work_of(house, image()), [models_made.reading(0.1)])) == ["sc", "sr", "pdf"]


def test_a_document_alone_says_why_nothing_was_analysed(build_house: Callable[..., House], image: Make) -> None:
    house = build_house(**changed_route(results=["pdf"]))
    outcome = build(house, work_of(house, image()), [models_made.reading(None, reason="The gate says leg")])
    assert (outcome.state, kinds(outcome)) == (JobState.REFUSED, ["pdf"])


def test_every_kind_is_the_same_bytes_again(build_house: Callable[..., House], image: Make) -> None:
    house = build_house(**changed_route(results=EVERYTHING))
    work = work_of(house, image())
    first = build(house, work, [models_made.reading(0.83)])
    for made in first.results:
        made.path.unlink()
    again = build(house, work, [models_made.reading(0.83)])
    assert [(r.sop_instance_uid, r.digest) for r in first.results] == [
        (r.sop_instance_uid, r.digest) for r in again.results
    ]


def spoiled(monkeypatch: pytest.MonkeyPatch, kind: str, change: Callable[[Any], None]) -> None:
    """Have one kind's objects spoiled before they are looked at."""
    builder = report.BUILDERS[kind]

    def build_and_spoil(*arguments: Any) -> Any:
        made = builder(*arguments)
        for draft in made:
            change(draft.ds)
        return made

    monkeypatch.setitem(report.BUILDERS, kind, build_and_spoil)


def without_birth_date(ds: Any) -> None:
    del ds.PatientBirthDate


def test_an_object_that_fails_its_check_is_put_aside_with_its_reasons_and_the_others_go(
    house: House, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of(house, image())
    spoiled(monkeypatch, "sc", without_birth_date)
    picture, paper = build(house, work, [models_made.reading(0.83)]).results
    assert picture.quarantine == "PatientBirthDate is missing; PatientBirthDate is not the source's"
    assert picture.path == house.spool.quarantine_path(picture.sop_instance_uid)
    assert picture.path.with_suffix(".txt").read_text().splitlines()[0] == "PatientBirthDate is missing"
    assert not house.spool.result_path(picture.sop_instance_uid).exists()
    assert (paper.quarantine, paper.path.parent.parent) == ("", house.spool.results)


def test_nothing_that_is_sent_refers_to_what_was_put_aside(
    build_house: Callable[..., House], image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build_house(**changed_route(results=EVERYTHING))
    work = work_of(house, image())
    spoiled(monkeypatch, "sc", without_birth_date)
    aside, *others = build(house, work, [models_made.reading(0.83)]).results
    assert [(r.kind, r.quarantine) for r in others] == [("sr", ""), ("gsps", ""), ("kos", ""), ("pdf", "")]
    for result in others:
        assert aside.sop_instance_uid.encode() not in result.path.read_bytes()


def test_a_name_that_got_into_a_reason_goes_nowhere(house: House, image: Make) -> None:
    part = "DOE JANE"
    work = work_of(house, image(BodyPartExamined=part))
    reason = f"The body part is {part}; the model reads CHEST"
    results = build(house, work, [models_made.reading(None, reason=reason, code="body_part")]).results
    assert [r.quarantine for r in results] == ["its words hold the PatientName"] * 2


def test_a_patient_whose_name_is_a_word_of_every_report_gets_results(
    build_house: Callable[..., House], image: Make
) -> None:
    house = build_house(**changed_route(results=EVERYTHING))
    work = work_of(house, image(PatientName="Cardiomegaly^Model", PatientID="83", AccessionNumber="1.0.0"))
    assert [r.quarantine for r in build(house, work, [models_made.reading(0.83)]).results] == [""] * 5


def test_what_was_put_aside_is_written_again_as_it_was(
    house: House, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = work_of(house, image())
    spoiled(monkeypatch, "sr", without_birth_date)
    first = build(house, work, [models_made.reading(0.83)]).results
    assert build(house, work, [models_made.reading(0.83)]).results == first
