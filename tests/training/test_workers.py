"""Who a worker is, by TF_CONFIG, and which films it decodes."""

from __future__ import annotations

import json

import pytest

from training import cache, workers
from training.errors import WorkerError
from training.learning.together import shares
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
def test_each_row_of_a_batch_is_one_workers(size: int) -> None:
    rows = list(range(size))
    assert [r for i in range(3) for r in rows[shares(size, Workers(i, ("a:1", "b:1", "c:1")))]] == rows
