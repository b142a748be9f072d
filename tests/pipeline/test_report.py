from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models_made
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
