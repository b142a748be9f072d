import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from models import header


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("062Y", 62),
        ("018M", 1.5),
        ("052W", 0.997),
        ("010D", 0.027),
        ("62", 62),
        ("", None),
        ("old", None),
        ("1000Y", None),
    ],
)
def test_an_age_string_is_years(text: str, years: float | None) -> None:
    assert header.age_in_years(text) == (years if years is None else pytest.approx(years, abs=0.001))


def test_a_newborn_is_not_ageless() -> None:
    ds = Dataset()
    ds.PatientAge = "000D"
    assert header.of_dataset(ds).age_years == 0


def test_without_an_age_the_dates_tell_it() -> None:
    ds = Dataset()
    ds.PatientBirthDate, ds.StudyDate = "20150601", "20250601"
    assert header.of_dataset(ds).age_years == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize(("born", "taken"), [("", "20250601"), ("20300101", "20250601"), ("1990.1.1", "20250601")])
def test_dates_that_make_no_sense_give_no_age(born: str, taken: str) -> None:
    ds = Dataset()
    ds.add_new("PatientBirthDate", "LO", born)
    ds.StudyDate = taken
    assert header.of_dataset(ds).age_years is None


def test_view_and_body_part_come_from_their_codes_when_the_plain_attribute_is_absent() -> None:
    ds, view, region = Dataset(), Dataset(), Dataset()
    view.CodeMeaning, region.CodeMeaning = "left lateral", "Chest"
    ds.ViewCodeSequence, ds.AnatomicRegionSequence = Sequence([view]), Sequence([region])
    found = header.of_dataset(ds)
    assert (found.view_position, found.body_part) == ("LEFT LATERAL", "CHEST")


def test_strings_are_upper_case_and_absent_is_empty() -> None:
    ds = Dataset()
    ds.add_new("BodyPartExamined", "LO", "Chest ")
    found = header.of_dataset(ds)
    assert found.body_part == "CHEST"
    assert found.modality == "" and found.rows == 0 and found.frames == 1


def test_a_value_of_any_length_is_cut() -> None:
    ds = Dataset()
    ds.add_new("BodyPartExamined", "UT", "W" * 100_000)
    assert len(header.of_dataset(ds).body_part) == 64
