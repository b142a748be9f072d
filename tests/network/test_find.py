"""C-FIND for studies against an independent PACS that tells more or less."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import make_image
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from query_scp_made import QueryScp

from node.errors import AssociationFailed, PeerError
from node.network import find
from node.network.find import Finder
from node.network.link import Target
from node.network.source import Wanted


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[QueryScp]:
    made = QueryScp()
    for n, (date, modality) in enumerate(
        [("20260101", "CR"), ("20260115", "DX"), ("20260201", "CT"), ("20260301", "CR")]
    ):
        made.hold(
            make_image(
                tmp_path / f"{n}.dcm",
                StudyDate=date,
                Modality=modality,
                AccessionNumber=f"A{n}",
                PatientID=f"P{n // 2}",
            )
        )
    yield made
    made.stop()


@pytest.fixture
def finder(pacs: QueryScp) -> Iterator[Finder]:
    made = Finder(Target("OVERREAD", "PACS", "127.0.0.1", pacs.port, 3))
    yield made
    made.close()


def found(finder: Finder, **keys: object) -> list[str]:
    return sorted(study.accession_number for study in finder.studies(Wanted(**keys)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "accessions"),
    [
        ({}, ["A0", "A1", "A2", "A3"]),
        ({"since": "20260115"}, ["A1", "A2", "A3"]),
        ({"until": "20260115"}, ["A0", "A1"]),
        ({"since": "20260102", "until": "20260201"}, ["A1", "A2"]),
        ({"modalities": ("CR", "DX")}, ["A0", "A1", "A3"]),
        ({"modalities": ("CR",), "since": "20260102"}, ["A3"]),
        ({"accession_numbers": ("A3", "A1", "A9")}, ["A1", "A3"]),
        ({"accession_numbers": ("A3", "A1"), "modalities": ("DX",)}, ["A1"]),
        ({"patient_ids": ("P1",)}, ["A2", "A3"]),
        ({"patient_ids": ("P1",), "accession_numbers": ("A0", "A2")}, ["A2"]),
    ],
)
def test_what_matches_is_found_once(finder: Finder, keys: dict[str, object], accessions: list[str]) -> None:
    assert found(finder, **keys) == accessions


def test_studies_are_found_by_their_uids_with_what_is_told_of_them(finder: Finder, pacs: QueryScp) -> None:
    uid = str(pacs.held[1].StudyInstanceUID)
    (study,) = finder.studies(Wanted(study_instance_uids=(uid, generate_uid())))
    assert (study.study_instance_uid, study.study_date, study.modalities, study.instances) == (
        uid,
        "20260115",
        ("DX",),
        1,
    )


def test_all_questions_go_over_one_association(finder: Finder, pacs: QueryScp) -> None:
    found(finder, accession_numbers=("A0", "A1", "A2"))
    finder.count(str(pacs.held[0].StudyInstanceUID))
    assert pacs.associations == 1


def test_a_pacs_that_neither_tells_nor_matches_modalities_is_asked_for_its_series(
    finder: Finder, pacs: QueryScp
) -> None:
    pacs.tells = set()
    assert found(finder, modalities=("DX", "CT")) == ["A1", "A2"]
    assert "SERIES" in pacs.asked


def test_a_pacs_that_ignores_a_key_is_not_believed(
    finder: Finder, pacs: QueryScp, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = lambda asked: pacs.held  # noqa: E731
    monkeypatch.setattr(pacs, "_chosen", everything)
    assert found(finder, accession_numbers=("A2",)) == ["A2"]
    assert found(finder, since="20260201") == ["A2", "A3"]


@pytest.mark.parametrize("tells", [{"NumberOfStudyRelatedInstances"}, set()])
def test_instances_are_counted_also_where_the_pacs_does_not(
    finder: Finder, pacs: QueryScp, tmp_path: Path, tells: set[str]
) -> None:
    uid = str(pacs.held[0].StudyInstanceUID)
    for n in range(2):
        pacs.hold(make_image(tmp_path / f"more{n}.dcm", StudyInstanceUID=uid))
    pacs.tells = tells
    assert finder.count(uid) == 3
    assert finder.count(generate_uid()) == 0


@pytest.mark.parametrize("tells", [{"SOPClassesInStudy"}, set()])
def test_the_sop_classes_of_a_study_are_told(finder: Finder, pacs: QueryScp, tells: set[str]) -> None:
    pacs.tells = tells
    assert finder.sop_classes(str(pacs.held[0].StudyInstanceUID)) == (str(pacs.held[0].SOPClassUID),)
    assert finder.sop_classes(generate_uid()) == ()


def test_a_query_that_fails_is_no_answer(finder: Finder, pacs: QueryScp) -> None:
    pacs.found_status = 0xA700
    with pytest.raises(PeerError, match=r"the C-FIND was answered 0xA700, out of resources"):
        found(finder)
    pacs.found_status = 0
    assert len(found(finder)) == 4


def test_a_pacs_that_answers_with_everything_is_cut_short(finder: Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_ANSWERS", 2)
    with pytest.raises(PeerError, match="more than 2 matches: ask for fewer, by dates"):
        found(finder)


def test_an_association_that_the_pacs_had_ended_is_asked_for_again(finder: Finder, pacs: QueryScp) -> None:
    assert len(found(finder)) == 4
    for assoc in pacs._server.active_associations:
        assoc.abort()
    assert len(found(finder)) == 4
    assert pacs.associations == 2


def test_a_pacs_that_does_not_answer_a_count_does_not_hold_us(pacs: QueryScp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacs, "_chosen", lambda asked: time.sleep(4) or pacs.held)
    finder = Finder(Target("OVERREAD", "PACS", "127.0.0.1", pacs.port, 3), silence=0.5)
    started = time.monotonic()
    with pytest.raises(PeerError, match="did not answer in time"):
        finder.count(str(pacs.held[0].StudyInstanceUID))
    finder.close()
    assert time.monotonic() - started < 3.5


def test_a_pacs_that_is_not_there_is_explained(pacs: QueryScp) -> None:
    port = pacs.port
    pacs.stop()
    finder = Finder(Target("OVERREAD", "PACS", "127.0.0.1", port, 3))
    with pytest.raises(AssociationFailed, match=r"nothing listens at 127\.0\.0\.1"):
        found(finder)


def test_a_study_without_a_uid_is_left_out(
    finder: Finder, pacs: QueryScp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    odd = Dataset()
    odd.update(pacs.held[0])
    odd.StudyInstanceUID = ""
    pacs.held[0] = odd
    assert found(finder) == ["A1", "A2", "A3"]
    assert "find.no-uid" in caplog.text
