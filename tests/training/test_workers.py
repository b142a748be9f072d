"""Who a worker is, by TF_CONFIG, and which films it decodes."""

from __future__ import annotations

import io
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from rich.console import Console

from training import cache, workers
from training.errors import RecipeError, WorkerError
from training.learning.together import see_possible, shares
from training.workers import Workers

TWO = ["127.0.0.1:2001", "127.0.0.1:2002"]


def config(addresses: object = TWO, index: object = 1, kind: str = "worker", **more: object) -> str:
    return json.dumps({"cluster": {"worker": addresses, **more}, "task": {"type": kind, "index": index}})


def test_without_tf_config_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(workers.VARIABLE, raising=False)
    found = workers.told()
    assert found.chief and not found.several


def test_tf_config_says_who_a_worker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workers.VARIABLE, config())
    found = workers.told()
    assert (found.index, found.addresses, found.several, found.chief) == (1, tuple(TWO), True, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is needed"),
        ('{"cluster": {}}', "is needed"),
        (config(index=2), "index 2: 0 to 1 is allowed"),
        (config(index=-1), "index -1: 0 to 1 is allowed"),
        (config(index="0"), "index '0': 0 to 1 is allowed"),
        (config(kind="chief"), "only workers are allowed"),
        (config(ps=TWO), "only workers are allowed"),
        (config(["here", "there:1"]), "worker 'here': host:port is needed"),
        (config([TWO[0], TWO[0]]), "an address is there twice"),
    ],
)
def test_what_is_wrong_with_tf_config_is_said(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setenv(workers.VARIABLE, text)
    with pytest.raises(WorkerError, match=said):
        workers.told()


@pytest.mark.parametrize("count", [0, 1, 7, 112_120])
def test_each_film_is_in_one_shard(count: int) -> None:
    shards = [cache.shard(count, i, 4) for i in range(4)]
    assert [row for part in shards for row in part] == list(range(count))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("size", [1, 5, 16])
@pytest.mark.parametrize("devices", [1, 2])
def test_each_row_of_a_batch_is_one_workers(size: int, devices: int) -> None:
    rows = list(range(size))
    parts = [rows[shares(size, Workers(i, ("a:1", "b:1", "c:1"), devices))] for i in range(3)]
    assert [r for part in parts for r in part] == rows
    assert max(map(len, parts)) <= -(-size // (3 * devices)) * devices


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        (Workers(devices=4), "batch = 6: it is divided between 4 devices, so that a multiple of 4 is needed"),
        (Workers(0, tuple(TWO), 2), "between 2 workers with 2 devices each, so that a multiple of 4"),
    ],
)
def test_a_batch_that_cannot_be_divided_equally_is_refused(workers: Workers, said: str) -> None:
    see_possible(6, Workers(0, tuple(TWO)))
    with pytest.raises(RecipeError, match=said):
        see_possible(6, workers)


def free() -> tuple[str, ...]:
    places = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    try:
        return tuple(f"127.0.0.1:{place.getsockname()[1]}" for place in places)
    finally:
        for place in places:
            place.close()


def test_workers_wait_until_all_are_there() -> None:
    addresses, heard, everybody = free(), io.StringIO(), Barrier(3)

    def come(index: int) -> None:
        Workers(index, addresses).meet(Console(file=heard if index == 0 else io.StringIO()), 60)
        with socket.create_server(("127.0.0.1", int(addresses[index].split(":")[1]))):  # what TensorFlow does then
            everybody.wait(60)

    with ThreadPoolExecutor(3) as threads:
        comings = [threads.submit(come, 0)]
        while "waiting for worker 1" not in heard.getvalue():
            assert not comings[0].done()
            time.sleep(0.05)
        comings += [threads.submit(come, index) for index in (1, 2)]
        for one in comings:
            one.result(timeout=60)


def test_workers_that_do_not_come_are_named() -> None:
    addresses = free()
    with socket.create_server(("127.0.0.1", int(addresses[1].split(":")[1]))):
        with pytest.raises(WorkerError, match=f"^worker 2 .{addresses[2]}. did not answer within 0 s"):
            Workers(0, addresses).meet(Console(quiet=True), 0)
        with pytest.raises(WorkerError, match=r"worker 1 .*: its port cannot be opened here: Address already in use"):
            Workers(1, addresses).meet(Console(quiet=True), 0)
