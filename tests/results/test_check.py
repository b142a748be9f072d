from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from node.results import check, gsps, kos, pdf, sc, sr
from node.results.check import Draft
from node.results.header import RESEARCH_ONLY

Bytes = Callable[[Dataset], bytes]
Problems = Callable[..., list[str]]
KINDS = ("sc", "card", "sr", "gsps", "kos", "pdf")


@pytest.fixture
def problems(as_bytes: Bytes) -> Problems:
    def find(draft: Draft, subject: Any, *, ours: Any = (), fresh: bool = True, data: bytes = b"") -> list[str]:
        return check.problems(
            data or as_bytes(draft.ds), draft, subject, fresh=fresh, ours=ours, anybodys=lambda: [RESEARCH_ONLY]
        )

    return find


def drafts(subject: Any) -> tuple[dict[str, Draft], list[Dataset]]:
    """One object of each kind, and what the later ones refer to."""
    images = [image for image in subject.images if image.reading.findings]
    picture = sc.overlay(subject, images[0], ordinal=1)
    made = {
        "sc": Draft(picture, sc.overlay_words(subject, images[0])),
        "card": Draft(sc.card(subject, ordinal=1), sc.card_words(subject)),
        "sr": Draft(sr.build(subject, visuals=[picture])),
        "gsps": Draft(gsps.build(subject, images[0], ordinal=1)),
        "kos": Draft(kos.build(subject, images[:1], visuals=[picture])),
        "pdf": Draft(*pdf.typeset(subject, visuals=[picture])),
    }
    return made, [picture]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_object_has_no_problems(make: Any, problems: Problems, kind: str) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    assert problems(made[kind], subject, ours=() if kind == "sc" else ours) == []


