"""A route that goes by series: a job, a report and revisions for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models_made
import numpy as np
import pytest
from house import SETTINGS, House
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import generate_uid
from slices_made import enhanced, series
from sqlalchemy import delete, update
from test_route import run

from config.settings import Settings
from models.findings import Reading
from models.pixels import Frame, NotAnalysable
from node.domain import Gone, Job, JobState, StudyState
from node.pipeline import infer
from node.pipeline.infer import Worker
from node.pipeline.route import explain
from node.results.text import as_text
from node.storage import deliveries, instances, jobs, queue, routing, schema, studies

ROUTE = {"name": "ct", "when": {"Modality": ["CT", "MR"]}, "bundle": "cardiomegaly", "deliver_to": ["pacs"]}


class Reader:
    """Says of every frame how bright it is; remembers which came together, and how bright they were."""

    device = "stub"
    seen: list[list[float]]

    def __init__(self, _registry: Any, bundle: Any, **_: Any) -> None:
        self.bundle = bundle

    def verify(self) -> None:
        """Always as it was."""

    def read(self, items: Sequence[Frame | NotAnalysable]) -> list[Reading]:
        Reader.seen.append([float(i.pixels.mean()) for i in items if isinstance(i, Frame)])
        return [
            Reading("failed", i.code, i.reason)
            if isinstance(i, NotAnalysable)
            else models_made.reading(round(float(i.pixels.mean()), 3))
            for i in items
        ]


class Known:
    def find(self, _: str) -> Any:
        return models_made.bundle()


@pytest.fixture
def node(build: Callable[..., House]) -> Callable[..., House]:
    """A house whose one route goes by series."""

    def make(frames: str = "every:2", **changed: Any) -> House:
        return build(route=[ROUTE | {"frames": frames}], **changed)

    return make


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[House], int]:
    monkeypatch.setattr(infer, "Reader", Reader)
    Reader.seen = []

    def make(house: House) -> int:
        worker = Worker(
            house.store,
            house.spool,
            settings=house.settings,
            registry=Known(),  # type: ignore[arg-type]
            bell=house.bell,
            name="w",
            device="cpu",
            clock=lambda: house.now,
        )
        return worker.run_batch()

    return make


def jobs_of(house: House) -> list[Job]:
    return jobs.of_study(house.store, house.only_study().id)


def reports(house: House, job: Job) -> list[Path]:
    found = jobs.results(house.store, job.study_id)
    return [r.path for r in found if r.kind == "sr" and r.job_id == job.id]


def test_each_series_gets_a_job_with_its_chosen_images(node: Any, tmp_path: Path) -> None:
    house, study = node("every:3"), generate_uid()
    house.receive(*series(tmp_path / "a", 7, study=study), *series(tmp_path / "b", 4, study=study, number=2))
    run(house)
    made = jobs_of(house)
    assert [len(jobs.members(house.store, job.id)) for job in made] == [3, 2]
    assert {job.series_instance_uid for job in made} == {
        i.series_instance_uid for i in instances.of_study(house.store, 1)
    }
    assert [job.choice and job.choice.name for job in made] == ["series 1", "series 2"]
    (reason,) = studies.route_reasons(house.store, house.only_study())
    assert reason.reason == (
        "11 of 11 images match; "
        "series 1: Read 3 of 7 images of this series: instance numbers 1, 4, 7, in the order of their positions.; "
        "series 2: Read 2 of 4 images of this series: instance numbers 1, 4, in the order of their positions."
    )


def test_a_study_of_localisers_only_is_unrouted_with_its_reason(node: Any, tmp_path: Path) -> None:
    house = node()
    scout = series(tmp_path, 2, study=generate_uid(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    house.receive(*scout)
    study = run(house)
    assert study.state is StudyState.UNROUTED
    assert study.reason.endswith("2 left out: a localiser")


def test_each_series_gets_a_report_that_says_what_was_read(node: Any, work: Any, tmp_path: Path) -> None:
    house, study = node("every:3"), generate_uid()
    house.receive(*series(tmp_path / "a", 7, study=study), *series(tmp_path / "b", 4, study=study, number=2))
    run(house)
    assert work(house) == 2
    first, second = jobs_of(house)
    assert (first.state, second.state) == (JobState.DONE, JobState.DONE)
    ((one,), (two,)) = reports(house, first), reports(house, second)
    text = as_text(dcmread(one))
    assert "Read 3 of 7 images of this series: instance numbers 1, 4, 7, in the order of their positions." in text
    assert "Series: Succeeded" in text and "3 of 3 images were analysed." in text
    assert "series: Cardiomegaly" in text and "Study" not in text
    assert "Read 2 of 4 images" in as_text(dcmread(two))
    a, b = dcmread(one), dcmread(two)
    assert a.SeriesInstanceUID != b.SeriesInstanceUID and a.StudyInstanceUID == b.StudyInstanceUID
    assert (a.SeriesDescription, b.SeriesDescription) == (
        "AI report, cardiomegaly, series 1 - RESEARCH USE ONLY",
        "AI report, cardiomegaly, series 2 - RESEARCH USE ONLY",
    )
    referenced = {
        str(item.ReferencedSOPInstanceUID)
        for evidence in a.CurrentRequestedProcedureEvidenceSequence
        for of in evidence.ReferencedSeriesSequence
        if of.SeriesInstanceUID == first.series_instance_uid
        for item in of.ReferencedSOPSequence
    }
    assert referenced == {i.sop_instance_uid for i in jobs.members(house.store, first.id)}
    assert {d.peer for d in deliveries.of_study(house.store, first.study_id)} == {"pacs"}


def test_a_late_slice_makes_a_revision_of_its_series_only(node: Any, work: Any, tmp_path: Path) -> None:
    house, study = node("middle"), generate_uid()
    a, b = series(tmp_path / "a", 4, study=study), series(tmp_path / "b", 3, study=study, number=2)
    house.receive(*a[:3], *b)
    run(house)
    work(house)
    before = jobs_of(house)
    house.receive(a[3])
    run(house)
    work(house)
    after = jobs_of(house)
    assert [(job.revision, job.choice.name) for job in after] == [(1, "series 1"), (1, "series 2"), (2, "series 1")]
    (old,), (new,) = reports(house, before[0]), reports(house, after[2])
    predecessor = dcmread(new).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [p.ReferencedSOPInstanceUID for p in predecessor] == [dcmread(old).SOPInstanceUID]
    assert dcmread(new).SeriesInstanceUID == dcmread(old).SeriesInstanceUID
    (reason,) = studies.route_reasons(house.store, house.only_study())
    assert reason.reason.endswith("series 2 unchanged since revision 1, no new job")


def test_a_late_slice_that_is_not_read_still_changes_what_is_said(node: Any, work: Any, tmp_path: Path) -> None:
    house = node("every:2")
    paths = series(tmp_path, 4, study=generate_uid())
    house.receive(*paths[:3])
    run(house)
    work(house)
    house.receive(paths[3])
    run(house)
    first, second = jobs_of(house)
    assert first.choice and second.choice and first.choice.frames == second.choice.frames
    assert "2 of 3 images" in first.choice.sentence and "2 of 4 images" in second.choice.sentence
    work(house)
    uids = [dcmread(path).SOPInstanceUID for job in (first, second) for path in reports(house, job)]
    assert len(set(uids)) == 2


def test_a_late_localiser_changes_nothing(node: Any, work: Any, tmp_path: Path) -> None:
    house, study = node("middle"), generate_uid()
    house.receive(*series(tmp_path / "a", 3, study=study))
    run(house)
    work(house)
    house.receive(*series(tmp_path / "b", 1, study=study, number=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert run(house).revision == 2
    assert len(jobs_of(house)) == 1


def test_a_queued_job_of_a_series_is_superseded_and_the_other_series_is_not(node: Any, tmp_path: Path) -> None:
    house, study = node("middle"), generate_uid()
    a, b = series(tmp_path / "a", 2, study=study), series(tmp_path / "b", 2, study=study, number=2)
    house.receive(a[0], *b)
    run(house)
    house.receive(a[1])
    run(house)
    states = [(job.choice.name if job.choice else "", job.revision, job.state) for job in jobs_of(house)]
    assert states == [
        ("series 1", 1, JobState.DEAD),
        ("series 2", 1, JobState.QUEUED),
        ("series 1", 2, JobState.QUEUED),
    ]


def test_a_revision_waits_for_the_one_before_it_of_its_own_series_only(node: Any, tmp_path: Path) -> None:
    house, study = node("middle"), generate_uid()
    a, b = series(tmp_path / "a", 2, study=study), series(tmp_path / "b", 2, study=study, number=2)
    house.receive(a[0], b[0])
    run(house)
    (leased,) = queue.claim(house.store, "w", 1, now=house.now, lease=60)
    assert leased.job.choice and leased.job.choice.name == "series 1"
    house.receive(a[1], b[1])
    run(house)
    claimed = queue.claim(house.store, "v", 8, now=house.now, lease=60)
    assert [(w.job.choice.name, w.job.revision) for w in claimed if w.job.choice] == [("series 2", 2)]


def test_a_route_that_begins_to_go_by_series_supersedes_what_waits_for_the_study(build: Any, tmp_path: Path) -> None:
    house = build(route=[ROUTE])
    house.receive(*series(tmp_path, 3, study=generate_uid()))
    study = run(house)
    house.settings = Settings(**(SETTINGS | {"route": [ROUTE | {"frames": "middle"}]}))
    assert routing.again(house.store, study, now=house.now)
    run(house)
    assert [(job.series_instance_uid != "", job.state) for job in jobs_of(house)] == [
        (False, JobState.DEAD),
        (True, JobState.QUEUED),
    ]


def test_only_the_chosen_frames_of_an_enhanced_object_are_read(node: Any, work: Any, tmp_path: Path) -> None:
    house = node("every:4")
    house.receive(enhanced(tmp_path / "e.dcm", 9, study=generate_uid()))
    run(house)
    work(house)
    (job,) = jobs_of(house)
    # What the functional groups say is applied: the window runs over all frames, so that each has its own grey
    assert Reader.seen == [[pytest.approx(v, abs=0.001) for v in (0.028, 0.472, 0.917)]]
    rows = jobs.findings(house.store, job.id)
    assert [(row.frame, row.score) for row in rows] == [(1, 0.028), (5, 0.472), (9, 0.917)]
    (path,) = reports(house, job)
    ds = dcmread(path)
    numbers = {int(e.value) for e in ds.iterall() if e.keyword == "ReferencedFrameNumber" and not e.VM > 1}
    assert numbers == {1, 5, 9}
    text = as_text(ds)
    assert "Read frames 1, 5, 9 of 9 of this series, in the order of their positions." in text
    assert "that of frame 9 of image" in text


def test_a_series_gets_one_picture_of_each_finding_and_not_one_of_each_slice(
    node: Any, work: Any, tmp_path: Path
) -> None:
    house = node("every:1")
    house.receive(enhanced(tmp_path / "e.dcm", 9, study=generate_uid()))
    run(house)
    work(house)
    found = jobs.results(house.store, house.only_study().id)
    assert [r.kind for r in found] == ["sc", "sr"]
    (picture,) = [dcmread(r.path) for r in found if r.kind == "sc"]
    assert picture.SourceImageSequence[0].ReferencedFrameNumber == 9
    assert picture.pixel_array.std() > 0


def test_pixels_are_held_within_the_budget(
    node: Any, work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = node("every:1", infer={"pixel_budget_mb": 1, "batch": 256})
    big = np.zeros((300, 300), np.uint16)  # 0.34 MB as the model takes it
    big[0, 0] = 9
    house.receive(*series(tmp_path, 9, study=generate_uid(), pixels=lambda _: big))
    run(house)
    work(house)
    assert [len(chunk) for chunk in Reader.seen] == [3, 3, 3]


def test_a_frame_that_does_not_decode_costs_only_itself(
    node: Any, work: Any, tmp_path: Path, pydicom_file: Callable[[str], Path]
) -> None:
    ds = dcmread(pydicom_file("emri_small_jpeg_ls_lossless.dcm"))
    frames = list(generate_frames(ds.PixelData, number_of_frames=10))
    frames[5] = frames[5][: len(frames[5]) // 2]
    ds.PixelData = encapsulate(frames)
    ds.save_as(tmp_path / "broken.dcm")
    house = node("every:5")
    house.receive(tmp_path / "broken.dcm")
    run(house)
    work(house)
    (job,) = jobs_of(house)
    assert job.state is JobState.DONE
    assert [(r.frame, r.status) for r in jobs.findings(house.store, job.id)] == [(1, "analysed"), (6, "failed")]
    assert "1 of 2 images not analysed: The compressed image is broken off" in job.reason


def test_an_object_that_cannot_be_read_fails_each_of_its_frames(node: Any, work: Any, tmp_path: Path) -> None:
    path = enhanced(tmp_path / "e.dcm", 9, study=generate_uid())
    path.write_bytes(path.read_bytes()[:-100])
    house = node("every:4")
    house.receive(path)
    run(house)
    work(house)
    (job,) = jobs_of(house)
    assert job.state is JobState.REFUSED
    assert [(r.frame, r.status) for r in jobs.findings(house.store, job.id)] == [(n, "failed") for n in (1, 5, 9)]
    assert job.reason.startswith("The pixel data ends early")


def test_a_file_that_vanished_is_named_and_the_others_are_read(node: Any, work: Any, tmp_path: Path) -> None:
    house = node("every:2")
    house.receive(*series(tmp_path, 5, study=generate_uid()))
    run(house)
    (job,) = jobs_of(house)
    jobs.members(house.store, job.id)[1].path.unlink()
    work(house)
    (job,) = jobs_of(house)
    assert (job.state, "1 of 3 images not analysed" in job.reason) == (JobState.DONE, True)


def test_a_late_slice_after_the_others_were_purged_says_what_is_gone(node: Any, work: Any, tmp_path: Path) -> None:
    house = node("every:2")
    paths = series(tmp_path, 5, study=generate_uid())
    house.receive(*paths[:4])
    run(house)
    work(house)
    with house.store.write() as connection:
        connection.execute(update(schema.instance).values(gone=Gone.PURGED))
    house.receive(paths[4])
    run(house)
    work(house)
    (path,) = reports(house, jobs_of(house)[-1])
    text = as_text(dcmread(path))
    assert "Read 1 of 1 images of this series: instance number 5. 4 more of the series are not on the node" in text
    gone = [str(dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in (paths[0], paths[2])]
    # they came at the same moment, and are named in the order of their UIDs
    assert f"Instances that were not available any more: {', '.join(sorted(gone))}." in text
    assert "Series: Partially Succeeded" in text


def test_a_repeated_job_writes_the_same_bytes(node: Any, work: Any, tmp_path: Path) -> None:
    house = node()
    house.receive(*series(tmp_path, 5, study=generate_uid()))
    run(house)
    kept = []
    for _ in range(2):
        work(house)
        found = jobs.results(house.store, house.only_study().id)
        kept.append({r.sop_instance_uid: r.path.read_bytes() for r in found})
        for result in found:
            result.path.unlink()
        with house.store.write() as connection:
            connection.execute(delete(schema.delivery))
            connection.execute(delete(schema.result))
            connection.execute(update(schema.job).values(state=JobState.QUEUED))
    assert kept[0] == kept[1] and len(kept[0]) == 2


def test_route_explain_tells_what_is_read(node: Any, tmp_path: Path) -> None:
    house, study = node("middle"), generate_uid()
    house.receive(
        *series(tmp_path / "a", 3, study=study),
        *series(tmp_path / "b", 1, study=study, number=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )
    run(house)
    answers = [reason for _, _, reason in explain(house.store, house.only_study(), house.settings.route)]
    assert answers.count("") == 1 and "a localiser" in answers
    assert answers.count("matches, but other images of its series are read") == 2
