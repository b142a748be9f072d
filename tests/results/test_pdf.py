from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from models.codes import FINDINGS
from node.results import pdf, sc
from node.results.header import RESEARCH_ONLY, our_texts

Judge = Callable[[Dataset], list[str]]
Read = Callable[[Dataset], list[str]]


@pytest.fixture
def read(program: Callable[[str], str], tmp_path: Path) -> Read:
    """The words of each page, as poppler reads them."""

    def pages(ds: Dataset) -> list[str]:
        path = tmp_path / "read.pdf"
        path.write_bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
        done = subprocess.run(
            [program("pdftotext"), "-layout", str(path), "-"], capture_output=True, check=True, timeout=60
        )
        assert done.stderr == b""
        return [" ".join(page.split()) for page in done.stdout.decode().split("\f")[:-1]]

    return pages


def mixed(make: Any, **changes: Any) -> Any:
    """Three images: two analysed with eight findings, one refused."""
    scores = (0.1, 0.93, 0.41, 0.02, 0.6, 0.3, 0.1, 0.05)
    findings = [make.finding(name, score) for name, score in zip(list(FINDINGS)[:8], scores, strict=True)]
    lower = [make.finding(name, score / 3) for name, score in zip(list(FINDINGS)[:8], scores, strict=True)]
    return make.subject(
        make.image(make.analysed(*findings), 1),
        make.image(make.refused(), 2),
        make.image(make.analysed(*lower), 3),
        **changes,
    )


def overlays(subject: Any) -> list[Dataset]:
    flagged = [i for i in subject.images if any(f.presence == "PRESENT" for f in i.reading.findings)]
    return [sc.overlay(subject, image, ordinal=n) for n, image in enumerate(flagged, start=1)]


def test_a_document_is_valid_and_belongs_to_the_study(make: Any, errors_of: Judge) -> None:
    subject = mixed(make)
    (picture,) = overlays(subject)
    built = pdf.build(subject, visuals=[picture])
    assert errors_of(built) == []
    film = make.film()
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber", "StudyDate"):
        assert built[keyword].value == film[keyword].value
    assert (built.Modality, built.SeriesNumber, built.VerificationFlag) == ("DOC", 9005, "UNVERIFIED")
    assert RESEARCH_ONLY in built.DocumentTitle
    derived = [item.ReferencedSOPInstanceUID for item in built.SourceInstanceSequence]
    assert derived == [image.source.SOPInstanceUID for image in subject.images] + [picture.SOPInstanceUID]


def test_its_length_is_that_of_the_document_and_its_value_is_even(make: Any) -> None:
    for note in ("", "x", "xy"):
        built = pdf.build(make.flagged(audit_note=note))
        document = built.EncapsulatedDocument
        assert len(document) % 2 == 0 and len(document) - built.EncapsulatedDocumentLength in (0, 1)
        assert document.startswith(b"%PDF-")
        assert document[: built.EncapsulatedDocumentLength].endswith(b"%%EOF\n")


def test_it_says_what_was_found_how_sure_and_by_which_model(make: Any, read: Read) -> None:
    subject = mixed(make, audit_note="This model was not audited")
    first, *rest = read(pdf.build(subject, visuals=overlays(subject)))
    everything = " ".join([first, *rest])
    assert all(RESEARCH_ONLY in page and "revision 1" in page for page in (first, *rest))
    assert "AI result: chest-findings 1.0.0" in first
    assert "Above threshold: Cardiomegaly, Lung mass" in first
    assert "Not analysed: 1 of 3 images" in first
    assert "This model was not audited" in first
    assert "Cardiomegaly 93.0 % Present present from 50.0 %" in first
    assert "Pleural effusion 41.0 % Undetermined present from 50.0 %" in first
    assert "Each figure is the highest of the 2 images analysed." in first
    assert "Image 2 of 3 (CR, series 1, image 2)" in everything
    assert "Not analysed: The gate body-part-1.0.0 says chest 3.0 %, at least 50.0 % is needed." in everything
    assert "Colour: where the model looked for Cardiomegaly, not its outline." in everything
    assert "DenseNet-121" in everything and "blake3:aa11" in everything and "sensitivity 0.90" in everything


def test_nothing_above_a_threshold_never_sounds_like_normal(make: Any, read: Read) -> None:
    (page,) = read(pdf.build(make.subject(make.image(make.analysed(make.finding("Mass", 0.1))))))
    assert "Analysed: not above its threshold" in page
    assert "Below it a finding can still be there" in page
    assert "normal" not in page.lower()


def test_a_refused_image_has_its_reason_and_no_findings(make: Any, read: Read, errors_of: Judge) -> None:
    built = pdf.build(make.subject(make.image(make.refused())))
    (page,) = read(built)
    assert "Not analysed This says nothing about what the images show." in page
    assert "Not analysed: The gate body-part-1.0.0 says" in page
    assert "Present" not in page and "Absent" not in page and "How to read" not in page
    assert errors_of(built) == []


