"""The caller's side of a pool: pixels are prepared here, arrays go to the driver process, predictions come back.

Loads neither Ray nor TensorFlow. Whatever is wrong with the cluster is an EngineAway, and the next call begins anew.
"""

from __future__ import annotations

import importlib.util
import io
import os
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from models import preprocess
from models.bundle import Bundle, BundleError
from models.engine import EngineAway, Floats, Prediction, replay

LARGEST_MB = 256
"""Of a bundle: the cluster's head keeps it in memory for as long as its application runs."""
MARGIN_SECONDS = 15.0
"""A driver that says nothing for so long beyond what it was given is hung, and is ended."""


@dataclass(frozen=True)
class App:
    """One application on the cluster; whatever would make it another one is in its name."""

    name: str
    cpus: float
    gpus: float
    replicas_min: int
    replicas_max: int
    batch: int
    batch_wait_ms: float
    threads: int


@dataclass(frozen=True)
class Place:
    """Where the cluster is and how long it may take. `token_file`: Ray's token, None for Ray's own place of it."""

    address: str
    token_file: Path | None
    connect_seconds: float
    start_seconds: float
    answer_seconds: float


def environment(token_file: Path | None, *, mode: str = "token") -> dict[str, str]:
    """Of a process that speaks to the cluster: with the token or not at all, and nothing is told to Ray's makers."""
    own = {"RAY_AUTH_MODE": mode, "RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "2"}
    if token_file:
        own["RAY_AUTH_TOKEN_PATH"] = str(token_file)
    inherited = {k: v for k, v in os.environ.items() if k not in ("RAY_AUTH_TOKEN", "RAY_ADDRESS")}
    # The driver and this process are the same program, wherever it was imported from
    home = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH", ""))))
    return inherited | own | {"PYTHONPATH": path}


class Driver:
    """The process of `models.pool.driver`, started when it is first needed and again whenever it is gone."""

    def __init__(self, place: Place, *, mode: str = "token") -> None:
        self._place = place
        self._mode = mode
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._lock = threading.Lock()

    def ask(self, verb: str, *arguments: Any, seconds: float) -> Any:
        """What the driver answers.

        Raises:
            EngineAway: the cluster is, or the driver said nothing in `seconds` or died.
            ValueError: the network's own failure.
            BundleError: the cluster cannot load the bundle.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            return self._ask(verb, arguments, seconds)

    def _start(self) -> None:
        self.close()
        if importlib.util.find_spec("ray") is None:
            raise EngineAway("Ray is not installed here: pip install 'overread[ray]'")
        token = self._place.token_file
        if token and not os.access(token, os.R_OK):
            raise EngineAway(f"ray.token_file = {token}: cannot be read")
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "models.pool.driver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment(token, mode=self._mode),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._line = Connection(ours.detach())
        self._ask("connect", (self._place.address,), self._place.connect_seconds)

    def _ask(self, verb: str, arguments: tuple[Any, ...], seconds: float) -> Any:
        assert self._line is not None
        try:
            self._line.send((verb, arguments))
            if not self._line.poll(seconds):
                self.close()
                raise EngineAway(f"the Ray cluster at {self._place.address} gave no answer in {seconds:g} s ({verb})")
            kind, said = self._line.recv()
        except (EOFError, OSError):
            self.close()
            raise EngineAway(f"the connection to the Ray cluster at {self._place.address} ended ({verb})") from None
        if kind == "value":
            raise ValueError(said)
        if kind == "refused":
            raise BundleError(said)
        if kind != "ok":
            self.close()  # what a driver of a cluster that went still holds is of no use with the next
            raise EngineAway(f"the Ray cluster at {self._place.address}: {said}")
        return said

    def close(self) -> None:
        """End the process."""
        if self._line:
            self._line.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._process = self._line = None


class Pool:
    """The engine "ray": an application for each bundle's digest, with the rules of `app`."""

    def __init__(self, place: Place, app: App) -> None:
        self._place = place
        self._app = app
        self._driver = Driver(place)
        self._made: dict[str, PoolPredictor] = {}
        self._started: set[str] = set()

    def predictor(self, bundle: Bundle) -> PoolPredictor:
        if bundle.digest not in self._made:
            self._made[bundle.digest] = PoolPredictor(self, bundle)
        return self._made[bundle.digest]

    @property
    def names(self) -> set[str]:
        """The applications of all predictors that were asked for."""
        return {predictor.name for predictor in self._made.values()}

    def name_of(self, bundle: Bundle) -> str:
        """The application's name: the bundle's digest, and what would make other replicas of it."""
        a = self._app
        rules = f"{a.cpus:g}-{a.gpus:g}-{a.replicas_min}-{a.replicas_max}-{a.batch}-{a.batch_wait_ms:g}-{a.threads}"
        return f"{a.name}-{bundle.digest[:32]}-{rules}"

    def start(self, bundle: Bundle) -> None:
        """See that the bundle's application runs.

        Raises:
            EngineAway: the cluster cannot be reached, or has no room for a replica.
            BundleError: the bundle is too large, or a replica cannot load it.
        """
        app = App(**{**vars(self._app), "name": self.name_of(bundle)})
        seconds = self._place.start_seconds
        arguments = (app, packed(bundle), bundle.digest, seconds)
        self._driver.ask("deploy", *arguments, seconds=seconds + MARGIN_SECONDS)
        self._started.add(bundle.digest)

    def ask(self, bundle: Bundle, inputs: list[Floats]) -> list[tuple[str, int, Prediction]]:
        """Device, process and prediction of each prepared image; starts the application where that was not done yet."""
        seconds = self._place.answer_seconds
        if bundle.digest not in self._started:
            self.start(bundle)
        try:
            found = self._driver.ask("predict", self.name_of(bundle), inputs, seconds, seconds=seconds + MARGIN_SECONDS)
        except EngineAway:
            self._started.clear()
            raise
        return list(found)

    def resources(self) -> dict[str, Any]:
        """CPUs, GPUs and hosts of the cluster.

        Raises:
            EngineAway: it cannot be reached.
        """
        found: dict[str, Any] = self._driver.ask("resources", seconds=self._place.connect_seconds)
        return found

    def is_open(self) -> bool:
        """Whether the cluster takes somebody without a token."""
        without = Driver(self._place, mode="disabled")
        try:
            without.ask("resources", seconds=self._place.connect_seconds)
        except EngineAway:
            return False
        finally:
            without.close()
        return True

    def apps(self) -> list[str]:
        """The names of the applications on the cluster that are Overread's."""
        found = self._driver.ask("apps", seconds=self._place.connect_seconds)
        return [name for name in found if name.startswith(f"{self._app.name}-")]

    def end(self, name: str) -> None:
        """Take an application off the cluster. Whoever still asks it puts it there again."""
        self._driver.ask("delete", name, seconds=self._place.start_seconds)

    def close(self) -> None:
        """End the driver; the applications stay, warm."""
        self._driver.close()


class PoolPredictor:
    """One bundle's network on the cluster."""

    def __init__(self, pool: Pool, bundle: Bundle) -> None:
        self._pool = pool
        self._bundle = bundle
        self.name = pool.name_of(bundle)
        self.device = ""
        self.process = 0
        """Of the replica that answered last, on its host."""

    def predict(self, pixels: Sequence[Floats]) -> list[Prediction]:
        inputs = [preprocess.run(self._bundle.spec.steps, p) for p in pixels]
        if not inputs:
            return []
        found = self._pool.ask(self._bundle, inputs)
        for device, process, _ in found:
            self.device, self.process = f"ray {device}", process
        return [prediction for _, _, prediction in found]

    def verify(self) -> None:
        """Start the application where it does not run, then replay golden.npz there."""
        self._pool.start(self._bundle)
        replay(self._bundle, self.predict)


def packed(bundle: Bundle) -> bytes:
    """The bundle's folder as a tar, read for each start and not kept.

    Raises:
        BundleError: it is larger than LARGEST_MB.
    """
    size = sum(f.stat().st_size for f in bundle.path.rglob("*") if f.is_file())
    if size > LARGEST_MB * 1024**2:
        raise BundleError(f"{bundle.ref}: {size // 1024**2} MB, and a pool takes bundles of {LARGEST_MB} MB at most")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(bundle.path, arcname=bundle.path.name)
    return content.getvalue()
