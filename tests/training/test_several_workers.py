"""Several devices train one network, of one process or of two: the same as one device, also when they were killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.model, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
ENVIRONMENT = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
BOUND = 300
"""Seconds within which a worker that is left must have ended."""


def addresses() -> list[str]:
    places = [socket.socket() for _ in range(2)]
    try:
        for place in places:
            place.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{place.getsockname()[1]}" for place in places]
    finally:
        for place in places:
            place.close()


def begun(folder: Path, cluster: list[str] | None, index: int, *changes: str) -> subprocess.Popen[str]:
    env = os.environ | ENVIRONMENT
    env.pop("TF_CONFIG", None)
    if cluster:
        env["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": {"type": "worker", "index": index}})
    command = [sys.executable, str(TESTS / "workers_made.py"), str(folder), *changes]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def both(folder: Path, *changes: str) -> list[subprocess.Popen[str]]:
    cluster = addresses()
    return [begun(folder, cluster, i, *changes) for i in range(2)]


def ended(process: subprocess.Popen[str], *, within: float = BOUND) -> tuple[int, str]:
    try:
        out, err = process.communicate(timeout=within)
    finally:
        process.kill()
    return process.returncode, out + err


def result(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("work/*/last.npz")
    with np.load(path) as kept:
        return {name: np.array(kept[name]) for name in kept.files}


def epochs(folder: Path) -> int:
    """Whole epochs that were kept."""
    for path in folder.glob("work/*/fold-1-of-*/epoch.npz"):
        with np.load(path) as kept:
            return len(json.loads(str(kept["history"])))
    return 0


def until(done: Callable[[], bool], running: list[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + BOUND
    while not done():
        assert time.monotonic() < deadline and all(p.poll() is None for p in running)
        time.sleep(0.1)


def stopped(running: list[subprocess.Popen[str]]) -> None:
    for process in running:
        process.kill()
        process.communicate()


def same(one: dict[str, Any], other: dict[str, Any], *, within: float) -> None:
    assert one.keys() == other.keys()
    rows = [json.loads(str(said["history"])) for said in (one, other)]
    for name in rows[0][0]:
        np.testing.assert_allclose(*[[row[name] for row in part] for part in rows], rtol=within, err_msg=name)
    for name in one.keys() - {"history"}:
        np.testing.assert_allclose(one[name], other[name], atol=within, err_msg=name)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from workers_made import recipe

    folder = tmp_path_factory.mktemp("drawn")
    recipe(folder, {})
    return folder


def copy(drawn: Path, name: str) -> Path:
    """The drawn films, with the times that their decoded ones are known by."""
    return Path(shutil.copytree(drawn, drawn.with_name(name), copy_function=shutil.copy2))


def trained(*running: subprocess.Popen[str]) -> list[str]:
    said = [ended(process) for process in running]
    for code, text in said:
        assert code == 0, text[-3000:]
    return [text for _, text in said]


@pytest.fixture(scope="module")
def alone(drawn: Path) -> Path:
    folder = copy(drawn, "alone")
    trained(begun(folder, None, 0))
    return folder


@pytest.fixture(scope="module")
def unbroken(drawn: Path) -> Path:
    folder = copy(drawn, "unbroken")
    trained(*both(folder))
    return folder


def test_two_workers_learn_what_one_process_learns(alone: Path, unbroken: Path) -> None:
    same(result(alone), result(unbroken), within=2e-3)
    films = [next(place.glob("work/films-*/films.npy")) for place in (alone, unbroken)]
    assert films[0].read_bytes() == films[1].read_bytes()
    assert not list(unbroken.glob("work/films-*/shard-*"))


def test_two_workers_with_two_devices_each_learn_what_one_process_learns(drawn: Path, alone: Path) -> None:
    folder = copy(drawn, "four")
    said = trained(*both(folder, "devices=2"))
    assert all("divided between 2 workers with 2 devices each" in text for text in said)
    same(result(alone), result(folder), within=2e-3)


@pytest.mark.fault
def test_two_devices_of_one_process_learn_what_one_learns_also_after_a_kill(drawn: Path, alone: Path) -> None:
    folder = copy(drawn, "devices")
    running = [begun(folder, None, 0, "devices=2", "slow=0.4")]
    try:
        until(lambda: epochs(folder) > 0, running)
    finally:
        stopped(running)
    kept = epochs(folder)
    assert 0 < kept < len(json.loads(str(result(alone)["history"])))
    (said,) = trained(begun(folder, None, 0, "devices=2"))
    assert "every batch is divided between 2 devices" in said
    same(result(alone), result(folder), within=2e-3)
    assert list(folder.glob("work/*/fold-1-of-1/tensorboard/events*"))


def test_folds_copies_and_chance_by_two_devices(drawn: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "devices_made.py"), str(copy(drawn, "folds"))],
        env=os.environ | ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    trained(process)


@pytest.mark.fault
def test_killed_workers_go_on_at_the_last_whole_epoch(drawn: Path, unbroken: Path) -> None:
    folder = copy(drawn, "killed")
    for killed in [(1,), (0,), (0, 1)]:
        before = epochs(folder)
        running = both(folder, "slow=0.4")
        try:
            until(lambda before=before: epochs(folder) > before, running)
            for index in killed:
                running[index].send_signal(signal.SIGKILL)
            for index in {0, 1} - set(killed):
                code, said = ended(running[index])
                assert code == 2 and f"worker {killed[0]}" in said and "start all workers again" in said, said[-2000:]
        finally:
            stopped(running)
    trained(*both(folder))
    same(result(folder), result(unbroken), within=1e-5)


def test_workers_with_other_settings_say_which(drawn: Path) -> None:
    cluster = addresses()
    running = [begun(drawn, cluster, 0), begun(drawn, cluster, 1, "seed=5")]
    for code, said in [ended(p) for p in running]:
        assert code == 2 and f"worker 1 ({cluster[1]}) has another settings" in said, said


def test_a_worker_that_never_comes_is_named(drawn: Path) -> None:
    cluster = addresses()
    code, said = ended(begun(drawn, cluster, 0, "wait=2"))
    assert code == 2 and f"waiting for worker 1 ({cluster[1]})" in said, said
    assert f"worker 1 ({cluster[1]}) did not answer within 2 s" in said, said
