"""The settings in force: what a node took up last, as one JSON file in its data folder.

A settings file may be half edited when a role dies: whoever is started, or told to look, gets what was found valid.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from pathlib import Path
from typing import Any

from config.settings import ENVIRONMENT, Node, Settings


def write(settings: Settings, path: Path, *, at: float) -> None:
    """Put settings in force; `at` (seconds since the epoch) names them. Readers see the old ones or these."""
    part = path.with_suffix(".part")
    with part.open("w") as out:
        os.fchmod(out.fileno(), 0o600)
        json.dump({"at": at, "file": str(settings.file or ""), "settings": dumped(settings)}, out)
    part.replace(path)


def read(path: Path) -> tuple[Settings, float]:
    said = json.loads(path.read_text())
    file = Path(said["file"]) if said["file"] else None
    return restored(said["settings"], file), float(said["at"])


def dumped(settings: Settings) -> dict[str, Any]:
    """What was said and not what is a default, so that what is restored knows the difference, too."""
    return settings.model_dump(mode="json", exclude_unset=True)


def restored(values: dict[str, Any], file: Path | None) -> Settings:
    """The settings that once stood in a file.

    Raises:
        ValidationError: the values contradict each other.
    """
    return Settings(**values).of(file)


def data_dir_of(file: Path) -> Path:
    """The data folder that a settings file names, also when the file is not valid, or ends in what is no TOML."""
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines(keepends=True)
    said: Any = {}
    for end in range(len(lines), 0, -1):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            said = tomllib.loads("".join(lines[:end])).get("node", {})
            break
    named = os.environ.get(f"{ENVIRONMENT}NODE__DATA_DIR") or (said.get("data_dir") if isinstance(said, dict) else None)
    return file.absolute().parent / Path(str(named or Node().data_dir)).expanduser()


class InForce:
    """What one role runs by. Given the JSON file it sees when others are in force; given a settings file, as when a
    role is started by hand, it stays with what that said."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._watched = path.suffix == ".json"
        self._stamp = _stamp(path)
        self.settings, self.at = read(path) if self._watched else (Settings.load(path), 0.0)

    def changed(self) -> bool:
        """Whether others are in force since this was last asked; `settings` and `at` are then theirs."""
        stamp = _stamp(self._path) if self._watched else self._stamp
        if stamp in (self._stamp, None):
            return False
        self.settings, self.at = read(self._path)
        self._stamp = stamp
        return True


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
