"""A password or token in a file of its own, which nobody else may read. No error says what is in it."""

from __future__ import annotations

import os
from pathlib import Path

from node.errors import SettingsError


def read_secret(path: Path) -> str:
    """The one line of the file.

    Raises:
        SettingsError: it cannot be read, others can read it, or it is not one line.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{path}: the secret cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: the secret is no text in UTF-8") from None
    if mode & 0o077 and path.parent not in _handed_over():
        raise SettingsError(f"{path}: others can read this secret: chmod 600 {path}")
    if not text or not text.isprintable():
        raise SettingsError(f"{path}: the secret is one line of printable characters")
    return text


def _handed_over() -> tuple[Path, ...]:
    """Folders whose files only this service sees, whatever their mode says: systemd lets it in by an access list, which
    shows as the group's, and a container has nobody else in it."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return (Path("/run/secrets"), *([Path(credentials)] if credentials else []))
