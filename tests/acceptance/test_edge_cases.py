"""Odd instances go through a whole node: what is acknowledged, what is refused, and what is said of it in the results.

The models are stubs that take everything, so that nothing but the rule in question decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from house import make_image
from odd_made import EXTREMES, SAME, odd, padded
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid
from running import RunningNode

from node.domain import InstanceState, Job, JobState, StudyState
from node.network.sender import Sender
from node.network.standin import StandIn
from node.network.statuses import Outcome
from node.results.text import as_text
from node.storage import instances, jobs

pytestmark = pytest.mark.slow
Change = Callable[[Dataset], None]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    made = StandIn(tmp_path_factory.mktemp("pacs"), ae_title="PACS")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(pacs: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    made = RunningNode(tmp_path_factory.mktemp("node"), ("PACS", pacs.port), stub=True)
    made.start()
    yield made
    made.stop()


def send(node: RunningNode, *paths: Path) -> list[Outcome]:
    """The files' very bytes; the command says what the file meta information says."""
    sender = Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=30
    )
    outcomes = [outcome for _, outcome in sender.send(paths)]
    sender.close()
    return outcomes


def study_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def ended(node: RunningNode, path: Path) -> tuple[Job, str]:
    """The one job of a file's study, and the words of its report."""
    assert [outcome.kind for outcome in send(node, path)] == ["stored"]
    (job,) = jobs.of_study(node.parts.store, node.finish(study_of(path)).id)
    (report,) = [r for r in jobs.results(node.parts.store, job.study_id) if r.kind == "sr"]
    return job, as_text(dcmread(report.path))


ANALYSED = SAME | EXTREMES | {"padding": padded}


@pytest.mark.parametrize("change", ANALYSED.values(), ids=ANALYSED.keys())
def test_what_is_odd_and_still_an_image_is_analysed(node: RunningNode, tmp_path: Path, change: Change) -> None:
    path = odd(make_image(tmp_path / "odd.dcm"), change)
    job, text = ended(node, path)
    assert (job.state, job.reason) == (JobState.DONE, "")
    assert "Succeeded" in text
    result = jobs.results(node.parts.store, job.study_id)[0]
    source, made = dcmread(path), dcmread(result.path)
    assert made.PatientID == source.get("PatientID", "") and str(made.PatientName) == str(source.get("PatientName", ""))
    assert not any(element.tag.is_private for element in made.iterall())


RGB = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB", "HighBit": 7}
RGB |= {"BitsAllocated": 8, "BitsStored": 8}
COLOURS = bytes(range(256)) * 36
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "Modality and SOP class disagree": ({"SOPClassUID": CTImageStorage}, "The SOP class is"),
    "a lateral film": ({"ViewPosition": "LL"}, "The view is LL, which the model does not read"),
    "another body part": ({"BodyPartExamined": "HAND"}, "The body part is HAND"),
    "a child": ({"PatientAge": "004Y"}, "The patient is younger than 18 years"),
    "for processing": ({"PresentationIntentType": "FOR PROCESSING"}, "The presentation intent is FOR PROCESSING"),
    "no pixel data": ({"PixelData": None}, "The object holds no pixel data"),
    "several frames": ({"NumberOfFrames": 2, "PixelData": bytes(2 * 64 * 48 * 2)}, "The object holds 2 frames"),
    "colour": (RGB | {"PixelData": COLOURS}, "The image is in colour"),
    "a palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "stored as PALETTE COLOR"),
    "YBR_FULL_422": (
        RGB | {"PhotometricInterpretation": "YBR_FULL_422", "PixelData": COLOURS[: 64 * 48 * 2]},
        "The image is in colour",
    ),
    "pixels of 1 bit": ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "Pixels of 1 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_analysed_is_kept_and_answered_with_the_reason(
    node: RunningNode, tmp_path: Path, name: str
) -> None:
    changed, said = REFUSED[name]
    job, text = ended(node, make_image(tmp_path / "odd.dcm", **changed))
    assert job.state is JobState.REFUSED
    assert said in job.reason
    assert said in text
    assert "Present" not in text and "Absent" not in text


def test_pixels_that_end_early_are_never_filled_up(node: RunningNode, tmp_path: Path) -> None:
    path = make_image(tmp_path / "odd.dcm")
    path.write_bytes(path.read_bytes()[:-1000])
    job, _ = ended(node, path)
    assert (job.state, "The pixel data ends early" in job.reason) == (JobState.REFUSED, True)


def test_a_jpeg_of_12_bits_that_no_decoder_takes_is_said_so(
    node: RunningNode, tmp_path: Path, pydicom_file: Callable[[str], Path]
) -> None:
    ds = dcmread(pydicom_file("JPEG-lossy.dcm"))
    twin = dcmread(make_image(tmp_path / "header.dcm"))
    for keyword in ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality"):
        setattr(ds, keyword, twin[keyword].value)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.save_as(tmp_path / "jpeg.dcm")
    job, text = ended(node, tmp_path / "jpeg.dcm")
    assert (job.state, "cannot be decoded" in text) == (JobState.REFUSED, True)


