"""A loop's edge: the one place where any exception may end, so that a role outlives a bad step.

Never used inside a step; what a step does half is mended by its rows, not here.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from node.errors import OverreadError

log = logging.getLogger(__name__)
T = TypeVar("T")

TICK_SECONDS = 1.0


def careful(step: Callable[[], T], *, pause: float = TICK_SECONDS) -> T | None:
    """Take one step of a loop; a failure is logged, and the loop goes on after `pause` seconds."""
    try:
        return step()
    except Exception as error:
        log.error("step.failed %s %s", whereabouts(error), error if isinstance(error, OverreadError) else "")
        time.sleep(pause)
        return None


def whereabouts(error: Exception) -> str:
    """Class and place of an error: its message could hold a value of a data set, and these are enough to find it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
