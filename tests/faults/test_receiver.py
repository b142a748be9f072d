"""The receiver is killed a hundred times under load: what was acknowledged is there, once, as it was sent."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from network.peers import data_set_of, listens
from pydicom import dcmread, dcmwrite
from pydicom.uid import generate_uid
from running import RunningNode

from node.domain import Instance
from node.network.sender import Sender
from node.storage import instances

pytestmark = [pytest.mark.fault, pytest.mark.slow]

KILLS = 100
SEED = 20260105


class Modality:
    """Sends one new image after another, and the same one again until it was acknowledged."""

    def __init__(self, port: int, folder: Path, image: Path) -> None:
        self.acknowledged: dict[str, Path] = {}
        self.tries = 0
        self._port, self._folder, self._image = port, folder, image
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Modality:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        ds = dcmread(self._image)
        sender = Sender(
            calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=self._port, timeout=5
        )
        while not self._over.is_set():
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            path = self._folder / f"{ds.SOPInstanceUID}.dcm"
            dcmwrite(path, ds, enforce_file_format=True)
            while not self._over.is_set():
                self.tries += 1
                ((_, outcome),) = sender.send([path])
                if outcome.status == 0x0000:
                    self.acknowledged[ds.SOPInstanceUID] = path
                    break
                time.sleep(0.02)
        sender.close()


def started(node: RunningNode) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "node.service", "receive", str(node.file)]
    with (node.folder / "node.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.PIPE)
    until = time.monotonic() + 30
    while not listens(node.port):
        assert process.poll() is None and time.monotonic() < until, node.log[-2000:]
        time.sleep(0.01)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def test_after_a_hundred_kills_everything_acknowledged_is_there_once(
    tmp_path: Path, pydicom_file: Callable[[str], Path]
) -> None:
    node = RunningNode(tmp_path / "node", ("PACS", 9), route="")
    sent = tmp_path / "sent"
    sent.mkdir()
    chance = random.Random(SEED)
    image = pydicom_file("CT_small.dcm")
    process = started(node)
    try:
        with Modality(node.port, sent, image) as modality:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.02, 0.4))
                end(process)
                process = started(node)
            count = len(modality.acknowledged)
            node.wait_for(lambda: len(modality.acknowledged) > count + 3)
    finally:
        end(process)
    assert modality.tries > len(modality.acknowledged) > KILLS / 4
    try:
        rows = kept_of(node, image)
        kept = {row.sop_instance_uid: row for row in rows}
        assert len(kept) == len(rows)
        for uid, path in modality.acknowledged.items():
            assert data_set_of(kept[uid].path) == data_set_of(path)
        assert node.problems() == []
    finally:
        node.stop()


def kept_of(node: RunningNode, image: Path) -> list[Instance]:
    study = node.study(str(dcmread(image).StudyInstanceUID))
    assert study
    return instances.of_study(node.parts.store, study.id)
