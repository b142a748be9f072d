"""A node's database is deleted: what was found and sent stays as it was, and no model is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from running import RunningNode

from node.domain import JobState, StudyState
from node.network.standin import StandIn
from node.storage import jobs

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.dcmtk]


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    scp = StandIn(tmp_path / "pacs", ae_title="PACS")
    scp.start()
    yield scp
    scp.stop()


@pytest.fixture
def node(tmp_path: Path, pacs: StandIn) -> Iterator[RunningNode]:
    made = RunningNode(tmp_path / "node", (pacs.ae_title, pacs.port), quiet=1, stub=True)
    made.start()
    yield made
    made.stop()


def held(pacs: StandIn) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in pacs.received()}


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def test_results_outlive_the_database_and_a_late_image_names_them(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    uid = generate_uid()
    films = [film(StudyInstanceUID=uid), film()]
    for path in films:
        assert storescu(node, path)
    for path in films:
        node.finish(uid_of(path))
    before = held(pacs)
    assert (len(before), node.asked()) == (4, 2)
    node.stop()
    node.lose_the_database()
    node.start()
    for path in films:
        node.finish(uid_of(path), revision=2)
    assert (held(pacs), node.asked()) == (before, 2)
    assert node.problems() == []
    assert storescu(node, film(StudyInstanceUID=uid))
    node.finish(uid, revision=3)
    new = [dcmread(path) for path in pacs.received() if path.stem not in before]
    (report,) = [ds for ds in new if ds.Modality == "SR"]
    (series,) = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID in before
    assert node.problems() == []


@pytest.mark.parametrize(
    ("point", "asked"),
    [
        ("spool.notes.before_rename", 2),
        ("spool.notes.after_rename", 1),
        ("report.end", 1),
        ("deliver.sent", 1),
    ],
)
def test_a_kill_and_then_the_loss_of_the_database_leave_one_report_and_one_picture(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path], storescu: Callable[..., bool], point: str, asked: int
) -> None:
    """Between a note and its transaction the note counts; before it is whole the job is done again, under its name."""
    path = film()
    node.arm(point)
    assert storescu(node, path)
    node.wait_for(node.went_off)
    node.kill()
    node.lose_the_database()
    node.start()
    study = node.finish(uid_of(path), revision=1 if asked > 1 else 2)
    assert study.state is StudyState.ROUTED
    assert sorted(dcmread(p).Modality for p in pacs.received()) == ["OT", "SR"]
    assert node.asked() == asked
    assert [j.state for j in jobs.of_study(node.parts.store, study.id)] == [JobState.DONE]
    assert node.problems() == []


def test_a_kill_between_note_and_transaction_repeats_the_job_under_the_same_names(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    path = film()
    node.arm("spool.notes.after_folder")
    assert storescu(node, path)
    node.wait_for(node.went_off)
    node.finish(uid_of(path))
    assert sorted(dcmread(p).Modality for p in pacs.received()) == ["OT", "SR"]
    assert len(list(node.parts.spool.results.rglob("*.dcm"))) == 2
    assert node.asked() == 2
    assert node.problems() == []
