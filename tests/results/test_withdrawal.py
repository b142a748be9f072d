from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import highdicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from node.errors import ResultError
from node.results import header, sr, uids, withdrawal
from node.results.withdrawal import Withdrawn

Judge = Callable[[Dataset], list[str]]
NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
REPORT = Withdrawn("2.25.1", Comprehensive3DSRStorage, "2.25.11", "a" * 64)
PICTURE = Withdrawn("2.25.2", SecondaryCaptureImageStorage, "2.25.12", "b" * 64)


def subject(make: Any, *objects: Withdrawn, when: datetime = NOW) -> Any:
    job = make.flagged()
    report = sr.build(job)
    return withdrawal.subject_of(
        report, objects, device=job.device, model=job.model, revision=2, route=job.route, when=when
    )


def items(ds: Dataset) -> list[tuple[str, str, str]]:
    """Value type, class and instance of what a document refers to."""
    return [
        (i.ValueType, r.ReferencedSOPClassUID, r.ReferencedSOPInstanceUID)
        for i in ds.ContentSequence
        for r in i.get("ReferencedSOPSequence", [])
    ]


def test_a_withdrawal_is_a_valid_key_object_selection(make: Any, errors_of: Judge) -> None:
    assert errors_of(withdrawal.build(subject(make, PICTURE, REPORT))) == []


def test_it_rejects_for_quality_reasons_and_names_our_objects_only(make: Any) -> None:
    ds = withdrawal.build(subject(make, PICTURE, REPORT))
    assert (ds.SOPClassUID, ds.Modality) == (KeyObjectSelectionDocumentStorage, "KO")
    (title,) = ds.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning) == (
        "113001",
        "DCM",
        "Rejected for Quality Reasons",
    )
    assert items(ds) == [
        ("IMAGE", SecondaryCaptureImageStorage, "2.25.12"),
        ("COMPOSITE", Comprehensive3DSRStorage, "2.25.11"),
    ]
    (study,) = ds.CurrentRequestedProcedureEvidenceSequence
    listed = {
        s.SeriesInstanceUID: s.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence
    }
    assert listed == {"2.25.2": "2.25.12", "2.25.1": "2.25.11"}


def test_it_belongs_to_the_patient_and_study_of_what_it_takes_back(make: Any) -> None:
    source = sr.build(make.flagged())
    ds = withdrawal.build(subject(make, REPORT))
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber", "StudyDate"):
        assert ds[keyword].value == source[keyword].value
    assert ds.SeriesInstanceUID not in (source.SeriesInstanceUID, REPORT.series_instance_uid)
    assert ds.DeviceUID == uids.device_uid(ds.DeviceSerialNumber), "so that a node knows it when it comes back"
    assert "WITHDRAWN" in ds.ContentSequence[-2].TextValue.upper()
    assert header.RESEARCH_ONLY in ds.ContentSequence[-2].TextValue


def test_no_device_is_said_to_have_acquired_it(make: Any) -> None:
    (equipment,) = withdrawal.build(subject(make, REPORT)).ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Equipment"


def test_the_same_objects_give_the_same_name_at_any_time(make: Any) -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    first = withdrawal.build(subject(make, REPORT, PICTURE))
    assert withdrawal.build(subject(make, PICTURE, REPORT, when=later)).SOPInstanceUID == first.SOPInstanceUID
    assert withdrawal.build(subject(make, REPORT)).SOPInstanceUID != first.SOPInstanceUID


def test_it_can_be_read_by_others(make: Any, tmp_path: Any) -> None:
    path = tmp_path / "withdrawal.dcm"
    withdrawal.build(subject(make, PICTURE, REPORT)).save_as(path, enforce_file_format=True)
    import pydicom

    document = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))
    assert document.resolve_reference("2.25.11")[2] == "2.25.11"


def test_nothing_cannot_be_withdrawn(make: Any) -> None:
    with pytest.raises(ResultError, match="needs an object"):
        withdrawal.build(subject(make))