def test_a_score_is_no_per_cent_and_a_missing_one_is_said(make: Any, read: Read) -> None:
    findings = make.finding("Mass", 0.6123, calibrated=False), make.finding("Effusion", float("nan"), calibrated=False)
    (page,) = read(pdf.build(make.subject(make.image(make.analysed(*findings)))))
    assert "score 0.612 Present from 0.500" in page
    assert "no score Undetermined" in page
    assert "A score is not calibrated" in page and "Per cents are calibrated" not in page


HOSTILE = ["Doe^John", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Люкceмбypг", "Doe^(John) Tj ET\\"]


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_the_patient_is_on_a_page(make: Any, read: Read, errors_of: Judge, name: str) -> None:
    reading = make.analysed(make.finding("Mass", 0.9))
    subject = make.subject(make.image(reading, SpecificCharacterSet="ISO_IR 192", PatientName=name))
    built, said = pdf.typeset(subject, visuals=overlays(subject))
    pages = " ".join([*read(built), *said, *(value for _, value in our_texts(built))])
    for secret in ("Doe", "John", "Yamada", "山田", "Люк", "PID", "1970", "ACC12345", "HOSP"):
        assert secret not in pages
    assert errors_of(built) == []


def test_signs_that_the_fonts_do_not_have_are_written_by_their_numbers(make: Any, read: Read, errors_of: Judge) -> None:
    found = make.finding("Mass", 0.9)
    named = dataclasses.replace(found, finding=dataclasses.replace(found.finding, meaning="Tumor – größer 肺"))
    built = pdf.build(make.subject(make.image(make.analysed(named))))
    (page,) = read(built)
    assert "Above threshold: Tumor - größer [U+80BA]" in page
    assert errors_of(built) == []


def test_all_that_is_said_is_what_a_reader_of_pdf_finds(make: Any, read: Read) -> None:
    subject = mixed(make)
    built, said = pdf.typeset(subject, visuals=overlays(subject))
    found = " ".join(read(built))
    assert [text for text in said if " ".join(text.split()[:3]) not in found] == []
    kept = {word for text in said for word in text.split()}
    assert set(found.split()) - kept <= {"page", "1", "2", "3", "4"}, "a text is drawn that is not kept"


def test_a_document_of_many_images_goes_on_over_pages(make: Any, read: Read, errors_of: Judge) -> None:
    images = [
        make.image(make.analysed(make.finding("Mass", 0.9), make.finding("Effusion", 0.2)), n) for n in range(1, 13)
    ]
    subject = make.subject(*images)
    built = pdf.build(subject, visuals=overlays(subject))
    pages = read(built)
    assert len(pages) > 4 and all(RESEARCH_ONLY in page for page in pages)
    assert sum(page.count("Colour: where") for page in pages) == 12
    assert errors_of(built) == []


@pytest.mark.parametrize(("said", "burned"), [("NO", "NO"), ("YES", "YES"), (None, "YES")])
def test_a_picture_whose_film_may_show_a_name_makes_a_document_that_may(
    make: Any, said: str | None, burned: str
) -> None:
    changes = {} if said is None else {"BurnedInAnnotation": said}
    subject = make.subject(make.image(make.analysed(make.finding("Mass", 0.9)), **changes))
    assert pdf.build(subject, visuals=overlays(subject)).BurnedInAnnotation == burned
    assert pdf.build(subject).BurnedInAnnotation == "NO", "our own words name nobody"


def test_a_card_is_not_shown_again_as_a_picture(make: Any) -> None:
    subject = make.subject(make.image(make.refused()))
    built = pdf.build(subject, visuals=[sc.card(subject, ordinal=1)])
    assert b"/Subtype /Image" not in built.EncapsulatedDocument
    assert len(built.SourceInstanceSequence) == 1


def test_the_same_job_gives_the_same_bytes_and_a_revision_others(make: Any, as_bytes: Any) -> None:
    subject = mixed(make)
    visuals = overlays(subject)
    first = pdf.build(subject, visuals=visuals)
    assert as_bytes(first) == as_bytes(pdf.build(subject, visuals=visuals))
    revised = pdf.build(dataclasses.replace(subject, revision=2), visuals=visuals)
    assert revised.SOPInstanceUID != first.SOPInstanceUID
    assert (revised.SeriesInstanceUID, revised.InstanceNumber) == (first.SeriesInstanceUID, 2)


@pytest.mark.dcmtk
def test_dcmtk_takes_the_document_out_again(
    make: Any, as_bytes: Any, program: Callable[[str], str], tmp_path: Path
) -> None:
    built = pdf.build(make.flagged())
    source, target = tmp_path / "document.dcm", tmp_path / "document.pdf"
    source.write_bytes(as_bytes(built))
    subprocess.run([program("dcm2pdf"), str(source), str(target)], check=True, timeout=60, capture_output=True)
    taken = target.read_bytes()
    assert taken[: built.EncapsulatedDocumentLength] == built.EncapsulatedDocument[: built.EncapsulatedDocumentLength]
