"""A newer version of a model: who is read again, and what the new report says of the old one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import generate_uid
from whole_house import Reader, Whole

from node.domain import JobState
from node.pipeline.provenance import versions
from node.storage import jobs, routing, studies

Make = Callable[..., Path]


def again(whole: Whole) -> None:
    assert routing.again(whole.house.store, whole.house.only_study(), now=whole.house.now)
    whole.work()


def reports(whole: Whole) -> list[Any]:
    found = [dcmread(path) for path in whole.pacs.received()]
    return sorted((ds for ds in found if ds.Modality == "SR"), key=lambda ds: int(ds.InstanceNumber))


def test_a_job_remembers_what_it_ran_with(whole: Whole, image: Make) -> None:
    path = image()
    whole.house.receive(path)
    whole.work()
    (job,) = jobs.of_study(whole.house.store, 1)
    assert job.ran_with is not None
    assert (job.ran_with["bundle"], job.ran_with["bundle_digest"]) == ("cardiomegaly@1.0.0", "1" * 64)
    assert (job.ran_with["device"], job.ran_with["gate_digest"]) == ("/CPU:0", "")
    assert job.ran_with["route"]["name"] == "chest"
    assert job.ran_with["inputs"] == [dcmread(path).SOPInstanceUID]
    assert job.ran_with["versions"] == versions() and "numpy" in versions()


def test_routes_asked_again_run_a_newer_version_on_unchanged_images(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    whole.version = "2.0.0"
    again(whole)
    assert [j.bundle for j in jobs.of_study(whole.house.store, 1)] == ["cardiomegaly@1.0.0", "cardiomegaly@2.0.0"]
    first, second = reports(whole)
    assert first.SeriesInstanceUID != second.SeriesInstanceUID, "each version has a series of its own"
    (study,) = second.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (predecessor,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert predecessor.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert predecessor.ReferencedSOPClassUID == first.SOPClassUID


def test_routes_asked_again_with_the_same_version_make_nothing_new(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    again(whole)
    assert (len(jobs.of_study(whole.house.store, 1)), Reader.asked) == (1, 1)


def test_a_newer_version_alone_rewrites_no_report(whole: Whole, image: Make) -> None:
    """Another image that the route does not take settles the study anew; nobody asked for another report."""
    uid = generate_uid()
    whole.house.receive(image(StudyInstanceUID=uid))
    whole.work()
    whole.version = "2.0.0"
    whole.house.receive(image(StudyInstanceUID=uid, Modality="CT"))
    whole.work()
    study = whole.house.only_study()
    assert (study.revision, Reader.asked) == (2, 1)
    assert "unchanged since revision 1" in studies.route_reasons(whole.house.store, study)[0].reason


def test_a_newer_version_and_a_rebuilt_database_rewrite_no_report(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.work()
    whole.version = "2.0.0"
    whole.lose_the_database()
    whole.work()
    assert (len(jobs.of_study(whole.house.store, 1)), Reader.asked) == (1, 1)
    again(whole)
    assert [j.bundle for j in jobs.of_study(whole.house.store, 1)] == ["cardiomegaly@1.0.0", "cardiomegaly@2.0.0"]
    assert "PredecessorDocumentsSequence" in reports(whole)[1]


def test_a_job_that_waits_for_the_older_version_is_superseded(whole: Whole, image: Make) -> None:
    whole.house.receive(image())
    whole.route()
    whole.version = "2.0.0"
    again(whole)
    old, new = jobs.of_study(whole.house.store, 1)
    assert (old.state, old.reason) == (JobState.DEAD, "superseded by revision 2")
    assert (new.state, new.bundle) == (JobState.DONE, "cardiomegaly@2.0.0")
