from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from node.errors import ResultError
from node.results import form, sc, sr, uids
from node.results.evidence import Predecessor

Judge = Callable[[Dataset], list[str]]
Bytes = Callable[[Dataset], bytes]

EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
OTHERS = [pair for pair in form.pairs(Comprehensive3DSRStorage) if pair != (Comprehensive3DSRStorage, EXPLICIT)]
NAMES = ["the same, Implicit", "Comprehensive", "Comprehensive, Implicit", "Enhanced", "Enhanced, Implicit"]


@pytest.fixture
def stored(tmp_path: Path, as_bytes: Bytes) -> Callable[[Dataset], Path]:
    def write(ds: Dataset) -> Path:
        path = tmp_path / f"{ds.SOPInstanceUID}.dcm"
        path.write_bytes(as_bytes(ds))
        return path

    return write


def reports(make: Any) -> list[Dataset]:
    """A report of each sort: flagged with an overlay, several images of which one was refused, nothing analysed."""
    flagged = make.flagged()
    mixed = make.subject(
        make.evidence(make.source(1), make.analysed(make.finding("Mass", 0.2), make.finding("Pneumonia", 0.9))),
        make.evidence(make.source(2), make.refused()),
        make.evidence(make.source(3), make.analysed(make.finding("Mass", 0.3), make.finding("Pneumonia", 0.1))),
    )
    none = make.subject(make.evidence(make.source(), make.refused()))
    return [
        sr.build(flagged, visuals=[sc.overlay(flagged, flagged.images[0], ordinal=1)]),
        sr.build(mixed),
        sr.build(none),
    ]


def content(ds: Dataset) -> Dataset:
    """A data set without what may differ between the forms of one result."""
    left = Dataset()
    for elem in ds:
        if elem.keyword not in ("SOPClassUID", "SOPInstanceUID"):
            left.add(elem)
    return left


def test_the_most_wanted_class_comes_first_in_both_transfer_syntaxes() -> None:
    names = [c for c, _ in form.pairs(Comprehensive3DSRStorage)]
    assert names == [c for c in form.SR_CLASSES for _ in range(2)]
    assert form.pairs(EnhancedSRStorage) == form.pairs(Comprehensive3DSRStorage)
    assert form.pairs(SecondaryCaptureImageStorage) == (
        (SecondaryCaptureImageStorage, EXPLICIT),
        (SecondaryCaptureImageStorage, IMPLICIT),
    )


@pytest.mark.parametrize(("sop_class", "syntax"), OTHERS, ids=NAMES)
def test_every_form_of_every_report_is_valid_and_says_the_same(
    make: Any, stored: Callable[[Dataset], Path], errors_of: Judge, sop_class: str, syntax: str
) -> None:
    for report in reports(make):
        path = stored(report)
        ds = dcmread(io.BytesIO(form.make(path, sop_class, syntax)))
        assert errors_of(ds) == []
        assert (ds.SOPClassUID, ds.file_meta.MediaStorageSOPClassUID) == (sop_class, sop_class)
        assert (ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPInstanceUID) == (syntax, ds.SOPInstanceUID)
        assert content(ds) == content(dcmread(path))
        assert sr.as_text(ds) == sr.as_text(report)


@pytest.mark.parametrize("sop_class", [ComprehensiveSRStorage, EnhancedSRStorage])
def test_highdicom_reads_the_tree_of_every_class(make: Any, stored: Callable[[Dataset], Path], sop_class: str) -> None:
    for report in reports(make):
        read = highdicom.sr.srread(io.BytesIO(form.make(stored(report), sop_class, EXPLICIT)))
        assert read.content.get_image_measurement_groups()


def test_another_class_is_another_instance_and_another_transfer_syntax_is_the_same_one(
    make: Any, stored: Callable[[Dataset], Path]
) -> None:
    report = sr.build(make.flagged())
    path, uid = stored(report), str(report.SOPInstanceUID)
    made = {pair: str(dcmread(io.BytesIO(form.make(path, *pair))).SOPInstanceUID) for pair in OTHERS}
    assert made[(Comprehensive3DSRStorage, IMPLICIT)] == uid
    assert len({uid, *made.values()}) == 3
    for (sop_class, syntax), one in made.items():
        assert one == form.instance_uid(uid, original_class=Comprehensive3DSRStorage, sop_class_uid=sop_class)
        assert made.get((sop_class, EXPLICIT), uid) == one, syntax


