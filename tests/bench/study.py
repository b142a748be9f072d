"""A CT study of 10,000 images: one `dcmsend`, one association, to storescp and to a node with rows and dispatch role.

Then what the node says of the study: how long after its last image it was settled, what looking at it cost the dispatch
role meanwhile, and how long `overread status` takes.

    python -m tests.bench.study [--instances 10000] [--side 512] [--rounds 1] [--packaged]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.films import CT, made
from bench.measured import Found, processor_seconds, rounds, spread, table, timed
from bench.receivers import ROOT, Peer, Started, sent, served, started, storescp

from node.domain import StudyState
from node.storage import roles, studies
from node.storage.store import Store

SETTLE_SECONDS = 120


def run(peer: Peer, files: Sequence[Path], base: Path, packaged: bool, said: Found) -> float:
    with started(peer, base, packaged=packaged) as receiver:
        dispatch = dispatcher(receiver) if (receiver.folder / "data").is_dir() else None
        before = processor_seconds(dispatch) if dispatch else 0.0
        seconds = sent(peer, receiver, files, packaged=packaged)
        if dispatch:
            busy = processor_seconds(dispatch) - before
            for name, value in {"processor time of dispatch": busy, **aftermath(receiver)}.items():
                said.setdefault(f"{peer.name}: {name}", []).append(value)
        return seconds


def dispatcher(receiver: Started) -> int:
    """The process of the dispatch role, once it is ready."""
    while (role := roles.status(receiver.folder / "data").get("dispatch", {})).get("state") != "ready":
        time.sleep(0.1)
    return int(role["pid"])


def aftermath(receiver: Started) -> dict[str, float]:
    """Seconds of what follows the last image."""
    data = receiver.folder / "data"
    store = Store(data / "overread.db", data / "spool")
    try:
        until = time.monotonic() + SETTLE_SECONDS
        while (study := studies.latest(store, 1)[0]).state is StudyState.RECEIVING:
            if time.monotonic() > until:
                raise SystemExit(f"the study did not settle within {SETTLE_SECONDS} s")
            time.sleep(0.02)
    finally:
        store.close()
    assert study.settled_at is not None
    status = [sys.executable, "-m", "node.cli", "status", "--config", str(receiver.folder / "overread.toml")]
    seen = timed(partial(subprocess.run, status, cwd=ROOT.parent, stdout=subprocess.DEVNULL, check=False))
    return {
        "last image to settled": study.settled_at - study.last_received_at,
        "overread status": seen,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--packaged", action="store_true", help="sockets as the packages have them (Nagle)")
    given = parser.parse_args()
    peers = [storescp(), served("none"), served("instance")]
    said: Found = {}
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        files = made(base / "ct", CT, given.instances, given.side)
        ways = {peer.name: partial(run, peer, files, base, given.packaged, said) for peer in peers}
        found = rounds(given.rounds, ways)
    sockets = "as packaged" if given.packaged else "no Nagle"
    table(f"One CT study of {given.instances} images, {given.side} x {given.side}, {sockets}", "s", found)
    print("  and then, s")
    for name, values in sorted(said.items()):
        print(f"  {name:<50} {spread(values)}")


if __name__ == "__main__":
    main()
