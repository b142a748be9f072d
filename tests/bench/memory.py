"""`python -m tests.bench.memory [--rounds 3]`: how much a receiver grows while eight associations send films of 8 MB.

Peak resident memory less that at rest, of the receiving process alone. Who keeps an instance whole grows with the film
and with the number of senders.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.films import DX, made
from bench.measured import megabytes, rounds, table
from bench.receivers import Peer, naive, orthanc, ours, sent, started

SENDERS, SIDE = 8, 2048


def growth(peer: Peer, files: Sequence[Path], base: Path) -> float:
    """Megabytes."""
    with started(peer, base) as receiver:
        time.sleep(1)
        rest = megabytes(receiver.pid, "VmRSS")
        # proc(5): 5 makes the peak what is resident now, so that starting up does not count
        Path(f"/proc/{receiver.pid}/clear_refs").write_text("5")
        sent(peer, receiver, files, associations=SENDERS)
        return megabytes(receiver.pid, "VmHWM") - rest


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--films", type=int, default=3, help="of each association")
    given = parser.parse_args()
    peers = [naive(), orthanc(), ours("instance"), ours("instance", stock=True)]
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        files = made(base / "dx", DX, SENDERS * given.films, SIDE)
        found = rounds(given.rounds, {peer.name: partial(growth, peer, files, base) for peer in peers})
    table(f"{SENDERS} associations, each of {given.films} films of 8 MB", "MB more than at rest", found)


if __name__ == "__main__":
    main()
