"""A settings file is replaced as a whole, or not at all, and never by one that a node would not start with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from config.edit import EditError
from config.settings import Settings, SettingsFileError

BOM = "\ufeff"


def rewrite(path: Path, change: Callable[[str], str]) -> Settings:
    """Change the text of a settings file; mode and owner stay, and a link to it stays one.

    Returns:
        What the file says now.

    Raises:
        SettingsFileError: the file cannot be changed, the change cannot be made, or what came out is not valid. The
            file is as it was.
    """
    file = path.resolve()
    try:
        before = file.read_bytes()
        text = before.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsFileError(f"{path}: cannot be read: {error}") from None
    if not is_writable(path):
        raise SettingsFileError(f"{path}: is read-only; nothing was changed")
    mark = BOM if text.startswith(BOM) else ""
    try:
        after = change(text.removeprefix(BOM))
    except EditError as error:
        raise SettingsFileError(f"{path}: {error}") from None
    settings = Settings.parse(after, path)
    try:
        _replace(file, before, (mark + after).encode("utf-8"))
    except OSError as error:
        raise SettingsFileError(f"{path}: cannot be replaced: {error.strerror}; nothing was changed") from None
    return settings


def is_writable(path: Path) -> bool:
    """Whether a settings file may be changed here: also root does not change one that nobody may write."""
    file = path.resolve()
    try:
        return bool(file.stat().st_mode & 0o222) and os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    except OSError:
        return False


def _replace(file: Path, before: bytes, after: bytes) -> None:
    was = file.stat()
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # commands that change it at the same time come one after the other
        with part.open("xb") as out:
            os.fchmod(out.fileno(), 0o600)
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(out.fileno(), was.st_uid, was.st_gid)
            os.fchmod(out.fileno(), was.st_mode & 0o7777)
            out.write(after)
            out.flush()
            os.fsync(out.fileno())
        if file.read_bytes() != before:
            raise SettingsFileError(f"{file}: was changed by somebody else meanwhile; nothing was changed, try again")
        part.replace(file)
        os.fsync(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        os.close(folder)
