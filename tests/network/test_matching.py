"""Questions with one value for each key, and what answers them."""

from __future__ import annotations

import pytest

from node.network.matching import is_wanted, questions
from node.network.source import Found, Wanted


def test_nothing_wanted_is_one_question_for_everything() -> None:
    assert list(questions(Wanted())) == [{}]


@pytest.mark.parametrize(("since", "until", "asked"), [("20200101", "", "20200101-"), ("", "20200101", "-20200101")])
def test_a_range_of_dates_may_be_open(since: str, until: str, asked: str) -> None:
    assert list(questions(Wanted(since=since, until=until))) == [{"StudyDate": asked}]


def test_each_combination_is_asked_for() -> None:
    wanted = Wanted(since="2", until="3", modalities=("CR", "DX"), patient_ids=("A", "B"))
    asked = [(q["ModalitiesInStudy"], q["PatientID"], q["StudyDate"]) for q in questions(wanted)]
    assert asked == [(m, p, "2-3") for m in ("CR", "DX") for p in ("A", "B")]


def test_a_study_without_a_date_is_in_no_range() -> None:
    assert is_wanted(Wanted(), Found("1.2"), "")
    assert not is_wanted(Wanted(since="20200101"), Found("1.2"), "")
    assert not is_wanted(Wanted(until="20200101"), Found("1.2"), "")


def test_a_wildcard_is_a_value_like_any_other() -> None:
    assert not is_wanted(Wanted(patient_ids=("A*",)), Found("1.2"), "AB")
    assert is_wanted(Wanted(patient_ids=("A*",)), Found("1.2"), "A*")
