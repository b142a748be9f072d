"""Who receives faster: this node, DCMTK's storescp, Orthanc, pynetdicom as its documentation uses it.

The same `dcmsend` sends the same files to each, in rounds of random order; a ratio is the median over the rounds of
storescp's time by theirs, with the smallest and the largest. Above 1 is faster than storescp. Ours is the receive role
as it runs in a hospital: guard, digest, header and row, with `fsync = "none"` (as the others do) and `"instance"`.

    python -m tests.bench.receive [--rounds 5] [--only ct,dx,jpegls,many,packaged]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless, generate_uid

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from network.peers import listens  # noqa: E402
from running import RunningNode  # noqa: E402

from node.network.orthanc import Orthanc, free_port  # noqa: E402

SEED = 20260104
NAIVE = """
import sys
from pathlib import Path
from pynetdicom import AE, StoragePresentationContexts, evt
def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(Path(sys.argv[2]) / ds.SOPInstanceUID, enforce_file_format=True)
    return 0x0000
ae = AE("OVERREAD")
for context in StoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, context.transfer_syntax)
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""
Command = Callable[[int, Path], tuple[list[str], dict[str, str]]]


@dataclass(frozen=True)
class Peer:
    """A receiver: how it is started on a port with a folder, and how its files are told from others."""

    name: str
    command: Command
    counts: Callable[[Path], int]


@dataclass
class Race:
    """Files, how many associations carry them, and whether both sides wait as their packages do (Nagle)."""

    name: str
    files: list[Path]
    peers: Sequence[Peer]
    associations: int = 1
    packaged: bool = False
    seconds: dict[str, list[float]] = field(default_factory=dict)


def ours(fsync: str) -> Peer:
    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        node = RunningNode(folder, ("PACS", 104), port=port)
        loss = {"OVERREAD_LISTENER__ACCEPT_LOSS": "true"} if fsync == "none" else {}
        return [sys.executable, "-m", "node.service", "receive", str(node.file)], {
            "OVERREAD_LISTENER__FSYNC": fsync
        } | loss

    return Peer(f"overread, fsync {fsync}", command, lambda f: _files(f / "data" / "spool" / "obj"))


def storescp(*options: str, name: str) -> Peer:
    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        return [shutil.which("storescp") or "storescp", *options, "-od", str(folder), str(port)], {}

    return Peer(name, command, _files)


def orthanc() -> Peer:
    def command(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        made = Orthanc(folder, node_ae_title="MODALITY", node_port=104, DicomPort=port, DicomAet="OVERREAD")
        return made.command(), {}

    return Peer("orthanc", command, lambda f: sum(len(p.name) == 36 for p in (f / "storage").rglob("*-*")))


def naive() -> Peer:
    return Peer("pynetdicom, naive", lambda port, f: ([sys.executable, "-c", NAIVE, str(port), str(f)], {}), _files)


def _files(folder: Path) -> int:
    return sum(path.is_file() and path.suffix != ".part" for path in folder.rglob("*"))


def made(folder: Path, source: str, count: int, side: int = 0) -> list[Path]:
    """Copies of a film of pydicom's under their own UIDs; `side` gives it square random pixels."""
    folder.mkdir(exist_ok=True)
    ds = dcmread(str(get_testdata_file(source, download=False)))
    rng = np.random.default_rng(SEED)
    found = []
    for number in range(count):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        if side:
            ds.Rows = ds.Columns = side
            ds.PixelData = rng.integers(0, 1000, (side, side), np.int16).tobytes()
        found.append(folder / f"{source}-{number}.dcm")
        dcmwrite(found[-1], ds, enforce_file_format=True)
    return found


def compressed(folder: Path, count: int) -> list[Path]:
    found = made(folder, "CT_small.dcm", count, 512)
    for path in found:
        ds = dcmread(path)
        ds.PixelData = (np.add.outer(np.arange(512), np.arange(512)) % 1000).astype(np.int16).tobytes()
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
        ds.save_as(path)
    return found


def run(race: Race, peer: Peer, base: Path) -> float:
    """Seconds from the start of the senders to their end; all files must have arrived."""
    folder = base / f"run-{random.randrange(10**9)}"
    folder.mkdir()
    port = free_port()
    command, more = peer.command(port, folder)
    environment = os.environ | ({} if race.packaged else {"TCP_NODELAY": "1"})
    before = peer.counts(folder)
    receiver = subprocess.Popen(
        command,
        cwd=ROOT.parent if "-m" in command else folder,
        env=environment | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 30
        while not listens(port) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        send = ["dcmsend", "-aet", "MODALITY", "-aec", "OVERREAD", "127.0.0.1", str(port)]
        started = time.perf_counter()
        senders = [
            subprocess.Popen(
                [*send, *map(str, race.files[k :: race.associations])],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for k in range(race.associations)
        ]
        codes = [sender.wait() for sender in senders]
        seconds = time.perf_counter() - started
        arrived = peer.counts(folder) - before
        if any(codes) or arrived < len(race.files):
            raise SystemExit(f"{race.name}, {peer.name}: {arrived} of {len(race.files)} arrived, dcmsend said {codes}")
        return seconds
    finally:
        receiver.kill()
        receiver.wait()
        shutil.rmtree(folder, ignore_errors=True)


def told(race: Race) -> None:
    megabytes = sum(path.stat().st_size for path in race.files) / 1e6
    reference = race.seconds[race.peers[0].name]
    print(f"\n{race.name}: {len(race.files)} files, {megabytes:.0f} MB, {race.associations} association(s)")
    print(f"  {'':<32}{'ms an image':>14}{'ratio to ' + race.peers[0].name:>42}")
    for peer in race.peers:
        seconds = race.seconds[peer.name]
        ratios = [a / b for a, b in zip(reference, seconds, strict=True)]
        each = 1000 * statistics.median(seconds) / len(race.files)
        print(
            f"  {peer.name:<32}{each:>14.2f}{statistics.median(ratios):>22.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="ct,dx,jpegls,many,packaged")
    given = parser.parse_args()
    wanted = given.only.split(",")
    default, best = storescp(name="storescp"), storescp("+B", "-pdu", "131072", name="storescp +B -pdu 131072")
    mine = [ours("none"), ours("instance")]
    usual = [default, best, orthanc(), naive(), *mine]
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        ct, dx = made(base / "ct", "CT_small.dcm", 100, 512), made(base / "dx", "RG1_UNCR.dcm", 15)
        forks = storescp("--fork", name="storescp --fork")
        races = {
            "ct": Race("CT, no Nagle", ct, usual),
            "dx": Race("DX, no Nagle", dx, usual),
            "jpegls": Race("JPEG-LS", compressed(base / "jpegls", 100), [storescp("+xa", name="storescp +xa"), *mine]),
            "many": Race("CT, eight at once", ct, [forks, *mine], associations=8),
            "packaged": Race("CT, as packaged", ct[:30], [default, *mine], packaged=True),
            "packaged-dx": Race("DX, as packaged", dx, [default, *mine], packaged=True),
        }
        chosen = [race for name, race in races.items() if name.split("-")[0] in wanted]
        for race in chosen:
            for _ in range(given.rounds):
                for peer in random.sample(list(race.peers), len(race.peers)):
                    race.seconds.setdefault(peer.name, []).append(run(race, peer, base))
            told(race)


if __name__ == "__main__":
    main()
