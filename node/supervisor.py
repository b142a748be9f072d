"""The parent of all roles: starts one process each, restarts what dies, and gives a dead worker's jobs back at once.

It loads no model, opens no socket and parses no DICOM, so that there is little in it that can fail.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import inforce
from config.settings import DATABASE, Settings, SettingsFileError
from node.edge import careful, whereabouts
from node.errors import DatabaseDamaged, OverreadError, RoleTaken
from node.logs import set_up_logging
from node.pipeline.presence import Presence, see_who_else
from node.reload import RESTART, Reloaded, Steps, reload
from node.service import BAD_SETTINGS, GRACE_SECONDS, PATIENCE_SECONDS, Parts, open_parts
from node.storage import jobs, roles
from node.storage.schema import REVISION
from node.storage.sqlite import set_aside
from node.storage.store import Store

log = logging.getLogger("node.supervisor")

POLL_SECONDS = 0.1
ANEW = -1
UNUSABLE = 2
"""Exit code of a program whose command or settings are not usable."""
CALM_SECONDS = 10.0
"""A role that was ready and last died longer ago than this is restarted at once."""
BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ONCE_READY_SECONDS = 5.0
"""The longest wait for a role that has worked before: it probably will again."""
NO_PROCESS_SECONDS = 2.0


@dataclass
class Child:
    """One process, or the plan to start it; `restart_at` and `died_at` are monotonic seconds."""

    name: str
    process: subprocess.Popen[bytes] | None = None
    restart_at: float | None = 0.0
    died_at: float | None = None
    deaths: int = 0
    """Since it last ran in calm."""
    once_ready: bool = False
    renew_by: float | None = None
    """It was asked to end and is then started anew; when it is killed."""

    def died(self, now: float, *, ready: bool) -> float:
        """Note a death; seconds to wait before the restart, more from one death to the next."""
        calm = self.died_at is None or now - self.died_at > CALM_SECONDS
        self.died_at = now
        self.once_ready = self.once_ready or ready
        if ready and calm:
            self.deaths, wait = 0, 0.0
        else:
            wait = BACK_OFF_SECONDS[min(self.deaths, len(BACK_OFF_SECONDS) - 1)]
            self.deaths += 1
        wait = min(wait, ONCE_READY_SECONDS) if self.once_ready else wait
        self.restart_at = now + wait
        return wait


class Supervisor:
    """Runs roles until told to stop."""

    def __init__(
        self,
        settings: Settings,
        file: Path,
        wanted: Sequence[str],
        say: Callable[..., None],
        *,
        hangup: threading.Event,
    ) -> None:
        self._settings = settings
        self._file = file
        self._say = say
        self._stop = threading.Event()
        self._hangup = hangup
        self._reload: Steps | None = None
        self._parts: Parts = _open(settings, roles.processes(settings.infer.device, wanted))
        self._in_force = settings.node.data_dir / roles.FOLDER / f"{roles.supervisor(wanted)}.settings.json"
        now = time.time()
        inforce.write(settings, self._in_force, at=now)
        self._said: dict[str, Any] = {"file": str(file), "in_force": str(self._in_force), "since": now}
        self._said |= {"begun": 0, "ended": 0}
        self._children = [Child(n) for n in roles.processes(settings.infer.device, wanted)]

    def run(self) -> int:
        """Start all roles and keep them running until told to stop.

        Returns:
            0, BAD_SETTINGS when a role cannot start as it is set up, or ANEW when all is to be started anew.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self._say("ready", **self._said)
        names = [child.name for child in self._children]
        with Presence(self._parts.store, lambda: self._settings, ring=self._parts.bell.ring, without=names):
            return self._run()

    def _run(self) -> int:
        code = 0
        while code == 0:
            for child in self._children:
                if not self._tend(child, time.monotonic()):
                    code = BAD_SETTINGS
            self._step_reload()
            self._parts.spool.shelf.tidy()
            if self._parts.store.database.was_replaced():
                # What was acknowledged meanwhile has a file and no row; the start adopts it
                log.critical(
                    "database.replaced %s is not the file that was opened: starting anew", self._parts.store.name
                )
                code = ANEW
            if self._stop.wait(POLL_SECONDS):
                break
        log.info("role.stopping roles=%s", ",".join(child.name for child in self._children))
        if self._reload:
            self._reload.close()
        # A node that does not come up ends at once: a transfer that this cuts off was not acknowledged
        grace = max(GRACE_SECONDS, self._settings.listener.drain_seconds) + 5
        self._end(grace=1.0 if code == BAD_SETTINGS else grace)
        log.info("role.stopped code=%d", code)
        return code

    def _step_reload(self) -> None:
        """Begin to take the settings file up when a hangup asks for it, or take one more step."""
        if self._reload is None and self._hangup.is_set():
            self._hangup.clear()
            self._note(begun=self._said["begun"] + 1)
            names = [child.name for child in self._children]
            self._reload = reload(self._file, self._in_force, processes=names, wake=self._wake, renew=self._renew)
        if self._reload is None:
            return
        try:
            next(self._reload)
            return
        except StopIteration as end:
            ended: Reloaded = end.value
        except Exception as error:
            ended = Reloaded(refused=f"{self._file}: could not be taken up: {whereabouts(error)}")
        self._reload = None
        self._reloaded(ended)

    def _reloaded(self, ended: Reloaded) -> None:
        if ended.settings:
            self._settings = ended.settings
            set_up_logging(ended.settings, "supervisor")
            self._said["since"] = time.time()
        if ended.refused:
            log.error("settings.not-taken-up the node runs on with those that it had: %s", ended.refused)
        for line in ended.said:
            log.warning("settings.taken-up %s", line)
        for line in ended.warned:
            log.warning("settings.late %s", line)
        for key in ended.at_start:
            log.warning("settings.not-taken-up %s: %s", key, RESTART)
        how = {"refused": ended.refused, "said": ended.said, "warned": ended.warned, "at_start": ended.at_start}
        self._note(ended=self._said["begun"], **how)

    def _note(self, **more: object) -> None:
        self._said |= more
        self._say("ready", **self._said)

    def _wake(self) -> None:
        for role in ("receive", "infer"):
            self._parts.bell.ring(role)

    def _renew(self, name: str) -> None:
        """Have a role end in order, as at a stop; `_tend` then starts it anew."""
        child = next(c for c in self._children if c.name == name)
        if child.process is not None and child.restart_at is None:
            _ask_to_end(child.process)
            child.renew_by = time.monotonic() + GRACE_SECONDS + 5

    def _tend(self, child: Child, now: float) -> bool:
        """Start what is due and note what died; False when a role refuses its settings at its first start.

        It would not do better at the second one.
        """
        if child.restart_at is not None:
            if now >= child.restart_at:
                self._start(child, now)
            return True
        assert child.process is not None, "what is not to be started was started"
        code = child.process.poll()
        if code is None:
            if child.renew_by is not None and now > child.renew_by:
                _kill(child.process)
            return True
        if child.renew_by is not None:
            child.renew_by, child.once_ready = None, True
            self._start(child, now)
            return True
        if code == BAD_SETTINGS and child.died_at is None and not child.once_ready:
            return False
        state = self._state(child.name, child.process.pid)
        wait = child.died(now, ready=state == "ready")
        log.error("role.died role=%s code=%s restart_in=%g", child.name, code, wait)
        if state:
            careful(lambda: self._give_back(child.name))
        return True

    def _start(self, child: Child, now: float) -> None:
        command = [sys.executable, "-m", "node.service", child.name, str(self._in_force)]
        try:
            # A session of its own: Ctrl-C is for the supervisor, which ends its roles in order
            child.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
            child.restart_at = None
        except OSError as error:
            # No memory, no process, no file handle: that passes, and the other roles need their supervisor
            log.error("role.cannot-start role=%s restart_in=%g: %s", child.name, NO_PROCESS_SECONDS, error.strerror)
            child.restart_at = now + NO_PROCESS_SECONDS

    def _state(self, name: str, pid: int) -> str:
        """How far this very process came; "" when it never got the role, so that whoever has it keeps its leases."""
        said = roles.status(self._settings.node.data_dir, [name])[name]
        return str(said.get("state", "")) if said.get("pid") == pid else ""

    def _give_back(self, name: str) -> None:
        """A process that leased no jobs has none to give back."""
        for job in jobs.give_back(self._parts.store, name, crashed=True, now=self._parts.store.now()):
            log.warning("job.given-back job=%d state=%s crashes=%d", job.id, job.state, job.crashes)

    def _end(self, *, grace: float) -> None:
        """Ask all to finish; what has not finished in time is killed."""
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            _ask_to_end(process)
        until = time.monotonic() + grace
        for process in running:
            try:
                process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Closing a role's standard input asks it to finish."""
    if process.stdin:
        process.stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    log.error("role.killed pid=%d: did not end in time", process.pid)
    process.kill()