@pytest.mark.parametrize("pair", OTHERS, ids=NAMES)
def test_the_same_form_is_the_same_bytes(make: Any, stored: Callable[[Dataset], Path], pair: tuple[str, str]) -> None:
    path = stored(sr.build(make.flagged()))
    assert form.make(path, *pair) == form.make(path, *pair)


def test_a_predecessor_is_named_as_the_class_names_it(make: Any, stored: Callable[[Dataset], Path]) -> None:
    first = sr.build(make.flagged())
    before = Predecessor(
        str(first.StudyInstanceUID), str(first.SeriesInstanceUID), str(first.SOPClassUID), str(first.SOPInstanceUID)
    )
    second = sr.build(dataclasses.replace(make.flagged(), revision=2, predecessors=(before,)))
    for sop_class, syntax in form.pairs(Comprehensive3DSRStorage):
        old = dcmread(io.BytesIO(form.make(stored(first), sop_class, syntax)))
        new = dcmread(io.BytesIO(form.make(stored(second), sop_class, syntax)))
        (study,) = new.PredecessorDocumentsSequence
        (series,) = study.ReferencedSeriesSequence
        (named,) = series.ReferencedSOPSequence
        assert (named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID) == (old.SOPClassUID, old.SOPInstanceUID)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Muñoz^Íñigo"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ],
)
def test_a_name_is_the_same_in_every_form(
    make: Any, stored: Callable[[Dataset], Path], character_set: str, name: str
) -> None:
    source = make.source(SpecificCharacterSet=character_set, PatientName=name)
    path = stored(sr.build(make.subject(make.evidence(source, make.refused()))))
    for pair in OTHERS:
        assert str(dcmread(io.BytesIO(form.make(path, *pair))).PatientName) == name


def test_a_picture_in_implicit_vr_has_the_same_pixels(
    make: Any, stored: Callable[[Dataset], Path], errors_of: Judge
) -> None:
    flagged = make.flagged()
    picture = sc.overlay(flagged, flagged.images[0], ordinal=1)
    ds = dcmread(io.BytesIO(form.make(stored(picture), SecondaryCaptureImageStorage, IMPLICIT)))
    assert ds.file_meta.TransferSyntaxUID == IMPLICIT
    assert (ds.SOPInstanceUID, ds.PixelData) == (picture.SOPInstanceUID, picture.PixelData)
    assert errors_of(ds) == []


def item(relation: str, value_type: str, **more: Any) -> Dataset:
    ds = Dataset()
    ds.RelationshipType = relation
    ds.ValueType = value_type
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("inside", "sop_class", "words"),
    [
        (item("CONTAINS", "SCOORD3D"), ComprehensiveSRStorage, "no value type SCOORD3D"),
        (item("CONTAINS", "TABLE"), EnhancedSRStorage, "no value type TABLE"),
        (item("HAS PROPERTIES", "CODE"), EnhancedSRStorage, "CONTAINER HAS PROPERTIES CODE is not in it"),
        (
            item("CONTAINS", "TEXT", ReferencedContentItemIdentifier=[1, 1]),
            EnhancedSRStorage,
            "no relationships by reference",
        ),
    ],
)
def test_what_a_class_does_not_allow_makes_no_form(
    make: Any, stored: Callable[[Dataset], Path], inside: Dataset, sop_class: str, words: str
) -> None:
    # From the file, as highdicom's own sequences take no items of others
    report = dcmread(stored(sr.build(make.flagged())))
    report.ContentSequence.append(inside)
    with pytest.raises(ResultError, match=words):
        form.make(stored(report), sop_class, EXPLICIT)


def test_only_a_report_has_another_class(make: Any, stored: Callable[[Dataset], Path]) -> None:
    picture = sc.card(make.subject(make.evidence(make.source(), make.refused())), ordinal=1)
    with pytest.raises(ResultError, match="has no other form"):
        form.make(stored(picture), EnhancedSRStorage, EXPLICIT)


def test_the_uid_of_a_form_never_changes() -> None:
    assert uids.form_uid("2.25.1", EnhancedSRStorage) == "2.25.254158601654003265035160150429564663779"
