from __future__ import annotations

import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from node.results.repair import normal_date, normal_time, person_name, repaired, text


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("20260301", "20260301"),
        ("2026-03-01", "20260301"),
        ("2026/03/01", "20260301"),
        ("1993.02.24", "19930224"),
        (" 20260301 ", "20260301"),
        ("20260230", ""),
        ("2026-03/01", ""),
        ("20260301-20260302", ""),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_a_date_is_normalised_or_emptied(given: str, written: str) -> None:
    assert normal_date(given) == written


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("101112", "101112"),
        ("101112.5", "101112.5"),
        ("101112.1234567", "101112.123456"),
        ("10:11:12", "101112"),
        ("10", "10"),
        ("235960", "235960"),
        ("250000", ""),
        ("106000", ""),
        ("noon", ""),
    ],
)
def test_a_time_is_normalised_or_emptied(given: str, written: str) -> None:
    assert normal_time(given) == written


def test_a_text_loses_control_characters_and_backslashes_and_what_is_too_long() -> None:
    assert text("a\x00b\x1bc\\d\n") == "a b c d"
    assert text("x" * 70) == "x" * 64
    assert text("x" * 20, "SH") == "x" * 16


def test_a_paragraph_keeps_its_line_breaks() -> None:
    assert text("one\r\ntwo\x07", "LT") == "one\r\ntwo"


def test_a_name_keeps_three_component_groups_of_at_most_64_characters() -> None:
    assert str(person_name("Yamada^Tarou=山田^太郎=やまだ^たろう")) == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert str(person_name("A=B=C=D")) == "A=B=C"
    assert str(person_name("x" * 80)) == "x" * 64
    assert str(person_name("a^b^c^d^e^f^g")) == "a^b^c^d^e f g"
    assert str(person_name("Doe^John\\..\\evil\x1b")) == "Doe^John .. evil"


def loaded(keyword: str, value: str) -> Dataset:
    """A data set with a value that pydicom's own checks would warn of."""
    ds = Dataset()
    ds.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=IGNORE))
    return ds


def test_a_patient_id_is_never_changed() -> None:
    assert repaired(loaded("PatientID", "P" * 80)).PatientID == "P" * 80


@pytest.mark.parametrize(("given", "kept"), [("ACC123", "ACC123"), ("A" * 16, "A" * 16), ("A" * 17, ""), ("A\x01", "")])
def test_an_accession_number_is_whole_or_empty(given: str, kept: str) -> None:
    assert repaired(loaded("AccessionNumber", given)).AccessionNumber == kept


def test_a_code_or_reference_that_lacks_a_part_is_left_out() -> None:
    whole, half, reference = Dataset(), Dataset(), Dataset()
    whole.CodeValue, whole.CodingSchemeDesignator, whole.CodeMeaning = "1", "LN", "One"
    half.CodeValue = "2"
    reference.ReferencedSOPClassUID = "1.2"
    ds = Dataset()
    ds.ProcedureCodeSequence, ds.ReferencedStudySequence = [whole, half], [reference]
    out = repaired(ds)
    assert [item.CodeValue for item in out.ProcedureCodeSequence] == ["1"]
    assert "ReferencedStudySequence" not in out


def test_private_attributes_are_left_out_at_every_depth() -> None:
    item, ds = Dataset(), Dataset()
    item.RequestedProcedureID = "RP1"
    for one in (item, ds):
        block = one.private_block(0x0099, "ACME", create=True)
        block.add_new(0x01, "OB", b"x" * 1000)
    ds.RequestAttributesSequence = [item]
    out = repaired(ds)
    assert [elem.keyword for elem in out.iterall()] == ["RequestAttributesSequence", "RequestedProcedureID"]
