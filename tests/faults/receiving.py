"""A receive role alone, under whatever wraps its process; what is sent to a node, and what came back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from network.peers import listens
from pydicom import dcmread, dcmwrite
from pydicom.uid import generate_uid
from running import RunningNode

from node.domain import Instance
from node.network.sender import Sender
from node.network.standin import StandIn
from node.storage import instances


def started(node: RunningNode, *, under: Sequence[str] = ()) -> Receiver:
    """The receive role of a node, listening; `under` stands before its command."""
    command = [*under, sys.executable, "-m", "node.service", "receive", str(node.file)]
    with (node.folder / "node.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.PIPE, start_new_session=True)
    until = time.monotonic() + 30
    while not listens(node.port):
        assert process.poll() is None and time.monotonic() < until, node.log[-2000:]
        time.sleep(0.01)
    return process


Receiver = subprocess.Popen[bytes]


def end(process: Receiver) -> None:
    os.killpg(process.pid, signal.SIGKILL)  # also what wraps it
    process.communicate()


@contextmanager
def receiving(node: RunningNode, *, under: Sequence[str] = ()) -> Iterator[Receiver]:
    process = started(node, under=under)
    try:
        yield process
    finally:
        end(process)


def sender_to(node: RunningNode, *, timeout: float = 5) -> Sender:
    return Sender(
        calling_ae_title="MODALITY", called_ae_title="OVERREAD", host="127.0.0.1", port=node.port, timeout=timeout
    )


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def counted(pacs: StandIn, study: str) -> Counter[str]:
    """How many objects of each modality the PACS holds of a study; a second one under the same UID does not count."""
    found = [
        dcmread(p, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "Modality"]) for p in pacs.received()
    ]
    return Counter(ds.Modality for ds in found if ds.StudyInstanceUID == study)


def copy_of(image: Path, folder: Path) -> Path:
    """The same image as another instance of its series."""
    ds = dcmread(image)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    return path


def kept(node: RunningNode, image: Path) -> dict[str, Instance]:
    """What the node's rows say of the image's study, by SOP Instance UID."""
    study = node.study(str(dcmread(image).StudyInstanceUID))
    rows = instances.of_study(node.parts.store, study.id) if study else []
    found = {row.sop_instance_uid: row for row in rows}
    assert len(found) == len(rows)
    return found
