"""A pull receives in a process of its own: a node that dies costs it nothing, and what it leaves is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from house import make_image
from pydicom.uid import generate_uid
from running import ROUTE, RunningNode
from shelf_made import Shelf, message
from web_made import Reply, Request, Web

from node.network.orthanc import free_port
from node.storage import instances

pytestmark = [pytest.mark.fault, pytest.mark.slow]


class Stalling:
    """A DICOMweb service with one study of three images, silent in the middle of the second one until it is told."""

    def __init__(self, folder: Path) -> None:
        self.study = generate_uid()
        grey = np.zeros((512, 512), np.uint16)  # more than any buffer on the way holds
        files = [make_image(folder / f"{n}.dcm", pixels=grey, StudyInstanceUID=self.study) for n in range(3)]
        self._images = [file.read_bytes() for file in files]
        self._shelf = Shelf()
        self._shelf.add(self.study, *self._images)
        self.go_on = threading.Event()
        self.web = Web()
        self.web.reply = self._reply

    def fetches(self) -> list[str]:
        paths = [r.path.partition("?")[0].removeprefix(f"/dicom-web/studies/{self.study}") for r in self.web.requests]
        return ["study" if path == "" else "instance" for path in paths if path == "" or path.count("/") == 4]

    def _reply(self, request: Request) -> Reply:
        reply = self._shelf(request)
        if request.path.partition("?")[0].endswith(self.study):
            reply.stall = len(message(self._images[0])) + len(self._images[1]) // 2, self.go_on
        return reply


@pytest.fixture
def stalling(tmp_path: Path) -> Iterator[Stalling]:
    made = Stalling(tmp_path)
    yield made
    made.go_on.set()
    made.web.stop()


@pytest.fixture
def node(tmp_path: Path, stalling: Stalling) -> Iterator[RunningNode]:
    peer = f'\n[[peer]]\nname = "public"\nurl = "{stalling.web.url}"\nmay = ["query"]\n'
    made = RunningNode(tmp_path / "node", ("NOBODY", free_port()), stub=True, route=ROUTE + peer)
    yield made
    made.stop()


def pull(node: RunningNode, *what: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "node.cli", "pull", *what, "--config", str(node.file)]
    with (node.folder / "pull.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def half(node: RunningNode) -> list[Path]:
    """What a pull is receiving just now."""
    return [path for path in node.parts.spool.tmp.glob("pull-*/*") if path.stat().st_size]


def kept(node: RunningNode, uid: str) -> list[int]:
    study = node.study(uid)
    return [i.receipts for i in instances.of_study(node.parts.store, study.id)] if study else []


def test_a_node_that_dies_and_starts_again_takes_nothing_from_a_pull(node: RunningNode, stalling: Stalling) -> None:
    process = pull(node, "--from", "public", "--since", "2020-01-01")
    node.start()
    (file,) = node.wait_for(lambda: half(node) if kept(node, stalling.study) else [])
    before = node.pid("receive")
    node.kill("receive")
    node.wait_for(lambda: node.is_ready() and node.pid("receive") != before)
    node.kill()
    node.start()
    # as the dispatch role does it, and much later than it would
    assert node.parts.spool.sweep_tmp(time.time() + 86400, older_than=60) == 0
    assert half(node) == [file]
    stalling.go_on.set()
    assert process.wait(30) == 0, (node.folder / "pull.log").read_text()
    assert kept(node, stalling.study) == [1, 1, 1]
    assert stalling.fetches() == ["study"]
    assert list(node.parts.spool.tmp.glob("pull-*")) == []
    assert node.problems() == []


def test_what_a_killed_pull_was_receiving_is_swept_and_the_rest_is_asked_for(
    node: RunningNode, stalling: Stalling
) -> None:
    node.start()
    process = pull(node, "--from", "public", "--since", "2020-01-01")
    (file,) = node.wait_for(lambda: half(node) if kept(node, stalling.study) else [])
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert file.exists() and kept(node, stalling.study) == [1]
    assert node.parts.spool.sweep_tmp(time.time() + 120, older_than=120) == 1
    assert not file.parent.exists()
    assert pull(node, "--resume", "1").wait(30) == 0, (node.folder / "pull.log").read_text()
    assert kept(node, stalling.study) == [1, 1, 1]
    assert stalling.fetches() == ["study", "instance", "instance"]
    assert node.problems() == []
