"""The composition root's own loop: how often the dispatch role looks."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from node.service import RESTS, advance_when_rung
from node.storage.bell import LocalBell

SWEEP_SECONDS = 0.01


def test_a_bell_that_never_falls_silent_leaves_the_dispatch_role_most_of_its_time(tmp_path: Path) -> None:
    bell, stop, sweeps = LocalBell(tmp_path), threading.Event(), 0
    ear = bell.listen("dispatch")

    def advance() -> float | None:
        nonlocal sweeps
        sweeps += 1
        time.sleep(SWEEP_SECONDS)
        bell.ring("dispatch")
        return None

    bell.ring("dispatch")
    began = time.monotonic()
    thread = threading.Thread(target=advance_when_rung, args=(advance, ear, stop))
    thread.start()
    time.sleep(0.5)
    stop.set()
    thread.join()
    ear.close()
    bell.close()
    assert 1 < sweeps <= 1 + (time.monotonic() - began) / ((1 + RESTS) * SWEEP_SECONDS)
