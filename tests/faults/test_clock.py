"""The clock of a whole node is set, forward and back, while something waits in every verb: nothing is stuck, early or
doubled. libfaketime stands for whoever sets it; the monotonic clock stays, as it does on a real machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from receiving import counted, sender_to, uid_of
from running import RunningNode

from node.domain import JobState, StudyState
from node.network.orthanc import free_port
from node.network.standin import StandIn
from node.storage import deliveries, instances, jobs

pytestmark = [pytest.mark.fault, pytest.mark.slow]

DAY = 86400


class Clock:
    """What the node's processes take for the time: the real one and some seconds."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, seconds: int) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(f"{seconds:+d}\n")
        part.rename(self._file)

    def variables(self) -> dict[str, str]:
        (library,) = Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


@pytest.fixture
def clock(tmp_path: Path, program: Callable[[str], str]) -> Clock:
    program("faketime")
    return Clock(tmp_path / "clock")


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandIn]:
    made = StandIn(tmp_path / "pacs", ae_title="PACS", port=free_port())
    yield made
    made.stop()


@pytest.fixture
def node(tmp_path: Path, clock: Clock, pacs: StandIn) -> Iterator[RunningNode]:
    more = clock.variables() | {"OVERREAD_DELIVER__RETRY_CAP_SECONDS": "3600"}
    made = RunningNode(tmp_path / "node", ("PACS", pacs.port), quiet=8, released=1, stub=True, **more)
    made.start()
    yield made
    made.stop()


def reported(node: RunningNode, path: Path) -> bool:
    study = node.study(uid_of(path))
    found = jobs.of_study(node.parts.store, study.id) if study else []
    return [job.state for job in found] == [JobState.DONE]


def test_a_clock_that_is_set_forward_makes_nothing_early_and_gives_nothing_up(
    node: RunningNode, clock: Clock, pacs: StandIn, film: Callable[..., Path]
) -> None:
    first = film()
    series = {
        "StudyInstanceUID": dcmread(first).StudyInstanceUID,
        "SeriesInstanceUID": dcmread(first).SeriesInstanceUID,
    }
    waits_to_be_sent, late = film(), film(**series)
    quick, held = sender_to(node), sender_to(node)
    assert [o.status for _, o in quick.send([waits_to_be_sent])] == [0]
    quick.close()
    node.wait_for(lambda: reported(node, waits_to_be_sent), seconds=60)
    node.wait_for(lambda: deliveries.failing(node.parts.store))
    assert [o.status for _, o in held.send([first])] == [0]
    clock.set(100 * DAY)  # more than deliver.give_up_hours, retention.inputs_days and any lease
    node.wait_for(lambda: f"clock.set seconds=+{100 * DAY}" in node.log, seconds=90)
    study = node.study(uid_of(first))
    assert study and study.state is StudyState.RECEIVING
    assert [o.status for _, o in held.send([late])] == [0]
    held.close()
    pacs.start()
    for path in (first, waits_to_be_sent):
        study = node.finish(uid_of(path), seconds=60)
        assert study.revision == 1
        assert counted(pacs, uid_of(path))["SR"] == 1
    study = node.study(uid_of(first))
    assert study and len(instances.of_study(node.parts.store, study.id)) == 2
    assert node.problems() == []


def test_a_clock_that_is_set_back_leaves_nothing_stuck(
    node: RunningNode, clock: Clock, pacs: StandIn, film: Callable[..., Path]
) -> None:
    waits_to_be_sent, waits_for_a_worker, arriving = film(), film(), film()
    sender = sender_to(node)
    assert [o.status for _, o in sender.send([waits_to_be_sent])] == [0]
    node.wait_for(lambda: reported(node, waits_to_be_sent), seconds=60)
    node.wait_for(lambda: deliveries.failing(node.parts.store))
    assert [o.status for _, o in sender.send([arriving])] == [0]
    sender.close()
    clock.set(-DAY)
    node.wait_for(lambda: f"clock.set seconds=-{DAY}" in node.log, seconds=90)
    node.order("raise")
    assert [o.status for _, o in sender.send([waits_for_a_worker])] == [0]
    sender.close()
    pacs.start()
    for path in (waits_to_be_sent, waits_for_a_worker, arriving):
        assert node.finish(uid_of(path), seconds=60).revision == 1
        assert counted(pacs, uid_of(path)) == {"SR": 1, "OT": 1}
    assert node.problems() == []