@pytest.mark.parametrize("value", [0, 1000, 65535])
def test_a_constant_image_is_read_without_an_error(node: RunningNode, tmp_path: Path, value: int) -> None:
    job, _ = ended(node, make_image(tmp_path / "odd.dcm", pixels=np.full((64, 48), value, np.uint16)))
    assert job.state is JobState.DONE  # with the real gate it is refused: tests/models/test_gate.py


MISSING = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]


@pytest.mark.parametrize("keyword", MISSING)
def test_an_instance_that_does_not_identify_itself_is_refused(node: RunningNode, tmp_path: Path, keyword: str) -> None:
    (outcome,) = send(node, make_image(tmp_path / "odd.dcm", **{keyword: None}))
    assert outcome.status == 0xA900
    assert f"{keyword}" in outcome.error


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_a_data_set_that_says_something_else_than_its_command_is_refused(
    node: RunningNode, tmp_path: Path, keyword: str
) -> None:
    path = make_image(tmp_path / "odd.dcm")
    ds = dcmread(path)
    said = {"SOPInstanceUID": generate_uid(), "SOPClassUID": CTImageStorage}[keyword]
    setattr(ds.file_meta, f"MediaStorage{keyword}", said)
    ds.save_as(path)
    (outcome,) = send(node, path)
    assert outcome.status == 0xA900
    assert f"{keyword} of data set and command differ" in outcome.error


def test_a_header_that_ends_early_is_refused_and_nothing_is_kept(node: RunningNode, tmp_path: Path) -> None:
    path = make_image(tmp_path / "odd.dcm")
    uid = study_of(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"Doe^Jane") + 4])
    (outcome,) = send(node, path)
    assert outcome.status in (0xA900, 0xC000)
    assert node.study(uid) is None


HOSTILE = [
    "<script>alert(1)</script>",
    "../../../../etc/passwd",
    r"..\..\windows",
    "{{7*7}}${7*7}%(asctime)s",
    "a'; DROP TABLE study; --",
    "[bold red]x[/]",
    "\u202egpj.exe",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_strings_stay_strings(node: RunningNode, tmp_path: Path, value: str) -> None:
    changed = {"SpecificCharacterSet": "ISO_IR 192", "StudyDescription": value, "SeriesDescription": value}
    path = odd(make_image(tmp_path / "odd.dcm"), lambda ds: None)
    ds = dcmread(path)
    for keyword, text in (changed | {"PatientName": value, "AccessionNumber": "X1"}).items():
        setattr(ds, keyword, text.replace("\\", "/") if keyword != "PatientName" else text)
    ds.save_as(path, enforce_file_format=True)
    job, text = ended(node, path)
    assert job.state is JobState.DONE
    for result in jobs.results(node.parts.store, job.study_id):
        assert str(dcmread(result.path).PatientName) == str(value).replace("\\", " ")
    assert value not in text and value not in node.log
    (kept,) = instances.of_study(node.parts.store, job.study_id)
    assert kept.path.is_relative_to(node.parts.spool.root) and ".." not in kept.path.parts


def test_another_patient_under_the_same_study_uid_is_held(node: RunningNode, tmp_path: Path) -> None:
    uid = generate_uid()
    path = make_image(tmp_path / "a.dcm", StudyInstanceUID=uid)
    ended(node, path)
    assert [o.kind for o in send(node, make_image(tmp_path / "b.dcm", StudyInstanceUID=uid, PatientID="P2"))] == [
        "stored"
    ]
    study = node.wait_for(lambda: (s := node.study(uid)) and s.state is StudyState.HELD and s)
    assert "PatientID" in study.reason


def test_our_own_results_coming_back_change_nothing(node: RunningNode, pacs: StandIn, tmp_path: Path) -> None:
    path = make_image(tmp_path / "a.dcm")
    job, _ = ended(node, path)
    ours = [p for p in pacs.received() if study_of(p) == study_of(path)]
    assert len(ours) == 2
    assert [o.kind for o in send(node, *ours)] == ["stored"] * 2
    study = node.finish(study_of(path))
    found = instances.of_study(node.parts.store, study.id)
    assert [i.state for i in found] == [InstanceState.CURRENT, InstanceState.RECEIPT, InstanceState.RECEIPT]
    assert (study.revision, [j.id for j in jobs.of_study(node.parts.store, study.id)]) == (1, [job.id])


def test_all_that_was_acknowledged_is_there(node: RunningNode) -> None:
    assert node.problems() == []
