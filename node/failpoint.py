"""Places where a test may kill the process, to prove that nothing acknowledged is lost there.

`OVERREAD_FAILPOINT` names a file; while the file holds the name of a fail-point, the first process that reaches it
removes the file and ends without any clean-up. Without the variable a fail-point does nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "OVERREAD_FAILPOINT"
EXIT_CODE = 137
FILE = os.environ.get(VARIABLE)


def failpoint(name: str) -> None:
    """Die here, if a test asked for it."""
    if not FILE:
        return
    try:
        if Path(FILE).read_text() != name:
            return
        Path(FILE).unlink()
    except FileNotFoundError:
        return
    os._exit(EXIT_CODE)
