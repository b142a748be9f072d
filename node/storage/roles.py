"""Which roles run in a data folder: one lock and one note each. The lock is believed, the note only shown."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from node.errors import SettingsError

ROLES = ("receive", "infer", "dispatch")
FOLDER = "run"
WAIT_SECONDS = 20.0
"""How long a new process waits for its predecessor, which may be draining, to let go."""


@contextlib.contextmanager
def only_one(data_dir: Path, role: str) -> Iterator[Callable[..., None]]:
    """Hold a role's lock; yields a function that notes the role's state for others to see.

    Raises:
        SettingsError: another process has this role in this data folder.
    """
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / f"{role}.lock").open("w") as lock:
        _acquire(lock, role, data_dir)

        def say(state: str, **more: object) -> None:
            part = folder / f"{role}.json.part"
            part.write_text(json.dumps({"state": state, "pid": os.getpid(), "at": time.time(), **more}))
            part.rename(folder / f"{role}.json")

        say("starting")
        yield say
        say("stopped")


def _acquire(lock: IO[str], role: str, data_dir: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise SettingsError(f"another process has the role {role} in the data folder {data_dir}") from None
            time.sleep(0.05)


def status(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What each role last noted, and whether it runs."""
    found: dict[str, dict[str, Any]] = {}
    for role in ROLES:
        note = data_dir / FOLDER / f"{role}.json"
        try:
            said = dict(json.loads(note.read_text()))
        except (OSError, ValueError):
            said = {"state": "never started"}
        found[role] = said | {"running": _is_locked(note.with_suffix(".lock"))}
    return found


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
