"""Files that are not kept yet, or not for long: what their process did not live to finish is swept."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def room(within: Path, what: str) -> Iterator[Path]:
    """A folder in `within` that is this process's alone: nobody sweeps it while the process lives, however long its
    files lie still. Rooms of the same kind whose processes were killed are swept first.
    """
    sweep(within, 0.0, older_than=-math.inf, pattern=f"{what}-*")
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{what}-", dir=within))
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
        if os.fstat(held).st_nlink:
            break
        os.close(held)  # swept before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def sweep(within: Path, now: float, *, older_than: float, pattern: str = "*") -> int:
    """Delete what was left half written, and rooms whose process is gone; how many files and rooms."""
    swept = 0
    for path in within.glob(pattern):
        try:
            if now - path.stat().st_mtime >= older_than:
                swept += _swept(path)
        except FileNotFoundError:
            continue
    return swept


def _swept(path: Path) -> bool:
    """Delete a file, or a room unless its process lives."""
    if not path.is_dir():
        path.unlink()
        return True
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True
