from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from names_made import FILES as CHARSETS
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.errors import ResultError
from node.results import sc, sr
from node.results.evidence import TYPE_2, read_evidence

Judge = Callable[[Dataset], list[str]]


def with_charset(path: Path, charset: Any, name: bytes) -> None:
    """Put a name into a written file as raw bytes, whatever its declared character set makes of them."""
    ds = dcmread(path)
    ds.SpecificCharacterSet = charset
    path.write_bytes(b"")
    ds.save_as(path, enforce_file_format=True)
    data = path.read_bytes()
    even = name + b" " * (len(name) % 2)
    old = b"\x10\x00\x10\x00PN\x08\x00Doe^Jane"
    assert old in data
    path.write_bytes(data.replace(old, b"\x10\x00\x10\x00PN" + len(even).to_bytes(2, "little") + even))


def test_pixels_and_private_attributes_stay_outside(make: Any) -> None:
    ds = make.film()
    ds.private_block(0x0099, "ACME", create=True).add_new(1, "OB", b"x" * 2_000_000)
    ds.add_new(0x60003000, "OW", b"overlay!")
    ds.IconImageSequence = [make.film()]
    out = read_evidence(make.file(ds))
    assert not any(elem.tag.is_private for elem in out.iterall())
    assert "PixelData" not in out and "IconImageSequence" not in out and 0x60003000 not in out
    assert (out.PatientID, out.StudyInstanceUID, out.Rows) == ("PID-0001", ds.StudyInstanceUID, 8)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_file_without_an_identifier_is_refused(make: Any, keyword: str) -> None:
    with pytest.raises(ResultError, match=keyword):
        make.source(**{keyword: None})


@pytest.mark.parametrize("content", [b"", b"hello", bytes(200), b"\xff" * 5000])
def test_what_is_no_dicom_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(ResultError):
        read_evidence(path)


