"""A model that crashes, hangs, runs out of memory or raises costs its job an attempt, and nobody else anything."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from receiving import uid_of
from running import RunningNode

from node.domain import Job, JobState, StudyState
from node.network.standin import StandIn
from node.storage import jobs

pytestmark = [pytest.mark.fault, pytest.mark.dcmtk, pytest.mark.slow]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    made = StandIn(tmp_path_factory.mktemp("pacs"), ae_title="PACS")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(pacs: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    quick = {"OVERREAD_INFER__DEADLINE_SECONDS": "5", "OVERREAD_INFER__LEASE_SECONDS": "60"}
    made = RunningNode(tmp_path_factory.mktemp("node"), ("PACS", pacs.port), stub=True, **quick)
    made.start()
    yield made
    made.stop()


def job_of(node: RunningNode, uid: str) -> Job | None:
    study = node.study(uid)
    found = jobs.of_study(node.parts.store, study.id) if study else []
    return found[0] if found else None


def given_up(node: RunningNode, path: Path) -> Job | None:
    job = job_of(node, uid_of(path))
    return job if job and job.state == JobState.DEAD else None


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("crash", "role.died role=infer code=-11"),
        ("hang", "model.hung seconds=5"),
        ("memory", "MemoryError"),
        ("raise", "ValueError"),
    ],
)
def test_what_goes_wrong_once_is_done_again(
    node: RunningNode, film: Callable[..., Path], storescu: Callable[..., bool], order: str, said: str
) -> None:
    path = film()
    node.order(order)
    assert storescu(node, path)
    study = node.finish(uid_of(path), seconds=60)
    (job,) = jobs.of_study(node.parts.store, study.id)
    assert (study.state, job.state) == (StudyState.ROUTED, JobState.DONE)
    assert said in node.log
    assert node.problems() == []


def test_a_poison_study_is_given_up_after_two_crashes_and_the_next_one_is_read(
    node: RunningNode, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    poison, harmless = film(), film()
    node.order("always crash")
    assert storescu(node, poison)
    dead = node.wait_for(lambda: given_up(node, poison), seconds=60)
    assert "ended 2 times while it had this job" in dead.reason
    (node.folder / "stub").unlink()
    assert storescu(node, harmless)
    node.finish(uid_of(harmless), seconds=60)
    study = node.study(uid_of(poison))
    assert study and jobs.retry(node.parts.store, study, now=0) == 1
    node.parts.bell.ring("infer")
    node.finish(uid_of(poison), seconds=60)
    assert node.problems() == []


def test_a_model_that_hits_the_memory_limit_is_given_up_and_the_node_lives(
    node: RunningNode, film: Callable[..., Path], storescu: Callable[..., bool]
) -> None:
    path = film()
    worker = node.pid("infer")
    limits = resource.prlimit(worker, resource.RLIMIT_AS)
    used = int(Path(f"/proc/{worker}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(worker, resource.RLIMIT_AS, (used + (256 << 20), limits[1]))
    try:
        node.order("always devour")
        assert storescu(node, path)
        dead = node.wait_for(lambda: given_up(node, path), seconds=60)
        assert dead.attempts == 3 and "MemoryError" in dead.reason
        (node.folder / "stub").unlink()
        other = film()
        assert storescu(node, other)
        node.finish(uid_of(other), seconds=60)
    finally:
        resource.prlimit(worker, resource.RLIMIT_AS, limits)
    assert node.pid("infer") == worker
    assert node.problems() == []
