"""Listeners, stand-ins, DCMTK's programs as peers, and files of a chosen size."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import SECONDARY_CAPTURE, Owner, listens, until
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from node.network.listener import Listener
from node.network.orthanc import free_port
from node.network.standin import StandIn


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    kept = tmp_path / "kept"
    kept.mkdir()
    return Owner(kept)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the listener receives into."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def listening(owner: Owner, folder: Path) -> Iterator[Callable[..., Listener]]:
    """Start listeners for the owner, with these settings changed; they are stopped at the end."""
    started: list[Listener] = []

    def start(**changes: Any) -> Listener:
        settings: dict[str, Any] = {
            "ae_title": "OVERREAD",
            "bind": "127.0.0.1",
            "port": 0,
            "folder": folder,
            "callbacks": owner.callbacks(),
            "max_associations": 10,
            "network_timeout": 10.0,
            "instance_limit": 2**30,
        }
        listener = Listener(**(settings | changes))
        listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.stop(0.0)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    standin = StandIn(tmp_path / "pacs")
    standin.start()
    yield standin
    standin.stop()


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a Part 10 file that is valid enough to be sent."""

    def make(
        size: int = 100, *, sop_class: str = SECONDARY_CAPTURE, transfer_syntax: str = ExplicitVRLittleEndian
    ) -> Path:
        ds = Dataset()
        ds.SOPClassUID = sop_class
        ds.SOPInstanceUID = generate_uid()
        ds.PatientName = "Canary^Yellow"
        ds.EncapsulatedDocument = bytes(size - size % 2)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.MediaStorageSOPClassUID = sop_class
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.file_meta.TransferSyntaxUID = transfer_syntax
        path = tmp_path / f"{ds.SOPInstanceUID}.dcm"
        dcmwrite(path, ds, enforce_file_format=True)
        return path

    return make


@pytest.fixture
def dcmtk(program: Callable[[str], str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run one of DCMTK's clients; what it says is in `stderr`."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [program(name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def storescp(
    program: Callable[[str], str], tmp_path: Path
) -> Iterator[Callable[..., tuple[int, subprocess.Popen[str]]]]:
    """Start DCMTK's storescp as a peer; gives its port and process, which are ended at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[int, subprocess.Popen[str]]:
        port = free_port()
        folder = tmp_path / f"storescp-{port}"
        folder.mkdir()
        command = [program("storescp"), "-od", str(folder), *arguments, str(port)]
        process = subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL)
        running.append(process)
        until(lambda: listens(port))
        return port, process

    yield start
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    """pynetdicom's reader threads are no daemons: one that is left keeps a process from ending."""
    yield
    until(lambda: not [t for t in threading.enumerate() if _is_of_the_test(t)])


def _is_of_the_test(thread: threading.Thread) -> bool:
    """Not the run's own: its main thread, and the one that judges result objects beside the tests."""
    return not thread.daemon and thread is not threading.main_thread() and not thread.name.startswith("judge")
