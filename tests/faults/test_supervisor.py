"""A crash of one role stops no other; what died comes back; stopping is orderly."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from running import RunningNode

from node.network.orthanc import free_port
from node.network.sender import Sender
from node.storage import roles

pytestmark = [pytest.mark.fault, pytest.mark.slow]

NOWHERE = ("PACS", 9)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    made = RunningNode(tmp_path_factory.mktemp("node"), NOWHERE, port=free_port(), route="")
    made.start()
    yield made
    made.stop()


def pids(node: RunningNode) -> dict[str, int]:
    said: dict[str, dict[str, Any]] = roles.status(node.settings.node.data_dir)
    return {role: int(one["pid"]) for role, one in said.items()}


@pytest.mark.parametrize("role", roles.ROLES)
def test_a_killed_role_comes_back_and_the_others_stay(node: RunningNode, role: str) -> None:
    before = pids(node)
    node.kill(role)
    node.wait_for(lambda: node.is_ready() and pids(node)[role] != before[role])
    after = pids(node)
    assert {r for r in after if after[r] == before[r]} == set(roles.ROLES) - {role}


def test_a_hangup_of_all_processes_stops_nothing(node: RunningNode) -> None:
    before = pids(node)
    assert node.process is not None
    for pid in (node.process.pid, *before.values()):
        os.kill(pid, signal.SIGHUP)
    node.wait_for(lambda: roles.supervisors(node.settings.node.data_dir)["supervisor"]["ended"] == 1)
    assert node.is_ready() and pids(node) == before


def test_a_role_that_dies_again_and_again_is_not_restarted_at_once_for_ever(node: RunningNode) -> None:
    for _ in range(2):
        before = pids(node)["receive"]
        node.kill("receive")
        node.wait_for(lambda before=before: node.is_ready() and pids(node)["receive"] != before)
    waits = re.findall(r"role.died role=receive code=-9 restart_in=([0-9.]+)", node.log)
    assert float(waits[-1]) > 0


def test_a_stopped_node_ends_in_order_and_leaves_no_process(tmp_path: Path) -> None:
    node = RunningNode(tmp_path, NOWHERE, route="")
    node.start()
    started = pids(node)
    assert node.stop() == 0
    for pid in started.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert "Traceback" not in node.log


def test_roles_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    node = RunningNode(tmp_path, NOWHERE, route="")
    node.start()
    assert node.process is not None
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    until = time.monotonic() + 15
    while time.monotonic() < until and any(
        one["running"] for one in roles.status(node.settings.node.data_dir).values()
    ):
        time.sleep(0.05)
    assert not any(one["running"] for one in roles.status(node.settings.node.data_dir).values())
    node.process = None


def test_what_was_sent_while_dispatch_was_dead_is_settled_afterwards(
    node: RunningNode, film: Callable[..., Path]
) -> None:
    path = film("693_UNCR.dcm")
    os.kill(pids(node)["dispatch"], signal.SIGSTOP)
    try:
        sender = Sender(
            calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=10
        )
        assert [o.kind for _, o in sender.send([path])] == ["stored"]
        sender.close()
    finally:
        os.kill(pids(node)["dispatch"], signal.SIGKILL)
    node.finish(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID))
