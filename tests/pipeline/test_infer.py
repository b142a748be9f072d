from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models_made
import numpy as np
import pytest
from house import House
from pydicom import dcmread
from pydicom.uid import generate_uid
from test_route import run

from models.bundle import BundleError
from models.findings import Reading
from models.pixels import Frame, NotAnalysable
from node.domain import JobState
from node.errors import ResultError
from node.pipeline import infer, pixels
from node.pipeline.infer import HUNG, Worker
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import instances, jobs, queue

Make = Callable[..., Path]


class StubReader:
    """Says of every frame that the heart is large; remembers the batches that it was given."""

    device = "stub"
    batches: list[int]

    def __init__(self, _registry: Any, bundle: Any, **_: Any) -> None:
        self.bundle = bundle
        StubReader.batches = []

    def verify(self) -> None:
        """Always as it was."""

    def read(self, items: Sequence[Frame | NotAnalysable]) -> list[Reading]:
        StubReader.batches.append(len(items))
        return [
            Reading("failed", i.code, i.reason) if isinstance(i, NotAnalysable) else models_made.reading(0.83)
            for i in items
        ]


class Known:
    """One bundle, or none."""

    def __init__(self, *, there: bool = True) -> None:
        self._there = there

    def find(self, ref: str) -> Any:
        if not self._there:
            raise BundleError(f"no bundle {ref}")
        return models_made.bundle()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    monkeypatch.setattr(infer, "Reader", StubReader)

    def make(house: House, *, there: bool = True) -> Worker:
        return Worker(
            house.store,
            house.spool,
            settings=house.settings,
            registry=Known(there=there),  # type: ignore[arg-type]
            bell=house.bell,
            name="w",
            device="cpu",
            clock=lambda: house.now,
        )

    return make


def test_a_job_ends_with_findings_and_results(house: House, image: Make, worker: Any) -> None:
    house.receive(image())
    study = run(house)
    assert worker(house).run_batch() == 1
    (job,) = jobs.of_study(house.store, study.id)
    assert job.state is JobState.DONE
    assert [f.label for f in jobs.findings(house.store, job.id)] == ["Cardiomegaly"]
    assert [r.kind for r in jobs.results(house.store, study.id)] == ["sc", "sr"]
    assert worker(house).run_batch() == 0


def test_images_of_several_jobs_are_read_in_one_batch(house: House, image: Make, worker: Any) -> None:
    uids = [generate_uid() for _ in range(3)]
    for uid in uids:
        house.receive(image(StudyInstanceUID=uid))
    house.now += 5
    for study in settle_due(house.store, house.settings, house.now).studies:
        plans = [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route]
        route_study(house.store, study, plans, house.now)
    assert worker(house).run_batch() == 3
    assert StubReader.batches == [3]


def test_an_altered_file_is_not_analysed(house: House, image: Make, worker: Any) -> None:
    house.receive(image())
    study = run(house)
    (instance,) = instances.of_study(house.store, study.id)
    data = bytearray(instance.path.read_bytes())
    data[-1] ^= 1
    instance.path.write_bytes(data)
    for _ in range(3):
        worker(house).run_batch()
        house.now += 1000
    (job,) = jobs.of_study(house.store, study.id)
    assert job.state is JobState.DEAD
    assert "no file of this job is left as it was received" in job.reason
    assert jobs.results(house.store, study.id) == []


def test_what_an_altered_file_says_of_its_patient_is_not_believed(house: House, image: Make, worker: Any) -> None:
    uid = generate_uid()
    house.receive(*[image(StudyInstanceUID=uid, SOPInstanceUID=f"1.2.{n}") for n in (1, 2)])
    study = run(house)
    first, _ = instances.of_study(house.store, study.id)
    first.path.write_bytes(first.path.read_bytes().replace(b"P1", b"P7"))
    worker(house).run_batch()
    (job,) = jobs.of_study(house.store, study.id)
    assert job.state is JobState.DONE
    for result in jobs.results(house.store, study.id):
        assert dcmread(result.path).PatientID == "P1"
    assert [f.status for f in jobs.findings(house.store, job.id)] == ["failed", "analysed"]


def test_a_file_that_vanished_does_not_cost_the_others_their_report(house: House, image: Make, worker: Any) -> None:
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    study = run(house)
    instances.of_study(house.store, study.id)[0].path.unlink()
    worker(house).run_batch()
    (job,) = jobs.of_study(house.store, study.id)
    assert job.state is JobState.DONE
    assert "1 of 2 images not analysed" in job.reason


def three_jobs(house: House, image: Make, **second: Any) -> None:
    for more in ({}, second, {}):
        house.receive(image(**more))
    house.now += 5
    for study in settle_due(house.store, house.settings, house.now).studies:
        plans = [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route]
        route_study(house.store, study, plans, house.now)