def _open(settings: Settings, mine: Collection[str]) -> Parts:
    """Open the data folder; a damaged database is set aside and built anew from the spool by the receive role. That of
    many hosts is its server's business."""
    folder = settings.node.data_dir

    def upgrade(store: Store) -> None:
        found = store.revision()
        if found in ("", REVISION) or (store.database.shared and found > REVISION):
            return
        what = "the tables of an earlier version are brought up to date"
        if store.database.shared:
            see_who_else(store, found, what)
        with contextlib.nullcontext() if store.database.shared else _nobody_else(folder, mine, what):
            copy = store.migrate()
        log.warning("database.upgraded tables=%s copy=%s", REVISION, copy.name if copy else "")

    try:
        return open_parts(settings, first=upgrade, patience=PATIENCE_SECONDS)
    except DatabaseDamaged as error:
        if settings.is_shared:
            raise
        with _nobody_else(folder, mine, "a damaged database is set aside"):
            aside = set_aside(folder / DATABASE, time.time())
        log.critical("%s; set aside as %s, the rows are rebuilt from the spool", error, aside.name)
        return open_parts(settings, first=upgrade)


@contextlib.contextmanager
def _nobody_else(folder: Path, mine: Collection[str], what: str) -> Iterator[None]:
    """Keep the database from all who may have it open, or might begin to; we are `mine`.

    Raises:
        RoleTaken: somebody has it.
    """
    with contextlib.ExitStack() as held:
        taken = []
        for name in sorted(roles.owned_ever(folder) - set(mine)):
            try:
                held.enter_context(roles.own(folder, [name]))
            except RoleTaken:
                taken.append(name)
        if taken:
            raise RoleTaken(
                f"{what} only while nobody else works in the data folder {folder}: first stop the `overread serve` (or "
                f"pull) that has {', '.join(taken)}"
            )
        yield


def main(arguments: Sequence[str]) -> int:
    """Supervise the roles of one settings file; 2 when they cannot run as they are set up."""
    file, wanted = Path(arguments[0]), arguments[1].split(",")
    hangup = threading.Event()
    # `serve` had it ignored until now; what is asked while the node starts is done as soon as it has
    signal.signal(signal.SIGHUP, lambda *_: hangup.set())
    try:
        settings = Settings.load(file)
        set_up_logging(settings, "supervisor")
        folder, names = settings.node.data_dir, roles.processes(settings.infer.device, wanted)
        with roles.own(folder, names), roles.only_one(folder, roles.supervisor(wanted)) as say:
            code = Supervisor(settings, file, wanted, say, hangup=hangup).run()
    except (OverreadError, SettingsFileError, OSError) as error:
        log.critical("cannot serve: %s", error)
        return UNUSABLE
    if code == ANEW:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a caught one would be deadly again for the new program
        os.execv(sys.executable, [sys.executable, "-m", "node.supervisor", *arguments])  # noqa: S606
    return UNUSABLE if code == BAD_SETTINGS else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
