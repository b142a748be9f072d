"""Who receives faster: this node, DCMTK's storescp, Orthanc, dicom-ai-router, pynetdicom as its documentation uses it.

The same `dcmsend` sends the same files to each, in rounds of random order; a ratio is the median over the rounds of the
first one's time by theirs: above 1 is faster than the first one. A second table is of the receiver's processor time
alone, which says more on a busy machine. Ours has `fsync = "none"` (as the others do) and `"instance"`; the races
`fsync` hold both against pynetdicom without fsync.

    python -m tests.bench.receive [--rounds 5] [--only ct,dx,jpegls,many,packaged,fsync]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydicom.uid import JPEGLSLossless

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.films import CT, DX, made
from bench.measured import Found, processor_seconds, rounds, table
from bench.receivers import Peer, naive, orthanc, ours, router, sent, started, storescp


@dataclass(frozen=True)
class Race:
    """Files, how many associations carry them, and whether both sides wait as their packages do (Nagle)."""

    name: str
    files: list[Path]
    peers: Sequence[Peer]
    associations: int = 1
    packaged: bool = False


def run(race: Race, peer: Peer, base: Path, computed: Found) -> float:
    """Seconds; `computed` gets what the receiver computed meanwhile."""
    with started(peer, base, packaged=race.packaged) as receiver:
        before = processor_seconds(receiver.pid)
        seconds = sent(peer, receiver, race.files, associations=race.associations, packaged=race.packaged)
        computed.setdefault(peer.name, []).append(processor_seconds(receiver.pid) - before)
        return seconds


def races(base: Path) -> dict[str, Race]:
    default, best, forks = storescp(), storescp("+B", "-pdu", "131072"), storescp("--fork")
    mine = [ours("none"), ours("instance")]
    usual = [default, best, orthanc(), *router(), naive(), *mine]
    ct, dx = made(base / "ct", CT, 100, 512), made(base / "dx", DX, 15)
    compressed = made(base / "jpegls", CT, 100, 512, compress=JPEGLSLossless)
    return {
        "ct": Race("CT, no Nagle", ct, usual),
        "dx": Race("DX, no Nagle", dx, usual),
        "jpegls": Race("JPEG-LS", compressed, [storescp("+xa"), *mine]),
        "many": Race("CT, no Nagle", ct, [forks, *mine], associations=8),
        "packaged": Race("CT, as packaged", ct[:30], [default, *router(), *mine], packaged=True),
        "packaged-dx": Race("DX, as packaged", dx, [default, *router(), *mine], packaged=True),
        "fsync": Race("CT, what fsync costs", ct, [naive(), *mine]),
        "fsync-four": Race("CT, what fsync costs", ct, [naive(), *mine], associations=4),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="ct,dx,jpegls,many,packaged,fsync")
    given = parser.parse_args()
    wanted = given.only.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        for name, race in races(base).items():
            if name.split("-")[0] not in wanted:
                continue
            computed: Found = {}
            found = rounds(given.rounds, {peer.name: partial(run, race, peer, base, computed) for peer in race.peers})
            megabytes = sum(path.stat().st_size for path in race.files) / 1e6
            title = f"{race.name}: {len(race.files)} files, {megabytes:.0f} MB, {race.associations} association(s)"
            table(title, "ms an image", found, times=1000 / len(race.files))
            table(
                "  of these computed",
                "ms an image",
                {name: computed[name] for name in found},
                times=1000 / len(race.files),
            )


if __name__ == "__main__":
    main()