def test_a_file_that_breaks_a_codec_is_reported_as_such(
    house: House, image: Make, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_jobs(house, image)
    poison = instances.of_study(house.store, 2)[0].path
    real = pixels.read

    def read(path: Path, **more: Any) -> Frame:
        if path == poison:
            raise MemoryError("a codec said: Doe^Jane")
        return real(path, **more)

    monkeypatch.setattr(pixels, "read", read)
    worker(house).run_batch()
    found = [jobs.of_study(house.store, n)[0] for n in (1, 2, 3)]
    assert [j.state for j in found] == [JobState.DONE, JobState.REFUSED, JobState.DONE]
    assert "cannot be decoded (MemoryError)" in found[1].reason
    assert "Doe" not in found[1].reason


def test_an_image_that_breaks_the_network_takes_no_other_job_with_it(
    house: House, image: Make, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_jobs(house, image, pixels=np.arange(100, dtype=np.uint16).reshape(10, 10))
    real = StubReader.read

    def read(self: StubReader, items: Sequence[Frame | NotAnalysable]) -> list[Reading]:
        if any(isinstance(i, Frame) and i.pixels.shape == (10, 10) for i in items):
            raise RuntimeError("out of memory, it said")
        return real(self, items)

    monkeypatch.setattr(StubReader, "read", read)
    for _ in range(3):
        worker(house).run_batch()
        house.now += 1000
    found = [jobs.of_study(house.store, n)[0] for n in (1, 2, 3)]
    assert [j.state for j in found] == [JobState.DONE, JobState.DEAD, JobState.DONE]
    assert "RuntimeError at" in found[1].reason


def test_what_is_kept_of_a_large_film_is_small() -> None:
    from models.pixels import Header

    large = Frame(np.ones((3000, 1000), np.float32), Header())
    assert pixels.shrunk(large).pixels.shape == (2048, 683)  # type: ignore[union-attr]
    small = Frame(np.ones((30, 10), np.float32), Header())
    assert pixels.shrunk(small) is small


def test_a_truncated_file_is_not_analysed(house: House, image: Make, worker: Any, tmp_path: Path) -> None:
    path = image()
    path.write_bytes(path.read_bytes()[:-500])
    house.receive(path)
    study = run(house)
    worker(house).run_batch()
    (job,) = jobs.of_study(house.store, study.id)
    assert job.state is JobState.REFUSED
    assert [r.kind for r in jobs.results(house.store, study.id)] == ["sc", "sr"]


def test_a_missing_bundle_is_tried_again_and_then_dead(house: House, image: Make, worker: Any) -> None:
    house.receive(image())
    study = run(house)
    for _ in range(3):
        worker(house, there=False).run_batch()
        house.now += 1000
    (job,) = jobs.of_study(house.store, study.id)
    assert (job.state, "no bundle" in job.reason) == (JobState.DEAD, True)


def test_who_comes_too_late_takes_no_result_away_that_was_reported(
    house: House, image: Make, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.receive(image())
    study = run(house)
    late = worker(house)
    (work,) = queue.claim(house.store, "late", 8, now=4e9, lease=-4e9)
    assert worker(house).run_batch() == 1
    reported = jobs.results(house.store, study.id)
    before = [result.path.read_bytes() for result in reported]
    route, bundle = house.settings.route[0], models_made.bundle()
    images = late.see(late.reader(bundle, route), [work])[0]
    monkeypatch.setattr("node.pipeline.report.check.problems", lambda *_, **__: ["it says something else here"])
    with pytest.raises(ResultError, match="is another worker's"):
        late.built(work, images, route, bundle)
    assert [result.path.read_bytes() for result in reported] == before


def test_who_comes_too_late_takes_nothing_away_that_another_one_is_about_to_report(
    house: House, image: Make, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.receive(image())
    run(house)
    late, prompt = worker(house), worker(house)
    route, bundle = house.settings.route[0], models_made.bundle()
    (work,) = queue.claim(house.store, "late", 8, now=house.now, lease=-1)
    (taken,) = queue.claim(house.store, "prompt", 8, now=house.now, lease=60)
    images = prompt.see(prompt.reader(bundle, route), [taken])[0]
    written = prompt.built(taken, images, route, bundle).results
    before = [result.path.read_bytes() for result in written]
    monkeypatch.setattr("node.pipeline.report.check.problems", lambda *_, **__: ["it says something else here"])
    with pytest.raises(ResultError, match="is another worker's"):
        late.built(work, images, route, bundle)
    assert [result.path.read_bytes() for result in written] == before
    assert prompt.built(taken, images, route, bundle).results[0].quarantine == "it says something else here"


def test_results_that_cannot_be_written_are_tried_again(
    house: House, image: Make, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    house.receive(image())
    study = run(house)
    monkeypatch.setattr(house.spool, "write", full)
    worker(house).run_batch()
    (job,) = jobs.of_study(house.store, study.id)
    assert (job.state, "No space left" in job.reason) == (JobState.QUEUED, True)
    monkeypatch.undo()
    monkeypatch.setattr(infer, "Reader", StubReader)
    house.now += 1000
    worker(house).run_batch()
    assert jobs.of_study(house.store, study.id)[0].state is JobState.DONE


def test_a_hung_model_ends_its_process() -> None:
    code = "import time\nfrom node.pipeline.infer import deadline\nwith deadline(0.1):\n    time.sleep(30)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=20, check=False)
    assert done.returncode == HUNG


def test_a_route_that_left_the_settings_does_not_stop_the_worker(house: House, image: Make, worker: Any) -> None:
    house.receive(image())
    study = run(house)
    house.settings = house.settings.model_copy(update={"route": []})
    worker(house).run_batch()
    (job,) = jobs.of_study(house.store, study.id)
    assert "not in the settings any more" in job.reason
