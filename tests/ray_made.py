"""A real Ray cluster of one host for a test: started, killed and started again, and gone for certain at the end."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from needed import missing

from models.pool.link import App, Place, Pool, environment
from node.network.orthanc import free_port

ROOT = Path(__file__).resolve().parent.parent


class Cluster:
    """The head, on a port and with a token of its own. `path`: a folder that its workers import from first; further
    `variables` go into their environment."""

    def __init__(self, *, cpus: int = 2, path: Path | None = None, **variables: str) -> None:
        if importlib.util.find_spec("ray") is None:
            missing("the extra ray")
        # Not below the test's folder: Ray's sockets must have short names
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._cpus = cpus
        self._path, self._variables = path, variables
        self.token_file = self._folder / "token"
        self.token_file.write_text(secrets.token_hex(32))
        self.token_file.chmod(0o600)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._head: subprocess.Popen[bytes] | None = None

    def start(self) -> Cluster:
        ray = Path(sys.executable).with_name("ray")
        options = {
            "--node-ip-address": "127.0.0.1",
            "--port": self.port,
            "--include-dashboard": "false",
            "--num-cpus": self._cpus,
            "--num-gpus": 0,
            "--object-store-memory": 100_000_000,
            "--temp-dir": self._folder / "t",
            "--ray-client-server-port": free_port(),
            "--dashboard-agent-listen-port": free_port(),
        }
        command = [str(ray), "start", "--head", "--block", *(f"{k}={v}" for k, v in options.items())]
        env = environment(self.token_file) | self._variables
        if self._path:
            env["PYTHONPATH"] = f"{self._path}{os.pathsep}{env['PYTHONPATH']}"
        self._head = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert time.monotonic() < until and self._head.poll() is None, "the head did not start"
                time.sleep(0.2)

    def processes(self) -> list[int]:
        """All that name this cluster's folder or port, and what they started."""
        marks = (str(self._folder).encode(), self.address.encode())
        parents: dict[int, int] = {}
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line, said = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(said.rpartition(")")[2].split()[1])
            if any(mark in line for mark in marks):
                found.add(int(entry.name))
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def kill(self) -> None:
        """kill -9 of the head and of all that is on this host with it."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self._head:
            self._head.wait()
        self._head = None

    def end(self) -> None:
        self.kill()
        time.sleep(0.5)
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def pool(self, *, token_file: Path | None = None, connect_seconds: float = 180, **changed: object) -> Pool:
        rules = {
            "name": "overread",
            "cpus": 0.5,
            "gpus": 0.0,
            "replicas_min": 1,
            "replicas_max": 1,
            "batch": 8,
            "batch_wait_ms": 5.0,
            "threads": 1,
        }
        place = Place(self.address, token_file or self.token_file, connect_seconds, 300, 120)
        return Pool(place, App(**(rules | changed)))  # type: ignore[arg-type]
