"""A real Orthanc sends, and finds the results in its own study."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import pytest
from acceptance_parts import give
from pydicom import dcmread
from pydicom.dataset import Dataset
from running import RunningNode

from node.domain import StudyState
from node.network.orthanc import Orthanc
from node.results.text import as_text
from node.storage import jobs, studies

pytestmark = [pytest.mark.orthanc, pytest.mark.model, pytest.mark.slow]

Film = Callable[..., Path]


def results(orthanc: Orthanc, uid: str, *, of: Path) -> dict[str, list[Dataset]]:
    """What Orthanc holds beside the film, by modality."""
    found: dict[str, list[Dataset]] = {}
    film = dcmread(of, stop_before_pixels=True).Modality
    for data in orthanc.instances(uid).values():
        ds = dcmread(io.BytesIO(data))
        if ds.Modality != film:
            found.setdefault(ds.Modality, []).append(ds)
    return found


def twin(film: Film, first: Path, **changed: Any) -> Path:
    ds = dcmread(first)
    return film(**({k: ds[k].value for k in ("StudyInstanceUID", "SeriesInstanceUID")} | changed))


def test_a_report_and_a_picture_come_back_into_the_same_study(
    running: RunningNode, orthanc: Orthanc, film: Film, tmp_path: Path
) -> None:
    chest = film()
    uid = give(orthanc, chest)
    running.finish(uid)
    back = results(orthanc, uid, of=chest)
    assert {m: len(all_) for m, all_ in back.items()} == {"SR": 1, "OT": 1}
    (report,) = back["SR"]
    text = as_text(report)
    assert "Cardiomegaly" in text and "RESEARCH USE ONLY" in text
    source = dcmread(chest, stop_before_pixels=True)
    assert (report.PatientID, report.PatientName) == (source.PatientID, source.PatientName)
    kept = tmp_path / "sr.dcm"
    report.save_as(kept)
    groups = highdicom.sr.srread(kept).content.get_image_measurement_groups()
    assert groups


def test_our_own_results_coming_back_make_no_second_result(running: RunningNode, orthanc: Orthanc, film: Film) -> None:
    chest = film()
    uid = give(orthanc, chest)
    running.finish(uid)
    before = set(orthanc.instances(uid))
    orthanc.send_study(uid)
    study = running.finish(uid)
    running.wait_for(lambda: running.finished(uid))
    assert study.revision == 1
    assert set(orthanc.instances(uid)) == before
    assert len(jobs.of_study(running.parts.store, study.id)) == 1


def test_a_late_image_makes_a_revised_report_with_its_predecessor(
    running: RunningNode, orthanc: Orthanc, film: Film
) -> None:
    first = film()
    uid = give(orthanc, first)
    running.finish(uid)
    (before,) = results(orthanc, uid, of=first)["SR"]
    give(orthanc, twin(film, first))
    study = running.finish(uid, revision=2)
    reports = results(orthanc, uid, of=first)["SR"]
    assert len(reports) == 2
    (revised,) = [r for r in reports if r.SOPInstanceUID != before.SOPInstanceUID]
    predecessor = revised.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert revised.SeriesInstanceUID == before.SeriesInstanceUID
    assert [j.revision for j in jobs.of_study(running.parts.store, study.id)] == [1, 2]


def test_a_corrected_patient_under_the_same_uids_is_held(
    running: RunningNode, orthanc: Orthanc, film: Film, storescu: Callable[..., bool]
) -> None:
    first = film()
    uid = give(orthanc, first)
    running.finish(uid)
    ds = dcmread(first)
    corrected = film(
        StudyInstanceUID=uid,
        SeriesInstanceUID=ds.SeriesInstanceUID,
        SOPInstanceUID=ds.SOPInstanceUID,
        PatientID="CORRECTED",
    )
    assert storescu(running, corrected)
    study = running.wait_for(lambda: (s := running.study(uid)) and s.state is StudyState.HELD and s)
    assert "PatientID" in study.reason and "CORRECTED" in study.reason
    import time

    studies.accept(running.parts.store, study, now=time.time())
    running.parts.bell.ring("dispatch")
    running.finish(uid, revision=2)
    mine = jobs.results(running.parts.store, study.id)
    newest = dcmread(next(r.path for r in mine if r.kind == "sr" and r.revision == 2))
    assert newest.PatientID == "CORRECTED"


def test_a_leg_is_refused_and_the_report_says_why(running: RunningNode, orthanc: Orthanc, film: Film) -> None:
    leg = film("RG3_UNCR.dcm")
    uid = give(orthanc, leg)
    running.finish(uid)
    back = results(orthanc, uid, of=leg)
    (report,) = back["SR"]
    assert len(back["OT"]) == 1
    text = as_text(report)
    assert "body-part" in text
    assert "Present" not in text and "Absent" not in text


def test_of_two_images_one_is_refused(running: RunningNode, orthanc: Orthanc, film: Film) -> None:
    chest = film()
    ds = dcmread(chest)
    leg = film("RG3_UNCR.dcm", StudyInstanceUID=ds.StudyInstanceUID, PatientID=ds.PatientID, PatientName=ds.PatientName)
    uid = give(orthanc, chest, leg)
    study = running.finish(uid)
    (report,) = results(orthanc, uid, of=chest)["SR"]
    text = as_text(report)
    assert "Cardiomegaly" in text and "body-part" in text
    (job,) = jobs.of_study(running.parts.store, study.id)
    assert "1 of 2 images not analysed" in job.reason


def test_a_ct_stays_unrouted_with_its_reason(running: RunningNode, orthanc: Orthanc, film: Film) -> None:
    ct = film("693_UNCR.dcm")
    uid = give(orthanc, ct)
    study = running.finish(uid)
    assert study.state is StudyState.UNROUTED
    assert study.reason == "chest: Modality CT is not in CR, DX"
    assert len(orthanc.instances(uid)) == 1


NAMES = [
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO_IR 144", "Люкceмбypг"),
    ("ISO_IR 100", "Muñoz^Íñigo"),
]


@pytest.mark.parametrize(("character_set", "name"), NAMES)
def test_a_name_comes_back_as_it_went(
    running: RunningNode, orthanc: Orthanc, film: Film, character_set: Any, name: str
) -> None:
    chest = film(SpecificCharacterSet=character_set, PatientName=name)
    uid = give(orthanc, chest)
    running.finish(uid)
    for modality, objects in results(orthanc, uid, of=chest).items():
        assert [str(o.PatientName) for o in objects] == [name] * len(objects), modality


def test_missing_type_2_attributes_stay_missing_in_meaning(running: RunningNode, orthanc: Orthanc, film: Film) -> None:
    gone = ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName", "StudyTime")
    chest = film(**dict.fromkeys(gone))
    uid = give(orthanc, chest)
    running.finish(uid)
    (report,) = results(orthanc, uid, of=chest)["SR"]
    assert [str(report.get(k) or "") for k in gone] == [""] * len(gone)


def test_nothing_acknowledged_is_missing_and_no_name_is_in_the_log(running: RunningNode) -> None:
    assert running.problems() == []
    for word in ("CompressedSamples", "CORRECTED", "山田", "Muñoz"):
        assert word not in running.log
