from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import highdicom
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import MultiFrameGrayscaleByteSecondaryCaptureImageStorage

from node.errors import ResultError
from node.results import kos, sc
from node.results.header import RESEARCH_ONLY, our_texts

Judge = Callable[[Dataset], list[str]]


def two_of_three(make: Any) -> Any:
    """Three images: the first and the last are flagged."""
    return make.subject(
        make.image(make.analysed(make.finding("Mass", 0.9), make.finding("Effusion", 0.7)), 1),
        make.image(make.refused(), 2),
        make.image(make.analysed(make.finding("Mass", 0.6)), 3),
    )


def selection_of(subject: Any) -> Dataset:
    images = [image for image in subject.images if image.reading.findings]
    visuals = [sc.overlay(subject, image, ordinal=n) for n, image in enumerate(images, start=1)]
    return kos.build(subject, images, visuals=visuals)


def description(ds: Dataset) -> str:
    (item,) = [i for i in ds.ContentSequence if i.ValueType == "TEXT" and "Description" in i.name.meaning]
    return str(item.TextValue)


def test_flagged_images_and_their_pictures_are_of_interest(make: Any, errors_of: Judge) -> None:
    subject = two_of_three(make)
    built = selection_of(subject)
    assert errors_of(built) == []
    (title,) = built.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113000", "DCM"), "never a rejection note"
    marked = [i.ReferencedSOPSequence[0] for i in built.ContentSequence if i.ValueType == "IMAGE"]
    flagged = [subject.images[0].source, subject.images[2].source]
    assert [m.ReferencedSOPInstanceUID for m in marked[:2]] == [s.SOPInstanceUID for s in flagged]
    assert [m.ReferencedSOPClassUID for m in marked[2:]] == [sc.OVERLAY.sop_class_uid] * 2
    (study,) = built.CurrentRequestedProcedureEvidenceSequence
    listed = {r.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence for r in s.ReferencedSOPSequence}
    assert listed == {m.ReferencedSOPInstanceUID for m in marked}
    assert (built.Modality, built.SeriesNumber) == ("KO", 9004)
    assert built.ReferencedRequestSequence[0].RequestedProcedureID == "RP1"


def test_the_description_says_why(make: Any) -> None:
    said = description(selection_of(two_of_three(make))).split("\r\n")
    assert said == [
        f"Flagged by chest-findings 1.0.0. {RESEARCH_ONLY}. Not verified by a physician.",
        "Image 1 of 3. Lung mass 90.0 %, Pleural effusion 70.0 %.",
        "Image 3 of 3. Lung mass 60.0 %.",
    ]
    one = make.flagged(audit_note="This model was not audited")
    assert description(selection_of(one)).split("\r\n")[1:] == [
        "This model was not audited.",
        "Pneumothorax 83.2 %.",
    ]


def test_highdicom_reads_it(make: Any, as_bytes: Any) -> None:
    subject = two_of_three(make)
    read = highdicom.ko.KeyObjectSelectionDocument.from_dataset(dcmread(io.BytesIO(as_bytes(selection_of(subject)))))
    assert len(read.content.get_references()) == 4
    first = subject.images[0].source
    assert read.resolve_reference(first.SOPInstanceUID) == (
        first.StudyInstanceUID,
        first.SeriesInstanceUID,
        first.SOPInstanceUID,
    )


def test_frames_of_one_object_are_one_reference_with_their_numbers(make: Any, errors_of: Judge) -> None:
    multi = {"NumberOfFrames": 5, "SOPClassUID": MultiFrameGrayscaleByteSecondaryCaptureImageStorage}
    frames = [dataclasses.replace(make.frame(), number=n, frames_used="chosen") for n in (2, 4)]
    reading = make.analysed(make.finding("Mass", 0.9))
    subject = make.subject(*(make.image(reading, pixels=frame, **multi) for frame in frames))
    built = kos.build(subject, list(subject.images))
    (marked,) = [i.ReferencedSOPSequence[0] for i in built.ContentSequence if i.ValueType == "IMAGE"]
    assert list(marked.ReferencedFrameNumber) == [2, 4]
    assert errors_of(built) == []


@pytest.mark.parametrize("name", ["Doe^John", "Yamada^Tarou=山田^太郎=やまだ^たろう"])
def test_nothing_of_the_patient_is_in_its_texts(make: Any, errors_of: Judge, name: str) -> None:
    reading = make.analysed(make.finding("Mass", 0.9))
    built = selection_of(make.subject(make.image(reading, SpecificCharacterSet="ISO_IR 192", PatientName=name)))
    assert built.PatientName == name
    said = " ".join(value for _, value in our_texts(built))
    for secret in ("Doe", "John", "Yamada", "山田", "PID", "1970", "ACC12345"):
        assert secret not in said
    assert errors_of(built) == []


def test_the_same_job_gives_the_same_bytes_and_a_revision_others(make: Any, as_bytes: Any) -> None:
    subject = make.flagged()
    first = selection_of(subject)
    assert as_bytes(first) == as_bytes(selection_of(subject))
    revised = selection_of(dataclasses.replace(subject, revision=2))
    assert revised.SOPInstanceUID != first.SOPInstanceUID
    assert (revised.SeriesInstanceUID, revised.InstanceNumber) == (first.SeriesInstanceUID, 2)


def test_where_nothing_is_flagged_there_is_nothing_to_select(make: Any) -> None:
    with pytest.raises(ResultError, match="flagged image"):
        kos.build(make.subject(make.image(make.refused())), [])