HEADERS: list[dict[str, Any]] = [
    {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
    {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг"},
    {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Muñoz^Íñigo", "InstitutionName": "São"},
    {"PatientID": "X" * 80},
    {"PatientID": ""},
    {"PatientName": "", "PatientBirthDate": "", "AccessionNumber": "", "StudyDate": ""},
    {"PatientBirthDate": None, "PatientSex": None, "AccessionNumber": None, "StudyID": None},
    {"PatientName": "Lung^Mass", "PatientID": "83", "AccessionNumber": "1"},
    {"StudyInstanceUID": "1.02.3", "SOPInstanceUID": "1.2.03"},
    {"BurnedInAnnotation": "YES", "PhotometricInterpretation": "MONOCHROME1", "WindowCenter": "1", "WindowWidth": "2"},
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("changes", HEADERS)
def test_what_may_come_in_does_not_keep_results_from_leaving(make: Any, as_bytes: Bytes, changes: Any) -> None:
    from node.results.identifying import anybody

    subject = make.subject(make.image(make.analysed(make.finding("Mass", 0.83)), **changes))
    made, ours = drafts(subject)
    innocent, _ = drafts(anybody(subject))
    for kind, draft in made.items():
        found = check.problems(
            as_bytes(draft.ds),
            draft,
            subject,
            fresh=True,
            ours=() if kind == "sc" else ours,
            anybodys=innocent[kind].texts,
        )
        assert found == [], kind


def missing(keyword: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        del ds[keyword]

    return change


def other(keyword: str, value: Any) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        setattr(ds, keyword, value)

    return change


def private(ds: Dataset) -> None:
    ds.private_block(0x0009, "SOMEBODY", create=True).add_new(1, "LO", "secret")


def reference_elsewhere(ds: Dataset) -> None:
    for sequence in ("SourceImageSequence", "SourceInstanceSequence"):
        if sequence in ds:
            ds[sequence].value[0].ReferencedSOPInstanceUID = "1.2.3"
            return
    if "ReferencedSeriesSequence" in ds:
        ds.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
        return
    item = next(elem for elem in ds.iterall() if elem.keyword == "ReferencedSOPSequence")
    item.value[0].ReferencedSOPInstanceUID = "1.2.3"


def not_for_research(ds: Dataset) -> None:
    ds.SeriesDescription = "AI report"


ANY = [
    (missing("PatientBirthDate"), "PatientBirthDate is missing"),
    (missing("StudyDate"), "StudyDate is missing"),
    (other("Modality", ""), "Modality has no value"),
    (other("SeriesNumber", None), "SeriesNumber has no value"),
    (other("PatientID", "PID-0002"), "PatientID is not the source's"),
    (other("PatientName", "Doe^Jan"), "PatientName is not the source's"),
    (other("AccessionNumber", ""), "AccessionNumber is not the source's"),
    (other("PatientComments", "invented"), "PatientComments is not the source's"),
    (missing("IssuerOfPatientID"), "IssuerOfPatientID is not the source's"),
    (other("StudyInstanceUID", "1.2.3"), "StudyInstanceUID is not the source's"),
    (other("SOPInstanceUID", "1.2.3"), "SOPInstanceUID is none of our own"),
    (other("SeriesInstanceUID", "1.2.3"), "SeriesInstanceUID is none of our own"),
    (other("DeviceUID", "2.25.7"), "DeviceUID is not this node's"),
    (other("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"), "SOPClassUID is of no class that is made here"),
    (private, "it has a private element"),
    (reference_elsewhere, "it refers to an object that is not of this job"),
    (not_for_research, "it does not say RESEARCH USE ONLY"),
    (other("StationName", "a name of more than sixteen"), "StationName has a value that its VR does not allow"),
    (other("SeriesDescription", "RESEARCH USE ONLY for Doe"), "its words hold the PatientName"),
    (other("SeriesDescription", "RESEARCH USE ONLY 1970-01-02"), "its words hold the PatientBirthDate"),
    (other("SeriesDescription", "RESEARCH USE ONLY, pid 0001"), "its words hold the PatientID"),
    (other("SeriesDescription", "RESEARCH USE ONLY (acc12345)"), "its words hold the AccessionNumber"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("change", "said"), ANY)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_with_any_object_is_seen(
    make: Any, problems: Problems, kind: str, change: Callable[[Dataset], None], said: str
) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    draft = made[kind]
    if kind == "card" and change is reference_elsewhere:
        draft.ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    else:
        change(draft.ds)
    found = problems(draft, subject, ours=() if kind == "sc" else ours)
    assert said in found
    for secret in ("Doe", "PID", "0001", "ACC12345", "secret", "invented"):
        assert secret not in "; ".join(found)


def test_words_in_a_picture_are_looked_through(make: Any, problems: Problems) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    for kind in ("sc", "pdf"):
        draft = dataclasses.replace(made[kind], words=[*made[kind].words, "The body part is DOE JANE"])
        found = problems(draft, subject, ours=() if kind == "sc" else ours)
        assert found == ["its words hold the PatientName"]


@pytest.mark.parametrize("kind", ["sr", "kos"])
def test_evidence_lists_all_that_is_referred_to_and_nothing_else(make: Any, problems: Problems, kind: str) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    series = made[kind].ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    del series[-1]
    said = "CurrentRequestedProcedureEvidenceSequence does not list what the document refers to"
    assert said in problems(made[kind], subject, ours=ours)


def test_a_report_may_not_refer_to_a_picture_that_is_not_there(make: Any, problems: Problems) -> None:
    subject = make.flagged()
    made, _ = drafts(subject)
    assert problems(made["sr"], subject, ours=()) == ["it refers to an object that is not of this job"]


def test_an_object_is_known_once(make: Any, problems: Problems) -> None:
    subject = make.flagged()
    made, _ = drafts(subject)
    assert problems(made["sc"], subject, ours=[made["sc"].ds]) == ["SOPInstanceUID is none of our own"]


def test_the_images_of_a_job_are_of_one_study(make: Any, problems: Problems) -> None:
    reading = make.analysed(make.finding("Mass", 0.9))
    subject = make.subject(make.image(reading, 1), make.image(make.refused(), 2, StudyInstanceUID=generate_uid()))
    made, _ = drafts(subject)
    assert "the images of the job are of several studies" in problems(made["sc"], subject)


def test_bytes_that_are_no_dicom_or_cut_short_are_seen(make: Any, problems: Problems, as_bytes: Bytes) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    whole = as_bytes(made["sr"].ds)
    assert problems(made["sr"], subject, ours=ours, data=b"x" * 500) == ["it cannot be read back (InvalidDicomError)"]
    for cut in (140, 400, len(whole) // 2, len(whole) - 3):
        assert problems(made["sr"], subject, ours=ours, data=whole[:cut]) != []


def test_bytes_that_differ_from_what_was_built_are_seen_where_they_are_fresh(
    make: Any, problems: Problems, as_bytes: Bytes
) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    data = as_bytes(made["sr"].ds).replace(b"Succeeded", b"Succeeden")
    found = problems(made["sr"], subject, ours=ours, data=data)
    assert found == ["ContentSequence is not read back as it was written"]
    assert problems(made["sr"], subject, ours=ours, data=data, fresh=False) == []


def test_a_file_whose_meta_information_is_of_another_object_is_seen(
    make: Any, problems: Problems, as_bytes: Bytes
) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    uid = str(made["sr"].ds.SOPInstanceUID).encode()
    data = as_bytes(made["sr"].ds).replace(uid, uid[:-1] + (b"1" if uid[-1:] != b"1" else b"2"), 1)
    assert problems(made["sr"], subject, ours=ours, data=data) == [
        "the file's MediaStorageSOPInstanceUID is not the object's"
    ]


def test_an_object_that_is_too_large_is_not_even_read(
    make: Any, problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "LARGEST", 1000)
    subject = make.flagged()
    made, _ = drafts(subject)
    (said,) = problems(made["sc"], subject)
    assert said.endswith("at most 1000 are sane")


def test_the_check_knows_the_attributes_of_the_mandatory_modules() -> None:
    from highdicom import _standard_utils as standard

    # Of the content item macro, whose conditions the tables do not tell
    of_items = set(
        "ReferencedSOPSequence TemporalRangeType ConceptCodeSequence TabulatedValuesSequence GraphicData GraphicType "
        "ReferencedFrameOfReferenceUID MeasuredValueSequence".split()
    )
    modules, attributes = standard.get_iod_module_map(), standard.get_module_attribute_map()
    always = (*check.ALWAYS_TYPE_1.split(), *check.TYPE_2)
    for sop_class in check.TYPE_1:
        mandatory = [m["key"] for m in modules[standard.get_sop_class_iod_map()[sop_class]] if m["usage"] == "M"]
        wanted = {a["keyword"] for m in mandatory for a in attributes[m] if a["type"] in "12" and not a["path"]}
        known = {*always, *check.TYPE_1[sop_class].split(), *check.ALSO_TYPE_2[sop_class].split()}
        assert wanted - of_items - known == set(), sop_class


def test_a_check_is_quick(make: Any, problems: Problems, as_bytes: Bytes) -> None:
    subject = make.flagged()
    made, ours = drafts(subject)
    for kind, draft in made.items():
        data = as_bytes(draft.ds)
        took = []
        for _ in range(3):
            start = time.process_time()
            assert problems(draft, subject, ours=() if kind == "sc" else ours, data=data) == []
            took.append(time.process_time() - start)
        assert min(took) < 0.2, kind
