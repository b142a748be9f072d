"""Two worker processes train one network: the same as one process, also when one or both were killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.model, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
BOUND = 120
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
    env = os.environ | {
        "PYTHONPATH": f"{TESTS.parent}:{TESTS}", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
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


def same(one: dict[str, Any], other: dict[str, Any], *, within: float) -> None:
    assert one.keys() == other.keys()
    losses = [[row["val_loss"] for row in json.loads(str(said["history"]))] for said in (one, other)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=within)
    for name in one.keys() - {"history"}:
        np.testing.assert_allclose(one[name], other[name], atol=within, err_msg=name)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from workers_made import recipe

    folder = tmp_path_factory.mktemp("drawn")
    recipe(folder, {})
    return folder


@pytest.fixture(scope="module")
def unbroken(drawn: Path) -> Path:
    folder = shutil.copytree(drawn, drawn.with_name("unbroken"), copy_function=shutil.copy2)
    for code, said in [ended(p) for p in both(folder)]:
        assert code == 0, said
    return folder


def test_two_workers_learn_what_one_process_learns(drawn: Path, unbroken: Path) -> None:
    folder = shutil.copytree(drawn, drawn.with_name("alone"), copy_function=shutil.copy2)
    code, said = ended(begun(folder, None, 0))
    assert code == 0, said
    same(result(folder), result(unbroken), within=2e-3)
    films = [next(place.glob("work/films-*/films.npy")) for place in (folder, unbroken)]
    assert films[0].read_bytes() == films[1].read_bytes()
    assert not list(unbroken.glob("work/films-*/shard-*"))


@pytest.mark.fault
@pytest.mark.parametrize("killed", [(0,), (1,), (0, 1)])
def test_killed_workers_go_on_at_the_last_whole_epoch(drawn: Path, unbroken: Path, killed: tuple[int, ...]) -> None:
    folder = shutil.copytree(drawn, drawn.with_name(f"killed{len(killed)}{killed[0]}"), copy_function=shutil.copy2)
    running = both(folder, "slow=0.5")
    try:
        deadline = time.monotonic() + BOUND
        while not list(folder.glob("work/*/fold-1-of-1/epoch.npz")):
            assert time.monotonic() < deadline and all(p.poll() is None for p in running)
            time.sleep(0.2)
        for index in killed:
            running[index].send_signal(signal.SIGKILL)
        for index in {0, 1} - set(killed):
            code, said = ended(running[index])
            assert code == 2 and f"worker {killed[0]}" in said and "start all workers again" in said, said[-2000:]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    for code, said in [ended(p) for p in both(folder)]:
        assert code == 0, said
    same(result(folder), result(unbroken), within=1e-5)


def test_workers_with_other_settings_say_which(drawn: Path) -> None:
    cluster = addresses()
    running = [begun(drawn, cluster, 0), begun(drawn, cluster, 1, "seed=5")]
    for code, said in [ended(p) for p in running]:
        assert code == 2 and f"worker 1 ({cluster[1]}) has another settings" in said, said
