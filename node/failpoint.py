"""Places where a test may kill the process, to prove that nothing acknowledged is lost there.

`OVERREAD_FAILPOINT=NAME:TOKEN` ends the process without any clean-up when NAME is reached while the file TOKEN exists;
the file is removed first, so that it happens once. Without the variable a fail-point does nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "OVERREAD_FAILPOINT"
EXIT_CODE = 137


def failpoint(name: str) -> None:
    """Die here, if a test asked for it."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    point, _, token = wanted.partition(":")
    if point != name:
        return
    try:
        Path(token).unlink()
    except FileNotFoundError:
        return
    os._exit(EXIT_CODE)
