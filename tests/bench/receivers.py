"""The receivers that race, each started on a port of its own, and DCMTK's `dcmsend`, which sends to all of them.

Ours is what runs in a hospital: guard, digest, header and row; the others are as their packages or documents have them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from network.peers import listens  # noqa: E402
from running import RunningNode  # noqa: E402

from node.network.orthanc import Orthanc, free_port  # noqa: E402

ROUTER = os.environ.get("OVERREAD_BENCH_ROUTER") or shutil.which("dicom-ai-router")
"""The program of PyPI's dicom-ai-router, which wants an environment of its own; without it the race goes on."""
NAIVE = """
import sys
from pathlib import Path
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, StoragePresentationContexts, evt
def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(Path(sys.argv[2]) / ds.SOPInstanceUID, enforce_file_format=True)
    return 0x0000
ae = AE("OVERREAD")
everything = sys.argv[3] == "everything"
for context in AllStoragePresentationContexts if everything else StoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES if everything else context.transfer_syntax)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""
STOCK_PATH = """
import sys
from node import service
from node.network import stream
stream.supported = lambda: "streaming, which this benchmark leaves out"
sys.exit(service.main(sys.argv[1:]))
"""
Command = Callable[[int, Path], tuple[list[str], dict[str, str]]]


@dataclass(frozen=True)
class Peer:
    """A receiver: how it is started on a port with a folder, and how its files are told from others."""

    name: str
    command: Command
    counts: Callable[[Path], int]


@dataclass(frozen=True)
class Started:
    """A receiver that listens."""

    port: int
    pid: int
    folder: Path


def ours(fsync: str, *, stock: bool = False) -> Peer:
    """The receive role alone; `stock` makes it take instances by pynetdicom's own path."""
    start = ["-c", STOCK_PATH] if stock else ["-m", "node.service"]
    name = f"overread, fsync {fsync}" + (", not streamed" if stock else "")
    return _overread(name, fsync, lambda node: [*start, "receive", str(node.file)])


def served(fsync: str) -> Peer:
    """A whole node, but for the models."""
    serve = ["-m", "node.cli", "serve", "--roles", "receive,dispatch", "--config"]
    return _overread(f"overread, fsync {fsync}", fsync, lambda node: [*serve, str(node.file)])


def _overread(name: str, fsync: str, arguments: Callable[[RunningNode], list[str]]) -> Peer:
    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        node = RunningNode(folder, ("PACS", 104), port=port)
        loss = {"OVERREAD_LISTENER__ACCEPT_LOSS": "true"} if fsync == "none" else {}
        return [sys.executable, *arguments(node)], {"OVERREAD_LISTENER__FSYNC": fsync} | loss

    return Peer(name, command, lambda folder: _files(folder / "data" / "spool" / "obj"))


def storescp(*options: str) -> Peer:
    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        return [shutil.which("storescp") or "storescp", *options, "-od", str(folder), str(port)], {}

    return Peer(" ".join(["storescp", *options]), command, _files)


def orthanc() -> Peer:
    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        made = Orthanc(folder, node_ae_title="MODALITY", node_port=104, DicomPort=port, DicomAet="OVERREAD")
        return made.command(), {}

    return Peer("orthanc", command, lambda folder: sum(len(p.name) == 36 for p in (folder / "storage").rglob("*-*")))


def naive(*, everything: bool = False) -> Peer:
    """pynetdicom as its documentation uses it; `everything` accepts all storage classes in all transfer syntaxes."""

    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-c", NAIVE, str(port), str(folder), "everything" if everything else ""], {}

    return Peer("pynetdicom, stock" if everything else "pynetdicom, naive", command, _files)


def router() -> list[Peer]:
    """dicom-ai-router where it is installed; its study never falls quiet, so that it only receives."""

    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        assert ROUTER is not None
        settings = {
            "router": {"ae_title": "OVERREAD", "port": port, "bind_address": "127.0.0.1", "workdir": str(folder)}
            | {"study_quiet_seconds": 3600},
            "pacs": {"ae_title": "PACS", "host": "127.0.0.1", "port": 104},
            "ai_endpoints": {},
            "rules": [],
            "deid": {},
        }
        # Its settings are YAML, and so is JSON
        (folder / "router.yaml").write_text(json.dumps(settings))
        return [ROUTER, "serve", "--config", str(folder / "router.yaml")], {"AIROUTER_DEID_SALT": "benchmark" * 4}

    return [Peer("dicom-ai-router", command, lambda folder: _files(folder / "inbox"))] if ROUTER else []


def _files(folder: Path) -> int:
    return sum(path.is_file() and path.suffix != ".part" for path in folder.rglob("*"))


def environment(*, packaged: bool) -> dict[str, str]:
    """What DCMTK's and Orthanc's sockets do: wait, as their packages have it (Nagle), or not."""
    return dict(os.environ) | ({} if packaged else {"TCP_NODELAY": "1"})


@contextlib.contextmanager
def started(peer: Peer, base: Path, *, packaged: bool = False) -> Iterator[Started]:
    """Run a receiver in an empty folder of its own, which goes with it."""
    folder = base / f"run-{random.randrange(10**9)}"
    folder.mkdir()
    port = free_port()
    command, more = peer.command(port, folder)
    process = subprocess.Popen(
        command,
        cwd=ROOT.parent,
        env=environment(packaged=packaged) | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while not listens(port):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{peer.name} does not listen: {' '.join(command)}")
            time.sleep(0.02)
        time.sleep(0.3)
        yield Started(port, process.pid, folder)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def sent(
    peer: Peer, receiver: Started, files: Sequence[Path], *, associations: int = 1, packaged: bool = False
) -> float:
    """Seconds from the start of the senders to their end; all files must have arrived."""
    before = peer.counts(receiver.folder)
    send = ["dcmsend", "-aet", "MODALITY", "-aec", "OVERREAD", "127.0.0.1", str(receiver.port)]
    began = time.perf_counter()
    senders = [
        subprocess.Popen(
            [*send, *map(str, files[k::associations])],
            env=environment(packaged=packaged),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for k in range(associations)
    ]
    codes = [sender.wait() for sender in senders]
    seconds = time.perf_counter() - began
    arrived = peer.counts(receiver.folder) - before
    if any(codes) or arrived < len(files):
        raise SystemExit(f"{peer.name}: {arrived} of {len(files)} arrived, dcmsend said {codes}")
    return seconds
