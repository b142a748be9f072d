"""What a person may ask a pull for: dates, names, and lists as spreadsheets save them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from node.errors import PullError
from node.network.source import Wanted
from node.pipeline.asked import questions_of, wanted


def test_days_are_written_in_two_ways() -> None:
    assert wanted(since="2026-01-31", until="20260201") == [Wanted(since="20260131", until="20260201")]


def test_several_modalities_are_given_at_once_or_one_by_one() -> None:
    assert wanted(modalities=["cr, DX", "CR", "CT"]) == [Wanted(modalities=("CR", "DX", "CT"))]


def test_uids_and_accession_numbers_are_asked_for_one_after_the_other_within_the_same_days() -> None:
    assert wanted(since="20260101", studies=["1.2.3"], accessions=["A1", "A1", "A2"]) == [
        Wanted(since="20260101", study_instance_uids=("1.2.3",)),
        Wanted(since="20260101", accession_numbers=("A1", "A2")),
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {},
            "pull what? Give dates (--since, --until), --modality, --accession, --accessions FILE, --study or "
            "--patient",
        ),
        ({"since": "31.01.2026"}, "--since 31.01.2026: a day is written 2026-01-31 or 20260131"),
        ({"until": "2026-02-30"}, "--until 2026-02-30: a day is written 2026-01-31 or 20260131"),
        ({"since": "20260201", "until": "20260131"}, "--since 20260201 is after --until 20260131"),
        ({"modalities": ["X-Ray!"]}, "--modality X-Ray!: codes such as CR,DX"),
        ({"accessions": ["A*"]}, "--accession 'A*': 1 to 64 printable characters, without * ? and backslash"),
        ({"patients": [" "]}, "--patient ' ': 1 to 64 printable characters, without * ? and backslash"),
        ({"studies": ["1.2.x"]}, "--study '1.2.x': a Study Instance UID is digits and dots, at most 64"),
    ],
)
def test_what_cannot_be_asked_is_said_with_what_can(given: dict[str, object], words: str) -> None:
    with pytest.raises(PullError, match=f"^{re.escape(words)}$"):
        wanted(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "accession\nA1\nA2\n",
        "AccessionNumber,site\r\nA1,x\r\nA2,y\r\n",
        "\ufeffsite;Accession Number\nx;A1\n;\ny; A2 \n",
        'accession_number\tnote\n"A1"\t"with, commas"\nA2\t\n',
    ],
)
def test_a_list_is_read_as_spreadsheets_save_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(text.encode())
    assert wanted(listed=file) == [Wanted(accession_numbers=("A1", "A2"))]


def test_a_row_with_a_uid_is_asked_for_by_it(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("StudyInstanceUID,accession\n1.2.3,A1\n,A2\n")
    assert wanted(listed=file) == [Wanted(study_instance_uids=("1.2.3",)), Wanted(accession_numbers=("A2",))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "patient,date\n1,2\n",
            "line 1 names no column accession, AccessionNumber or StudyInstanceUID (it is: 'patient,date')",
        ),
        ("", "line 1 names no column accession, AccessionNumber or StudyInstanceUID (it is: '')"),
        ("accession\n", "names no study"),
        ("accession,note\nA1,x\n,y\n", "line 3: has no accession"),
        ("StudyInstanceUID\n1.2.3\nA7\n", "line 3: 'A7': a Study Instance UID is digits and dots, at most 64"),
        ("accession\nA?\n", "line 2: 'A?': 1 to 64 printable characters, without * ? and backslash"),
    ],
)
def test_a_list_that_is_wrong_is_said_so_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "list.csv"
    file.write_text(text)
    with pytest.raises(PullError, match=f"^{re.escape(f'{file}: {words}')}$"):
        wanted(listed=file)


def test_a_list_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="cannot be read: No such file"):
        wanted(listed=tmp_path / "none.csv")
    file = tmp_path / "latin.csv"
    file.write_bytes("accession\nÄ1\n".encode("latin-1"))
    with pytest.raises(PullError, match="not UTF-8: save it as CSV UTF-8"):
        wanted(listed=file)


def test_long_lists_and_long_times_are_asked_for_in_parts_that_are_always_the_same() -> None:
    names = tuple(f"1.2.{n}" for n in range(250))
    parts = questions_of([Wanted(modalities=("CR",), study_instance_uids=names), Wanted(accession_numbers=("A1",))])
    assert [len(p.study_instance_uids) for p in parts] == [100, 100, 50, 0]
    assert tuple(uid for p in parts for uid in p.study_instance_uids) == names
    assert {p.modalities for p in parts[:3]} == {("CR",)} and parts[3].accession_numbers == ("A1",)
    months = questions_of([Wanted(since="20231215", until="20240301", modalities=("DX",))])
    assert [(p.since, p.until) for p in months] == [
        ("20231215", "20231231"),
        ("20240101", "20240131"),
        ("20240201", "20240229"),
        ("20240301", "20240301"),
    ]
    for whole in (Wanted(since="20200101"), Wanted(since="20200101", until="20201231", patient_ids=("P",))):
        assert questions_of([whole]) == [whole]
