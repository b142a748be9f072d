from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from node.results.identifying import anybody, found


def found_in(make: Any, text: str, *, innocent: str = "", **changes: Any) -> list[str]:
    subject = make.subject(make.image(make.refused(), **changes))
    return found([text], subject, anybodys=lambda: [innocent])


@pytest.mark.parametrize(
    ("text", "keyword"),
    [
        ("seen for Doe, Jane", "PatientName"),
        ("DOE^JANE", "PatientName"),
        ("doe", "PatientName"),
        ("(Jane)", "PatientName"),
        ("PID-0001", "PatientID"),
        ("pid 0001.", "PatientID"),
        ("no. ACC12345", "AccessionNumber"),
        ("19700102", "PatientBirthDate"),
        ("born 1970-01-02", "PatientBirthDate"),
        ("02.01.1970", "PatientBirthDate"),
        ("1/2/1970", "PatientBirthDate"),
    ],
)
def test_what_identifies_is_found_however_it_is_written(make: Any, text: str, keyword: str) -> None:
    assert found_in(make, text) == [keyword]


@pytest.mark.parametrize(
    "text", ["", "Doeling Janes", "PID-00012", "0001", "1970", "ACC123456", "1970-01-03", "Lung mass 83.2 %"]
)
def test_what_only_looks_alike_is_not_found(make: Any, text: str) -> None:
    assert found_in(make, text) == []


@pytest.mark.parametrize("name", ["Yamada^Tarou=山田^太郎=やまだ^たろう", "林^美"])
def test_names_of_scripts_without_spaces_are_found_inside(make: Any, name: str) -> None:
    said = "これは山田太郎さん" if "山田" in name else "林さん"
    assert found_in(make, said, SpecificCharacterSet="ISO_IR 192", PatientName=name) == ["PatientName"]


def test_a_word_that_is_there_for_anybody_proves_nothing(make: Any) -> None:
    text = "Lung mass 83.2 % (present from 50.0 %)"
    named = {"PatientName": "Mass^Lung", "PatientID": "83", "AccessionNumber": "50"}
    assert found_in(make, text, innocent=text, **named) == []
    assert found_in(make, f"{text}: LUNG MASS", innocent=text, **named) == ["PatientName"]


def test_other_names_and_numbers_are_the_patients_too(make: Any) -> None:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.PatientID, item.TypeOfPatientID = "OLD-77", "TEXT"
    changes = {"OtherPatientNames": "Roe^Mary", "OtherPatientIDsSequence": [item]}
    assert found_in(make, "Roe, OLD-77", **changes) == ["OtherPatientNames", "PatientID"]


def test_nobody_asks_what_is_said_of_anybody_without_a_doubt(make: Any) -> None:
    def never() -> list[str]:
        raise AssertionError

    assert found(["Lung mass"], make.flagged(), anybodys=never) == []


def test_of_nobody_nothing_is_known_but_what_was_seen(make: Any) -> None:
    subject = make.flagged()
    unknown = anybody(subject)
    (image,) = unknown.images
    assert (image.source.PatientName, image.source.PatientID, image.source.AccessionNumber) == ("", "", "")
    assert image.source.StudyInstanceUID == subject.source.StudyInstanceUID
    assert image.reading == subject.images[0].reading
    assert subject.source.PatientName == "Doe^Jane", "the job itself is as it was"


@pytest.mark.parametrize(
    ("part", "name", "keywords"),
    [("DOE JANE", "Doe^Jane", ["PatientName"]), ("FOOT", "Foot^Philippa", []), ("HAND", "Doe^Jane", [])],
)
def test_a_name_that_somebody_typed_as_a_body_part_is_found(
    make: Any, part: str, name: str, keywords: list[str]
) -> None:
    reason = f"The body part is {part}; the model reads CHEST"
    refused = dataclasses.replace(make.refused(), reason=reason)
    subject = make.subject(make.image(refused, BodyPartExamined=part, PatientName=name))
    innocent = [image.reading.reason for image in anybody(subject).images]
    assert found([reason], subject, anybodys=lambda: innocent) == keywords