def test_a_header_that_ends_early_is_read_as_far_as_it_goes_or_refused(make: Any) -> None:
    whole = make.file(make.film()).read_bytes()
    path = make.folder / "cut.dcm"
    for length in range(140, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            assert read_evidence(path).StudyInstanceUID == make.film().StudyInstanceUID
        except ResultError:
            continue


def test_missing_type_2_attributes_are_added_empty(make: Any) -> None:
    out = make.source(**dict.fromkeys(TYPE_2))
    assert all(keyword in out and not out[keyword].value for keyword in TYPE_2)


@pytest.mark.parametrize(("given", "kept"), [("M", "M"), ("O", "O"), ("U", ""), ("male", ""), ("", "")])
def test_a_sex_that_the_standard_does_not_name_is_emptied(make: Any, given: str, kept: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert make.source(PatientSex=given).PatientSex == kept


def bad(ds: Dataset, **values: Any) -> Dataset:
    """Set values past pydicom's validation."""
    for keyword, value in values.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            setattr(ds, keyword, value)
    return ds


def ugly(make: Any, name: str) -> Dataset:
    film: Dataset = make.film()
    kinds: dict[str, Callable[[], Dataset]] = {
        "bad dates": lambda: bad(film, StudyDate="2026-03-01", StudyTime="10:11:12", PatientBirthDate="01.02.1970"),
        "retired dates": lambda: bad(film, StudyDate="2026.03.01", AcquisitionDate="1993.02.24"),
        "hostile strings": lambda: bad(
            film,
            PatientName="<script>alert(1)</script>^\\..\\..\\etc",
            StudyDescription="a\x00b\x1b[31m; DROP TABLE study; --",
            ReferringPhysicianName="\x07^\x08",
            StationName="../../etc/passwd-and-more",
        ),
        "long strings": lambda: bad(
            film,
            PatientName="N" * 200,
            StudyDescription="D" * 300,
            StudyID="S" * 40,
            InstitutionName="I" * 100,
            ManufacturerModelName="M" * 100,
        ),
        "bad numbers": lambda: bad(
            film,
            PatientAge="56",
            PatientWeight="70.123456789012345678",
            ImagerPixelSpacing=["0", "0"],
            SeriesNumber=None,
        ),
        "bad codes": lambda: bad(film, ProcedureCodeSequence=[Dataset()], BodyPartExamined="chest (pa)"),
        "no spacing, no orientation": lambda: make.film(ImagerPixelSpacing=None, PatientOrientation=None),
        "no procedure, no order": lambda: make.film(
            ProcedureCodeSequence=None, RequestAttributesSequence=None, AccessionNumber=None
        ),
        "nothing": lambda: make.film(
            **dict.fromkeys((*TYPE_2, "Modality", "Manufacturer", "BodyPartExamined", "SpecificCharacterSet")),
            **dict.fromkeys(("Rows", "Columns", "ImagerPixelSpacing", "PatientOrientation")),
        ),
        "identity removed, method unsaid": lambda: bad(film, PatientIdentityRemoved="YES"),
        "unknown class": lambda: bad(film, SOPClassUID="1.2.3.4.5.6.7"),
    }
    return kinds[name]()


@pytest.mark.parametrize(
    "name",
    [
        "bad dates",
        "retired dates",
        "hostile strings",
        "long strings",
        "bad numbers",
        "bad codes",
        "no spacing, no orientation",
        "no procedure, no order",
        "nothing",
        "identity removed, method unsaid",
        "unknown class",
    ],
)
def test_an_ugly_source_gives_valid_results(make: Any, errors_of: Judge, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = make.file(ugly(make, name))
    image = make.evidence(read_evidence(path), make.analysed(make.finding("Mass", 0.9)))
    subject = make.subject(image)
    visual = sc.overlay(subject, image, ordinal=1)
    for built in (visual, sc.card(subject, ordinal=1), sr.build(subject, visuals=[visual])):
        assert errors_of(built) == []
        assert built.StudyInstanceUID == make.film().StudyInstanceUID


def test_dates_are_normalised_and_hostile_names_are_one_name(make: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dates = read_evidence(make.file(ugly(make, "bad dates")))
        names = read_evidence(make.file(ugly(make, "hostile strings")))
    assert (dates.StudyDate, dates.StudyTime, dates.PatientBirthDate) == ("20260301", "101112", "")
    assert str(names.PatientName) == "<script>alert(1)</script>^ .. .. etc"


def test_a_patient_id_that_is_too_long_is_kept_whole(make: Any, as_bytes: Callable[[Dataset], bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = make.file(bad(make.film(), PatientID="P" * 90))
    subject = make.subject(make.evidence(read_evidence(path), make.refused()))
    built = sr.build(subject)
    assert built.PatientID == "P" * 90
    assert b"P" * 90 in as_bytes(built)


@pytest.mark.parametrize("path", CHARSETS, ids=lambda path: path.stem)
def test_names_of_every_character_set_arrive_unchanged(
    make: Any, errors_of: Judge, as_bytes: Callable[[Dataset], bytes], path: Path
) -> None:
    source = dcmread(path)
    film = make.film(SpecificCharacterSet=source.SpecificCharacterSet, PatientName=source.PatientName)
    evidence = read_evidence(make.file(film))
    built = sr.build(make.subject(make.evidence(evidence, make.analysed(make.finding("Mass", 0.9)))))
    back = dcmread(pydicom.filebase.DicomBytesIO(as_bytes(built)))
    assert str(back.PatientName) == str(source.PatientName)
    assert back.PatientName.components == source.PatientName.components
    assert isinstance(back.SpecificCharacterSet, str), "multi-valued sets are written again in UTF-8"
    assert errors_of(built) == []


def test_japanese_names_keep_three_component_groups(make: Any) -> None:
    path = next(p for p in CHARSETS if p.stem == "chrH31")
    ds = dcmread(path)
    source = make.source(SpecificCharacterSet=ds.SpecificCharacterSet, PatientName=ds.PatientName)
    assert source.SpecificCharacterSet == "ISO_IR 192"
    assert str(source.PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize("charset", ["ISO_IR 999", "UTF-8", ["ISO_IR 100", "nonsense"], "latin_1"])
def test_a_character_set_that_nobody_knows_gives_a_valid_result(make: Any, errors_of: Judge, charset: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = make.file(make.film())
        with_charset(path, charset, "Müller^Jörg".encode("latin-1"))
    built = sr.build(make.subject(make.evidence(read_evidence(path), make.refused())))
    assert built.SpecificCharacterSet == "ISO_IR 192"
    assert errors_of(built) == []


def test_a_name_beyond_ascii_without_a_declared_set_keeps_its_bytes(
    make: Any, as_bytes: Callable[[Dataset], bytes]
) -> None:
    path = make.file(make.film())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with_charset(path, "", "Müller^Jörg".encode("gb18030"))
    source = read_evidence(path)
    built = sr.build(make.subject(make.evidence(source, make.refused())))
    assert "Müller^Jörg".encode("gb18030") in as_bytes(built)


def test_an_organisation_beyond_the_sources_character_set_moves_the_result_to_utf_8(
    make: Any, errors_of: Judge, as_bytes: Callable[[Dataset], bytes]
) -> None:
    image = make.evidence(make.source(PatientName="Müller^Jörg"), make.refused())
    built = sr.build(make.subject(image, organisation="東京病院"))
    back = dcmread(pydicom.filebase.DicomBytesIO(as_bytes(built)))
    assert (back.SpecificCharacterSet, back.InstitutionName) == ("ISO_IR 192", "東京病院")
    assert str(back.PatientName) == "Müller^Jörg"
    assert errors_of(built) == []


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG3_UNCR.dcm", "693_UNCR.dcm", "MR2_UNCR.dcm"])
def test_real_images_of_pydicom_give_valid_results(
    make: Any, errors_of: Judge, pydicom_file: Callable[[str], Path], name: str
) -> None:
    judged(make, errors_of, pydicom_file(name))


@pytest.mark.data
def test_real_images_give_valid_results(make: Any, errors_of: Judge, dicom_dir: Path) -> None:
    paths = sorted(dicom_dir.glob("*.dcm"))
    assert paths
    for path in paths:
        judged(make, errors_of, path)


def judged(make: Any, errors_of: Judge, path: Path) -> None:
    image = make.evidence(read_evidence(path), make.analysed(make.finding("Mass", 0.9)))
    subject = make.subject(image)
    visual = sc.overlay(subject, image, ordinal=1)
    for built in (visual, sc.card(subject, ordinal=1), sr.build(subject, visuals=[visual])):
        # A UID that the source itself got wrong has to be quoted as it is.
        errors = [error for error in errors_of(built) if "Illegal root for UID" not in error]
        assert errors == [], path.name
