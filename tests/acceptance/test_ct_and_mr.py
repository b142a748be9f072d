"""CT and MR go through a route by series, with the bundle that ships for body parts, and come back as reports that say
which slices were read."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid
from running import RunningNode

from node.domain import Job, JobState
from node.network.orthanc import Orthanc
from node.network.sender import Sender
from node.network.standin import StandIn
from node.results.text import as_text
from node.storage import jobs, studies

pytestmark = pytest.mark.slow

ROUTE = """
[[route]]
name = "body-part"
when = {{ Modality = ["CT", "MR"] }}
bundle = "body-part"
frames = "every:5"
deliver_to = ["pacs"]
"""


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    made = StandIn(tmp_path_factory.mktemp("pacs"), ae_title="PACS")
    made.start()
    yield made
    made.stop()


def serving(folder: Path, pacs: tuple[str, int], **more: object) -> Iterator[RunningNode]:
    node = RunningNode(folder, pacs, route=ROUTE, **more)  # type: ignore[arg-type]
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def node(pacs: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    yield from serving(tmp_path_factory.mktemp("node"), ("PACS", pacs.port))


@pytest.fixture(scope="module")
def stubbed_node(pacs: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    yield from serving(tmp_path_factory.mktemp("stubbed"), ("PACS", pacs.port), stub=True)


def stacked(
    source: Path, folder: Path, count: int, *, study: str, number: int = 1, localiser: bool = False
) -> list[Path]:
    """A series of `count` copies of a real slice, one above the other."""
    folder.mkdir(parents=True, exist_ok=True)
    ds, uid, paths = dcmread(source), generate_uid(), []
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = study, uid, number
    ds.PatientID, ds.PatientName, ds.AccessionNumber = "STACK", "Stack^Of^Slices", ""
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER" if localiser else "AXIAL"]
    for i in range(count):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber, ds.ImagePositionPatient = i + 1, [0, 0, 5 * i]
        paths.append(folder / f"{number}-{i}.dcm")
        ds.save_as(paths[-1])
    return paths


def send(node: RunningNode, paths: Sequence[Path]) -> None:
    sender = Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=60
    )
    assert {outcome.kind for _, outcome in sender.send(paths)} == {"stored"}
    sender.close()


def ended(node: RunningNode, uid: str, *, seconds: float = 120) -> list[Job]:
    return jobs.of_study(node.parts.store, node.finish(uid, seconds=seconds).id)


def report(node: RunningNode, job: Job) -> Dataset:
    (found,) = [r for r in jobs.results(node.parts.store, job.study_id) if r.kind == "sr" and r.job_id == job.id]
    return dcmread(found.path)


@pytest.mark.model
def test_a_stack_of_a_head_is_called_a_head(
    node: RunningNode, pacs: StandIn, pydicom_file: Callable[[str], Path], tmp_path: Path
) -> None:
    uid = generate_uid()
    send(node, stacked(pydicom_file("693_UNCR.dcm"), tmp_path, 12, study=uid))
    (job,) = ended(node, uid)
    assert job.state is JobState.DONE
    text = as_text(report(node, job))
    assert "Read 3 of 12 images of this series: instance numbers 1, 6, 11, in the order of their positions." in text
    (line,) = [" ".join(line.split()) for line in text.splitlines() if "series: Head" in line]
    assert line.endswith("Present Head, present from 90.0 %")
    assert float(line.split()[2]) > 90
    kept = [dcmread(path) for path in pacs.received()]
    assert sorted(ds.Modality for ds in kept if ds.StudyInstanceUID == uid) == ["OT", "SR"]


READ = ["CT_small.dcm", "MR_small.dcm", "693_UNCR.dcm", "MR2_UNCR.dcm", "explicit_VR-UN.dcm", "693_J2KR.dcm"]
MULTI_FRAME = {
    "emri_small.dcm": "Read frames 1, 6 of 10 of this series",
    "emri_small_jpeg_ls_lossless.dcm": "Read frames 1, 6 of 10 of this series",
    "eCT_Supplemental.dcm": "Read frame 2 of 2 of this series",
}


def renamed(source: Path, folder: Path) -> Path:
    """A copy under UIDs of its own, as pydicom's files share studies, and not in big endian, which the node refuses."""
    read = dcmread(source)
    ds = Dataset()
    ds.update({element.tag: element for element in read})
    ds.file_meta = read.file_meta
    if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        ds.PixelData = read.pixel_array.astype("<u2").tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.save_as(folder / source.name, enforce_file_format=True)
    return folder / source.name


