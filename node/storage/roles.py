"""Which roles run in a data folder: one lock and one note each. The lock is believed, the note only shown."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from node.errors import RoleTaken

ROLES = ("receive", "infer", "dispatch", "web")
"""Each is one process; infer is one for each device."""
FOLDER = "run"
GONE = "not running"
WAIT_SECONDS = 20.0
"""How long a new process waits for its predecessor, which may be draining, to let go."""
PROBED_SECONDS = 1.0
"""Whoever asks whether a role runs has its lock for a moment."""


def processes(devices: Sequence[str], wanted: Sequence[str] = ROLES) -> dict[str, tuple[str, str]]:
    """The processes of some roles, by name: (role, device). With one device its process is called like the role."""
    found = {}
    for role in wanted:
        for device in devices if role == "infer" else [""]:
            found[f"infer-{device}" if role == "infer" and len(devices) > 1 else role] = (role, device)
    return found


def host_id(data_dir: Path) -> str:
    """Which of the hosts that share a database this data folder belongs to: made once, the same ever after."""
    file = host_file(data_dir)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not file.exists():
        part = file.with_name(f"host.{os.getpid()}.part")
        part.write_text(secrets.token_hex(4))
        # Whoever comes first decides; linking fails where renaming would overwrite
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(part)
        part.unlink()
    return file.read_text()


def host_file(data_dir: Path) -> Path:
    """Where that stands."""
    return data_dir / FOLDER / "host"


def supervisor(wanted: Sequence[str] = ROLES) -> str:
    """What the process that starts these roles is called among them."""
    return "-".join(["supervisor", *(wanted if set(wanted) != set(ROLES) else ())])


def supervisors(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What each supervisor that runs in a data folder noted; there may be one for each role."""
    names = sorted(p.stem for p in (data_dir / FOLDER).glob("supervisor*.lock"))
    found = status(data_dir, names)
    return {name: said for name, said in found.items() if said["running"] and said["state"] == "ready"}


@contextlib.contextmanager
def own(data_dir: Path, names: Iterable[str]) -> Iterator[None]:
    """Hold the right to start these processes: one supervisor for each, and no waiting for another's end.

    Raises:
        RoleTaken: another `overread serve` has one of them in this data folder.
    """
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        for name in names:
            lock = held.enter_context((folder / f"{name}.owner").open("w"))
            taken = f"another `overread serve` has the role {name} in the data folder {data_dir}"
            _acquire(lock, PROBED_SECONDS, taken)
        yield


@contextlib.contextmanager
def only_one(data_dir: Path, role: str) -> Iterator[Callable[..., None]]:
    """Hold a role's lock; yields a function that notes the role's state for others to see.

    Raises:
        RoleTaken: another process has this role in this data folder.
    """
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / f"{role}.lock").open("w") as lock:
        _acquire(lock, WAIT_SECONDS, f"another process has the role {role} in the data folder {data_dir}")

        def say(state: str, **more: object) -> None:
            part = folder / f"{role}.json.part"
            part.write_text(json.dumps({"state": state, "pid": os.getpid(), "at": time.time(), **more}))
            part.rename(folder / f"{role}.json")

        say("starting")
        yield say
        say("stopped")


def _acquire(lock: IO[str], seconds: float, taken: str) -> None:
    """Raises:
    RoleTaken: with these words, as another held the lock for so long.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise RoleTaken(taken) from None
            time.sleep(0.05)


def status(data_dir: Path, names: Iterable[str] = ROLES) -> dict[str, dict[str, Any]]:
    """What each process last noted, and whether it runs."""
    found: dict[str, dict[str, Any]] = {}
    for role in names:
        note = data_dir / FOLDER / f"{role}.json"
        try:
            said = dict(json.loads(note.read_text()))
        except (OSError, ValueError):
            said = {"state": "never started"}
        found[role] = said | {"running": _is_locked(note.with_name(f"{role}.lock"))}
    return found


def expected(data_dir: Path, devices: Sequence[str], *, shared: bool = False) -> dict[str, dict[str, Any]]:
    """The same of all processes of a node; of a dashboard only where somebody's `overread serve` is to run it. One of
    many hosts (`shared`) need not have every role: those of its `overread serve`, or that it once had."""
    found = status(data_dir, processes(devices))
    owned = {name for name in found if is_owned(data_dir, name)}
    if not shared:
        return {name: said for name, said in found.items() if name != "web" or name in owned}
    ever = {name for name in found if (data_dir / FOLDER / f"{name}.owner").exists()}
    return {name: said for name, said in found.items() if name in (owned or ever or found)}


def here(data_dir: Path) -> dict[str, str]:
    """What somebody's `overread serve`, or a pull, is to run in a data folder, and how far each is."""
    names = [name for name in owned_ever(data_dir) if name.split("-")[0] in ROLES and is_owned(data_dir, name)]
    found = {name: said["state"] if said["running"] else GONE for name, said in status(data_dir, names).items()}
    pulls = (name for name in owned_ever(data_dir) if name.startswith("pull-") and is_owned(data_dir, name))
    return found | dict.fromkeys(pulls, "ready")


def owned_ever(data_dir: Path) -> set[str]:
    """The processes of a node, and whatever else somebody has owned in its data folder."""
    return {*processes([""]), *(path.stem for path in (data_dir / FOLDER).glob("*.owner"))}


def is_owned(data_dir: Path, name: str) -> bool:
    """Whether somebody's `overread serve` is to run this process."""
    return _is_locked(data_dir / FOLDER / f"{name}.owner")


def _is_locked(path: Path) -> bool:
    """Who asks shares the lock with others who ask: none takes another for the owner."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
