"""A process is stopped in the middle of its work and goes on much later: nothing is done twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from receiving import counted, sender_to, uid_of
from running import RunningNode
from sqlalchemy import select

from node.domain import JobState
from node.network.standin import StandIn
from node.storage import jobs, schema

pytestmark = [pytest.mark.fault, pytest.mark.slow]

LEASE = 6.0


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    made = StandIn(tmp_path_factory.mktemp("pacs"), ae_title="PACS")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(pacs: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    quick = {"OVERREAD_INFER__DEADLINE_SECONDS": f"{LEASE - 1}", "OVERREAD_INFER__LEASE_SECONDS": f"{LEASE}"}
    quick |= {"OVERREAD_DELIVER__TIMEOUT_SECONDS": "2"}
    folder = tmp_path_factory.mktemp("node")
    made = RunningNode(folder, ("PACS", pacs.port), stub=True, devices=("gpu:0", "gpu:1"), **quick)
    made.start()
    yield made
    made.stop()


def send(node: RunningNode, path: Path) -> None:
    sender = sender_to(node)
    assert [o.status for _, o in sender.send([path])] == [0x0000]
    sender.close()


def worker_of(node: RunningNode, path: Path) -> str:
    """The process that has the study's job, or ""."""
    study = node.study(uid_of(path))
    query = select(schema.job.c.worker).where(schema.job.c.state == JobState.LEASED)
    with node.parts.store.read() as connection:
        found = connection.execute(query.where(schema.job.c.study_id == (study.id if study else 0))).scalar()
    return str(found or "").partition("@")[0]


def test_a_worker_that_sleeps_beyond_its_lease_answers_for_nobody(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path]
) -> None:
    path = film()
    node.order("slow")
    send(node, path)
    sleeper = node.wait_for(lambda: worker_of(node, path))
    os.kill(node.pid(sleeper), signal.SIGSTOP)
    try:
        study = node.finish(uid_of(path), seconds=60)
        (job,) = jobs.of_study(node.parts.store, study.id)
        assert (job.state, job.attempts) == (JobState.DONE, 2)
        before = {p: p.read_bytes() for p in pacs.received()}
    finally:
        os.kill(node.pid(sleeper), signal.SIGCONT)
    # it answers in vain, or its own deadline ends it
    node.wait_for(lambda: "job.answer-void" in node.log or f"role.died role={sleeper} code=75" in node.log)
    node.wait_for(node.is_ready)
    assert counted(pacs, uid_of(path)) == {"SR": 1, "OT": 1}
    assert {p: p.read_bytes() for p in pacs.received()} == before
    assert jobs.of_study(node.parts.store, study.id) == [job]
    assert node.problems() == []


def test_dispatch_that_sleeps_while_it_sends_doubles_nothing(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path]
) -> None:
    path = film()
    dispatch = node.pid("dispatch")
    stopped: list[str] = []

    def stop_the_sender(uid: str) -> int:
        if not stopped:
            os.kill(dispatch, signal.SIGSTOP)
        stopped.append(uid)
        return 0x0000

    pacs.answer = stop_the_sender
    try:
        send(node, path)
        node.wait_for(lambda: stopped)
        time.sleep(3)  # longer than deliver.timeout_seconds
        assert node.study(uid_of(path)) is not None
        assert len(stopped) == 1
        os.kill(dispatch, signal.SIGCONT)
        node.finish(uid_of(path), seconds=60)
    finally:
        pacs.answer = None
        os.kill(dispatch, signal.SIGCONT)
    assert counted(pacs, uid_of(path)) == {"SR": 1, "OT": 1}
    assert node.pid("dispatch") == dispatch
    assert node.problems() == []


def test_a_machine_that_sleeps_goes_on_where_it_was(
    node: RunningNode, pacs: StandIn, film: Callable[..., Path]
) -> None:
    path = film()
    assert node.process is not None
    everybody = [node.process.pid, *(int(said["pid"]) for said in node.said().values())]
    node.order("slow")
    send(node, path)
    node.wait_for(lambda: worker_of(node, path))
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(LEASE + 1)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    node.finish(uid_of(path), seconds=60)
    assert counted(pacs, uid_of(path)) == {"SR": 1, "OT": 1}
    assert node.problems() == []
