"""Having what runs take its changed settings file up: the supervisors are told so, and note what came of it."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config import changes
from config.settings import Settings, SettingsFileError
from node.errors import NotRunning
from node.storage import roles

Notes = dict[str, dict[str, Any]]
"""What each supervisor noted: how often it `begun` and `ended`, and of the last time `refused`, `said`, `at_start`."""
POLL_SECONDS = 0.05


def tell(data_dir: Path, *, seconds: float) -> None:
    """Tell all that runs in a data folder to take its settings file up, and see that they begin.

    Raises:
        NotRunning: nobody runs there, may be told so, or begins within `seconds`.
    """
    _wait(data_dir, _hang_up(data_dir), "begun", seconds)


def ask(data_dir: Path, *, seconds: float) -> Notes:
    """The same, and wait for the end; what each supervisor then notes."""
    return _wait(data_dir, _hang_up(data_dir), "ended", seconds)


def _hang_up(data_dir: Path) -> Notes:
    """What they had noted before."""
    before = roles.supervisors(data_dir)
    if not before:
        raise NotRunning(f"no `overread serve` runs in the data folder {data_dir}")
    for said in before.values():
        try:
            os.kill(said["pid"], signal.SIGHUP)
        except PermissionError:
            raise NotRunning(f"process {said['pid']} is another user's: reload as who runs the node") from None
    return before


def _wait(data_dir: Path, before: Notes, what: str, seconds: float) -> Notes:
    until = time.monotonic() + seconds
    while True:
        now = roles.supervisors(data_dir)
        if gone := sorted(set(before) - set(now)):
            raise NotRunning(f"{', '.join(gone)} ended meanwhile: see the log")
        if all(now[name][what] > said["begun"] for name, said in before.items()):
            return {name: now[name] for name in before}
        if time.monotonic() > until:
            raise NotRunning(f"the node did not answer within {seconds:g} seconds: see the log")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Waiting:
    """What the settings file says and what runs does not: `said` can be taken up, `at_start` by a restart only; or why
    the file is not valid."""

    said: tuple[str, ...] = ()
    at_start: tuple[str, ...] = ()
    wrong: str = ""


def waiting(in_force: Settings) -> Waiting:
    """What a settings file was changed in since it was taken up."""
    if in_force.file is None:
        return Waiting()
    try:
        new, at_start = changes.held_back(in_force, Settings.load(in_force.file))
    except SettingsFileError as error:
        return Waiting(wrong=str(error))
    return Waiting(tuple(changes.differences(in_force, new)), tuple(at_start))
