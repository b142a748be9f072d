"""Who trains one model together: the devices of this process, and the workers, which are processes named by TF_CONFIG;
and whether these are about the same thing.

The words between workers are TensorFlow's own collectives. All workers see the same `--work` folder; worker 0, the
chief, alone writes what is not a shard of the decoded films.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console

from training.errors import WorkerError

VARIABLE = "TF_CONFIG"
WAIT = 600.0
"""Seconds for which a worker waits for the others to come."""


@dataclass(frozen=True)
class Workers:
    """This process among `addresses`; alone where there is no TF_CONFIG. `devices`: of each process, each takes a part
    of every batch; `strategy`: TensorFlow's, None where there is one part."""

    index: int = 0
    addresses: tuple[str, ...] = ()
    devices: int = 1
    strategy: Any = field(default=None, compare=False)

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return len(self.addresses) > 1

    @property
    def parts(self) -> int:
        """Into how many parts a batch is divided."""
        return max(1, len(self.addresses)) * self.devices

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
            f"{self.name(i)} has another {name}"
            for i in range(1, len(self.addresses))
            for k, name in enumerate(facts)
            if not np.array_equal(said[i, k], said[0, k])
        ]
        if wrong:
            raise WorkerError(f"{'; '.join(wrong)} than {self.name(0)}: all must be given the same")

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
            first = context.replica_id_in_sync_group % self.devices == 0
            own = tf.identity(tf.constant(rows)) * tf.cast(first, tf.int32)
            return context.all_reduce("SUM", {"rows": own})["rows"]

        with self.heard():
            said = tf.function(lambda: self.strategy.run(total))()
            return np.asarray(self.strategy.experimental_local_results(said)[0])

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
            lost = self.names(self._silent(range(len(self.addresses))))
            who = f"{lost} is" if lost else "a worker has not as many devices as the others, or is"
            raise WorkerError(
                f"{who} gone or does not answer; start all workers again with the same command: they go on from the "
                f"last whole epoch. TensorFlow says: {str(error).splitlines()[0][:200]}"
            ) from None

    def meet(self, console: Console, within: float) -> None:
        """Until every other worker's port has answered, while this one's is open. TensorFlow opens the ports only as
        it joins, and then waits for the others without a word.

        Raises:
            WorkerError: this worker's port cannot be opened, or one did not answer `within` seconds.
        """
        try:
            server = socket.create_server(("", int(self.addresses[self.index].rpartition(":")[2])), backlog=1024)
        except OSError as error:
            raise WorkerError(f"{self.name(self.index)}: its port cannot be opened here: {error.strerror}") from None
        deadline = time.monotonic() + within
        awaited: list[int] = []
        with server:
            while missing := self._silent(awaited or range(len(self.addresses))):
                if time.monotonic() >= deadline:
                    raise WorkerError(
                        f"{self.names(missing)} did not answer within {within:.0f} s; start all workers at about the "
                        "same time, and see that their addresses can be reached from here"
                    )
                if missing != awaited:
                    console.print(f"waiting for {self.names(missing)}", highlight=False, soft_wrap=True)
                    awaited = missing
                time.sleep(1)

    def name(self, index: int) -> str:
        return f"worker {index} ({self.addresses[index]})"

    def names(self, indices: Iterable[int]) -> str:
        return ", ".join(map(self.name, indices))

    def __str__(self) -> str:
        each = f"{self.devices} devices" if self.devices > 1 else ""
        if not self.several:
            return each or "one device"
        return f"{len(self.addresses)} workers" + (f" with {each} each" if each else "")

    def _silent(self, indices: Iterable[int]) -> list[int]:
        return [i for i in indices if i != self.index and not _answers(self.addresses[i])]


ALONE = Workers()
"""One process with one device."""


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=3) as link:
            # a connection to a free port of this machine may end in itself
            return bool(link.getsockname() != link.getpeername())
    except OSError:
        return False


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


def joined(console: Console, *, within: float = WAIT) -> Workers:
    """This process joined with the others, and all its devices with each other; must come before anything else of
    TensorFlow.

    Raises:
        WorkerError: TF_CONFIG is wrong, or one did not come `within` seconds.
    """
    found = told()
    import tensorflow as tf

    if found.several:
        found.meet(console, within)
        with found.heard():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) == 1:
            return found
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    each = strategy.num_replicas_in_sync // max(1, len(found.addresses))
    return replace(found, devices=each, strategy=strategy)
