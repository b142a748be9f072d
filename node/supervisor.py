"""The parent of all roles: starts one process each, restarts what dies, and gives a dead worker's jobs back at once.

It loads no model, opens no socket and parses no DICOM, so that there is little in it that can fail.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from config.settings import Settings
from node.edge import careful
from node.errors import DatabaseDamaged
from node.service import BAD_SETTINGS, GRACE_SECONDS, Parts, open_parts, worker_name
from node.storage import jobs, roles
from node.storage.store import set_aside

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass
class Child:
    """One process and how often it died lately."""

    name: str
    process: subprocess.Popen[bytes]
    deaths: int = 0
    restart_at: float | None = field(default=None)


class Supervisor:
    """Runs roles until told to stop."""

    def __init__(self, settings: Settings, file: Path, wanted: Sequence[str]) -> None:
        self._settings = settings
        self._file = file
        self._roles = wanted
        self._stop = threading.Event()
        self._parts: Parts = _open(settings)

    def run(self) -> int:
        """Start all roles and keep them running; returns the exit code of the program."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        children = [self._start(n) for n in roles.processes(self._settings.infer.device, self._roles)]
        code = 0
        while not self._stop.wait(POLL_SECONDS):
            if any(self._cannot_start(child) for child in children):
                code = BAD_SETTINGS
                break
            for child in children:
                self._tend(child)
        self._end(children)
        return code

    def _start(self, name: str) -> Child:
        command = [sys.executable, "-m", "node.service", name, str(self._file)]
        return Child(name, subprocess.Popen(command, stdin=subprocess.PIPE))

    def _cannot_start(self, child: Child) -> bool:
        """A role that refuses its settings at its first start will not do better at the second."""
        return child.process.poll() == BAD_SETTINGS and child.deaths == 0

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.restart_at is not None:
            if now >= child.restart_at:
                child.process, child.restart_at = self._start(child.name).process, None
            return
        code = child.process.poll()
        if code is None:
            return
        child.deaths = 1 if self._was_ready(child) else child.deaths + 1
        wait = BACK_OFF_SECONDS[min(child.deaths - 1, len(BACK_OFF_SECONDS) - 1)]
        log.error("role.died role=%s code=%s restart_in=%g", child.name, code, wait)
        child.restart_at = now + wait
        careful(lambda: self._give_back(child.name))

    def _was_ready(self, child: Child) -> bool:
        """A process that came as far as working is restarted at once; one that never does is given time."""
        said = roles.status(self._settings.node.data_dir, [child.name])[child.name]
        return said.get("pid") == child.process.pid and said["state"] == "ready"

    def _give_back(self, name: str) -> None:
        """A process that leased no jobs has none to give back."""
        for job in jobs.give_back(self._parts.store, worker_name(name), crashed=True, now=time.time()):
            log.warning("job.given-back job=%d state=%s crashes=%d", job.id, job.state, job.crashes)

    def _end(self, children: Sequence[Child]) -> None:
        """Closing a role's standard input asks it to finish; what has not finished in time is killed."""
        for child in children:
            if child.process.stdin:
                child.process.stdin.close()
        until = time.monotonic() + GRACE_SECONDS + 5
        for child in children:
            try:
                child.process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                log.error("role.killed role=%s: did not end in time", child.name)
                child.process.kill()
                child.process.wait()


def _open(settings: Settings) -> Parts:
    """Open the data folder; a damaged database is set aside and built anew from the spool by the receive role."""
    try:
        return open_parts(settings, check=True)
    except DatabaseDamaged as error:
        aside = set_aside(settings.node.data_dir / "overread.db", time.time())
        log.critical("%s; set aside as %s, the rows are rebuilt from the spool", error, aside.name)
        return open_parts(settings, check=True)
