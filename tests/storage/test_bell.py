from __future__ import annotations

import threading
import time
from pathlib import Path

from node.storage.bell import LocalBell


def test_a_ring_wakes_within_milliseconds(tmp_path: Path) -> None:
    bell = LocalBell(tmp_path / "run")
    ear = bell.listen("infer")
    threading.Timer(0.05, lambda: bell.ring("infer")).start()
    start = time.monotonic()
    assert ear.wait(5)
    assert time.monotonic() - start < 1
    ear.close()
    bell.close()


def test_many_rings_count_as_one(tmp_path: Path) -> None:
    bell = LocalBell(tmp_path / "run")
    ear = bell.listen("infer")
    for _ in range(5000):
        bell.ring("infer")
    assert ear.wait(1)
    assert not ear.wait(0.01)
    ear.close()
    bell.close()


def test_ringing_where_nobody_listens_is_no_fault(tmp_path: Path) -> None:
    bell = LocalBell(tmp_path / "run")
    bell.ring("nobody")
    bell.close()


def test_a_long_folder_name_is_no_fault(tmp_path: Path) -> None:
    bell = LocalBell(tmp_path / ("x" * 100) / ("y" * 100))
    ear = bell.listen("dispatch")
    bell.ring("dispatch")
    assert ear.wait(1)
    ear.close()
    bell.close()


def test_a_new_listener_takes_over_from_a_dead_one(tmp_path: Path) -> None:
    bell = LocalBell(tmp_path / "run")
    dead = bell.listen("infer")
    ear = bell.listen("infer")
    bell.ring("infer")
    assert ear.wait(1)
    for one in (dead, ear):
        one.close()
    bell.close()
