"""The receiver is killed, its disk fails, its system calls are watched: what was acknowledged is there."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from databases_made import WANTED
from network.peers import data_set_of
from receiving import copy_of, end, kept, receiving, sender_to, started
from running import RunningNode

pytestmark = [pytest.mark.fault, pytest.mark.slow]

KILLS = 100
# a server is asked to make the row safe, and its answer waited for
COMMIT = {
    "sqlite": r"(fsync|fdatasync)\(\d+<[^>]*overread\.db-wal>",
    "postgresql": r'sendto\(\d+<[^>]*>, "Q\\0\\0\\0\\vCOM',
}[WANTED]
SEED = 20260105


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    made = RunningNode(tmp_path / "node", ("PACS", 9), route="")
    yield made
    made.stop()


@pytest.fixture
def image(pydicom_file: Callable[[str], Path]) -> Path:
    return pydicom_file("CT_small.dcm")


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """The folder that the modality sends from."""
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class Modality:
    """Sends one new image after another, and the same one again until it was acknowledged."""

    def __init__(self, node: RunningNode, folder: Path, image: Path) -> None:
        self.acknowledged: dict[str, Path] = {}
        self.tries = 0
        self._node, self._folder, self._image = node, folder, image
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Modality:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        sender = sender_to(self._node)
        while not self._over.is_set():
            path = copy_of(self._image, self._folder)
            while not self._over.is_set():
                self.tries += 1
                ((_, outcome),) = sender.send([path])
                if outcome.status == 0x0000:
                    self.acknowledged[path.stem] = path
                    break
                time.sleep(0.02)
        sender.close()


def all_there(node: RunningNode, image: Path, acknowledged: dict[str, Path]) -> None:
    rows = kept(node, image)
    for uid, path in acknowledged.items():
        assert data_set_of(rows[uid].path) == data_set_of(path)
    assert node.problems() == []


def test_after_a_hundred_kills_everything_acknowledged_is_there_once(
    node: RunningNode, image: Path, sent: Path
) -> None:
    chance = random.Random(SEED)
    process = started(node)
    try:
        with Modality(node, sent, image) as modality:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.02, 0.4))
                end(process)
                process = started(node)
            count = len(modality.acknowledged)
            node.wait_for(lambda: len(modality.acknowledged) > count + 3)
        # a kill may come before anything was sent
        assert modality.tries > len(modality.acknowledged) > KILLS / 4
        all_there(node, image, modality.acknowledged)
    finally:
        end(process)


def test_success_is_answered_after_bytes_name_and_row_are_safe(
    node: RunningNode, image: Path, sent: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto"
    with receiving(node, under=[tool("strace"), "-f", "-y", "-s", "8", "-o", str(trace), "-e", calls]):
        sender = sender_to(node)
        for _ in range(2):  # the first one also notes who is sending
            ((_, outcome),) = sender.send([copy_of(image, sent)])
            assert outcome.status == 0x0000
        sender.close()
    lines = trace.read_text().splitlines()
    answers = [i for i, line in enumerate(lines) if re.search(r'sendto\(\d+<(TCP|socket).*"\\4\\0', line)]
    between = "\n".join(lines[answers[-2] + 1 : answers[-1]])
    steps = [
        r"fsync\(\d+<[^>]*/spool/tmp/[^>]*incoming-",
        r"rename[^\n]*/spool/tmp/[^\n]*incoming-[^\n]*/obj/",
        r"fsync\(\d+<[^>]*/obj/[^>]*>",
        COMMIT,
    ]
    places = [re.search(step, between) for step in steps]
    assert all(places), between
    assert [p.start() for p in places if p] == sorted(p.start() for p in places if p), between


def test_an_fsync_that_fails_is_no_success_and_leaves_no_row(node: RunningNode, image: Path, sent: Path) -> None:
    half = "enable_random name=posix/io/sync/fsync,probability=0.3"
    answers: dict[str, int | None] = {}
    # on from the beginning the role may not get up: its folders are synced too
    with receiving(node, under=[tool("fiu-run"), "-x", "-f", str(node.folder / "fiu")]) as process:
        tell = [tool("fiu-ctrl"), "-f", str(node.folder / "fiu"), "-c", half, str(process.pid)]
        subprocess.run(tell, check=True, capture_output=True, timeout=20)
        sender = sender_to(node)
        for _ in range(30):
            path = copy_of(image, sent)
            ((_, outcome),) = sender.send([path])
            answers[path.stem] = outcome.status
        sender.close()
    refused = {uid for uid, status in answers.items() if status == 0xA700}
    taken = {uid for uid, status in answers.items() if status == 0x0000}
    assert refused and taken and len(refused) + len(taken) == 30
    rows = kept(node, image)
    assert not refused & set(rows)
    all_there(node, image, {uid: sent / f"{uid}.dcm" for uid in taken})
