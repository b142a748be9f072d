"""A loop's edge: the one place where any exception may end, so that a role outlives a bad step.

Never used inside a step; what a step does half is mended by its rows, not here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from node.errors import OverreadError

log = logging.getLogger(__name__)
T = TypeVar("T")

TICK_SECONDS = 1.0


def careful(step: Callable[[], T]) -> T | None:
    """Take one step of a loop; a failure is logged, and the step is tried again at the next tick."""
    try:
        return step()
    except Exception as error:
        # The message could hold a path or a value of a data set; class and place are enough to find the cause
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else ""
        said = str(error) if isinstance(error, OverreadError) else ""
        log.error("step.failed error=%s at=%s %s", type(error).__name__, where, said)
        time.sleep(TICK_SECONDS)
        return None
