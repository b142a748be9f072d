"""An Orthanc that sends to us is asked how many instances it has: the study waits for the last one, and no longer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from running import RunningNode

from node.domain import StudyState
from node.network.orthanc import Orthanc, free_port
from node.storage import events, expected

pytestmark = [pytest.mark.orthanc, pytest.mark.slow]


@pytest.fixture(scope="module")
def orthanc(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program("Orthanc")
    made = Orthanc(tmp_path_factory.mktemp("orthanc"), node_ae_title="OVERREAD", node_port=free_port())
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def node(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    made = RunningNode(
        tmp_path_factory.mktemp("node"),
        (orthanc.ae_title, orthanc.port),
        port=orthanc.node_port,
        stub=True,
        quiet=5,
        released=1,
        expected=6,
        may=("send", "receive", "query"),
    )
    made.start()
    yield made
    made.stop()


def put(orthanc: Orthanc, film: Callable[..., Path], study: str, number: int) -> list[str]:
    """So many films of a study into Orthanc; its ids of them."""
    paths = [film(StudyInstanceUID=study) for _ in range(number)]
    return [str(json.loads(orthanc.request("/instances", path.read_bytes()))["ID"]) for path in paths]


def send(orthanc: Orthanc, *ids: str) -> None:
    orthanc.post("/modalities/node/store", {"Resources": list(ids), "Synchronous": True})


def settled_by(node: RunningNode, uid: str, revision: int) -> str:
    study = node.wait_for(lambda: (s := node.study(uid)) and s.revision >= revision and s, seconds=20)
    return str(study.settled_by)


def seconds_to_settle(node: RunningNode, uid: str) -> float:
    study = node.study(uid)
    assert study and study.settled_at
    return study.settled_at - study.last_received_at


def test_a_study_waits_for_the_last_instance_and_no_longer(
    orthanc: Orthanc, node: RunningNode, film: Callable[..., Path]
) -> None:
    uid = generate_uid()
    ids = put(orthanc, film, uid, 5)
    send(orthanc, *ids[:3])
    study = node.wait_for(lambda: node.study(uid))
    told = node.wait_for(lambda: expected.of_study(node.parts.store, study.id))
    assert told.instances == 5
    time.sleep(3)
    study = node.study(uid)
    assert study and study.state is StudyState.RECEIVING, "released and quiet, and not complete"
    send(orthanc, *ids[3:])
    assert settled_by(node, uid, 1) == "all 5 instances that pacs counts are here"
    assert seconds_to_settle(node, uid) < 2
    node.finish(uid)
    said = shown(node, uid)
    assert "pacs counts 5 instances (asked " in said
    assert "settled as revision 1: all 5 instances that pacs counts are here" in said

    # Ours are among what it counts the next time: a report and a picture
    (late,) = put(orthanc, film, uid, 1)
    before = len(orthanc.instances(uid))
    send(orthanc, late)
    assert settled_by(node, uid, 2) == f"all {before} instances that pacs counts are here"
    assert before > 6


def test_what_never_comes_is_waited_for_up_to_a_bound(
    orthanc: Orthanc, node: RunningNode, film: Callable[..., Path]
) -> None:
    uid = generate_uid()
    ids = put(orthanc, film, uid, 5)
    send(orthanc, *ids[:3])
    assert settled_by(node, uid, 1) == "quiet for 6 s, only 3 of 5 that pacs counts"
    assert 5.9 < seconds_to_settle(node, uid) < 9
    study = node.finish(uid)
    texts = [event.text for event in events.of_study(node.parts.store, study.id)]
    assert "settled as revision 1: quiet for 6 s, only 3 of 5 that pacs counts" in texts


def shown(node: RunningNode, uid: str) -> str:
    command = [sys.executable, "-m", "node.cli", "show", uid, "--config", str(node.file)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