def told(node: RunningNode, path: Path, folder: Path) -> tuple[Job, str]:
    """What becomes of one real file: the job's end and the report's words."""
    copy = renamed(path, folder)
    send(node, [copy])
    (job,) = ended(node, str(dcmread(copy, stop_before_pixels=True).StudyInstanceUID))
    text = as_text(report(node, job))
    assert job.state in (JobState.DONE, JobState.REFUSED), job.reason
    if job.state is JobState.REFUSED:
        assert "Not analysed: The image is unlike those that body-part@1.0.0 knows" in text
        assert "Present" not in text and "Absent" not in text
    else:
        assert "Present" in text
    return job, text


@pytest.mark.model
@pytest.mark.parametrize("name", READ)
def test_a_real_slice_is_read_or_refused_with_its_reason(
    node: RunningNode, pydicom_file: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    job, text = told(node, pydicom_file(name), tmp_path)
    print(name, job.state, job.reason, text)
    assert "Read 1 of 1 images of this series: instance number" in text


@pytest.mark.model
@pytest.mark.parametrize("name", MULTI_FRAME)
def test_a_real_multi_frame_object_is_read_by_its_frames(
    node: RunningNode, pydicom_file: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    job, text = told(node, pydicom_file(name), tmp_path)
    print(name, job.state, job.reason, text)
    assert MULTI_FRAME[name] in text
    assert {row.frame for row in jobs.findings(node.parts.store, job.id)} == {
        frame for frames in (job.choice.frames.values() if job.choice else ()) for frame in frames
    }


@pytest.mark.model
@pytest.mark.data
@pytest.mark.parametrize("name", ["CT_Explicit_Little.dcm", "MR_Implicit_Little.dcm", "anon_apct.dcm", "MR2_J2KI.dcm"])
def test_other_real_slices_are_read_or_refused_with_their_reason(
    node: RunningNode, dicom_dir: Path, tmp_path: Path, name: str
) -> None:
    job, text = told(node, dicom_dir / name, tmp_path)
    print(name, job.state, job.reason, text)


@pytest.mark.model
@pytest.mark.orthanc
def test_twenty_images_in_five_series_come_back_as_five_reports(
    orthanc: Orthanc, tmp_path: Path, pydicom_file: Callable[[str], Path]
) -> None:
    uid = generate_uid()
    for number, count in enumerate((2, 6, 5, 3, 4), start=1):
        name = "MR_small.dcm" if number % 2 else "693_UNCR.dcm"
        for path in stacked(pydicom_file(name), tmp_path, count, study=uid, number=number, localiser=number == 1):
            orthanc.upload(path)
    for node in serving(tmp_path / "node", (orthanc.ae_title, orthanc.port), port=orthanc.node_port):
        orthanc.send_study(uid)
        made = ended(node, uid)
        assert [job.choice.name for job in made if job.choice] == [f"series {n}" for n in (2, 3, 4, 5)]
        (reason,) = studies.route_reasons(node.parts.store, studies.find(node.parts.store, uid))
        assert reason.reason.startswith("20 of 20 images match; series 2: Read 2 of 6 images")
        assert reason.reason.endswith("2 left out: a localiser")
        back = [dcmread(io.BytesIO(data)) for data in orthanc.instances(uid).values()]
        reports = [ds for ds in back if ds.Modality == "SR"]
        assert len(reports) == 4 and len({ds.SeriesInstanceUID for ds in reports}) == 4
        assert sorted(ds.SeriesDescription for ds in reports) == [
            f"AI report, body-part, series {n} - RESEARCH USE ONLY" for n in (2, 3, 4, 5)
        ]
        assert node.problems() == []


def test_a_thousand_images_make_one_report_about_two_hundred(
    stubbed_node: RunningNode, pydicom_file: Callable[[str], Path], tmp_path: Path
) -> None:
    uid = generate_uid()
    paths = stacked(pydicom_file("CT_small.dcm"), tmp_path, 1000, study=uid)
    started = time.monotonic()
    send(stubbed_node, paths)
    sent = time.monotonic()
    (job,) = ended(stubbed_node, uid)
    print(f"1000 images: sent in {sent - started:.1f} s, reported and delivered {time.monotonic() - sent:.1f} s later")
    assert job.state is JobState.DONE and job.choice is not None
    assert job.choice.sentence.startswith("Read 200 of 1000 images of this series: instance numbers 1, 6, 11,")
    rows = jobs.findings(stubbed_node.parts.store, job.id)
    assert len({row.instance_id for row in rows}) == 200
    found = [r.kind for r in jobs.results(stubbed_node.parts.store, job.study_id)]
    assert sorted(found) == ["sc", "sr"]
    assert stubbed_node.problems() == []
