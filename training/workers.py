"""One of several workers that train one model: who they are, by TF_CONFIG, and whether they are about the same thing.

The words between them are TensorFlow's own collectives. All workers see the same `--work` folder; worker 0, the chief,
alone writes what is not a shard of the decoded films.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from training.errors import WorkerError

VARIABLE = "TF_CONFIG"


@dataclass(frozen=True)
class Workers:
    """This process among `addresses`; alone where there is no TF_CONFIG."""

    index: int = 0
    addresses: tuple[str, ...] = ()
    strategy: Any = field(default=None, compare=False)

    @property
    def several(self) -> bool:
        return len(self.addresses) > 1

    @property
    def chief(self) -> bool:
        return self.index == 0

    def agree(self, facts: Mapping[str, str]) -> None:
        """See that all workers hold the same `facts` (name -> hexadecimal SHA-256).

        Raises:
            WorkerError: they do not; says who and in what.
        """
        if not self.several:
            return
        own = np.frombuffer(bytes.fromhex("".join(facts.values())), np.uint8).astype(np.int32)
        said = self._gathered(own).reshape(len(self.addresses), len(facts), -1)
        wrong = [
            f"worker {i} ({self.addresses[i]}) has another {name}"
            for i in range(1, len(self.addresses))
            for k, name in enumerate(facts)
            if not np.array_equal(said[i, k], said[0, k])
        ]
        if wrong:
            raise WorkerError(f"{'; '.join(wrong)} than worker 0 ({self.addresses[0]}): all must be given the same")

    def wait(self) -> None:
        """Until all workers are here."""
        if self.several:
            self._gathered(np.zeros(1, np.int32))

    def _gathered(self, values: Any) -> Any:
        """(workers, n): each worker's row of whole numbers."""
        import tensorflow as tf

        rows = np.zeros((len(self.addresses), len(values)), np.int32)
        rows[self.index] = values

        def total() -> Any:
            context = tf.distribute.get_replica_context()
            first = context.replica_id_in_sync_group % self.strategy.extended._num_devices_per_worker == 0
            own = tf.identity(tf.constant(rows)) * tf.cast(first, tf.int32)
            return context.all_reduce("SUM", {"rows": own})["rows"]

        with self.heard():
            return np.asarray(self.strategy.experimental_local_results(self.strategy.run(total))[0])

    @contextmanager
    def heard(self) -> Iterator[None]:
        """What TensorFlow says when another worker is gone becomes a sentence.

        Raises:
            WorkerError: one is gone.
        """
        import tensorflow as tf

        gone = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
            tf.errors.InternalError,
        )
        try:
            yield
        except gone as error:
            if not self.several:
                raise
            lost = ", ".join(f"worker {i} ({a})" for i, a in self._silent()) or "a worker"
            raise WorkerError(
                f"{lost} is gone or does not answer; start all workers again with the same command: they go on from "
                f"the last whole epoch. TensorFlow says: {str(error).splitlines()[0][:200]}"
            ) from None

    def _silent(self) -> list[tuple[int, str]]:
        return [(i, a) for i, a in enumerate(self.addresses) if i != self.index and not _answers(a)]


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except OSError:
        return False
    return True


def told() -> Workers:
    """What TF_CONFIG says; nothing of TensorFlow is started.

    Raises:
        WorkerError: it says something else than {"cluster": {"worker": ["host:port", ...]}, "task": {...}}.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return Workers()
    try:
        said = json.loads(text)
    except ValueError as error:
        raise WorkerError(f"{VARIABLE} is not JSON: {error}") from None
    shape = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        cluster, task = said["cluster"], said["task"]
        addresses, kind, index = cluster["worker"], task["type"], task["index"]
    except (KeyError, TypeError):
        raise WorkerError(f"{VARIABLE}: {shape} is needed") from None
    if set(cluster) != {"worker"} or kind != "worker" or not isinstance(addresses, list):
        raise WorkerError(f"{VARIABLE}: only workers are allowed, no chief, ps or evaluator: {shape}")
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise WorkerError(f"{VARIABLE}: worker {address!r}: host:port is needed")
    if len(set(addresses)) < len(addresses):
        raise WorkerError(f"{VARIABLE}: an address is there twice: {', '.join(addresses)}")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(addresses):
        raise WorkerError(f"{VARIABLE}: task index {index!r}: 0 to {len(addresses) - 1} is allowed")
    return Workers(index, tuple(addresses))


def joined() -> Workers:
    """This process joined with the others; must come before anything else of TensorFlow.

    Raises:
        WorkerError: TF_CONFIG is wrong, or one did not come within TensorFlow's own time limit.
    """
    found = told()
    if not found.several:
        return found
    import tensorflow as tf

    with found.heard():
        return Workers(found.index, found.addresses, tf.distribute.MultiWorkerMirroredStrategy())
