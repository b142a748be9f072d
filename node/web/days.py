"""Days as addresses name them: those of this machine's zone, also when the clock is put on or back."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Annotated

from pydantic import BeforeValidator

FIRST, LAST = date(1971, 1, 1), date(9000, 12, 31)
"""Between them a day has its seconds since the epoch, whatever the zone."""


def _written(text: str) -> str:
    """Only 2026-01-31: pydantic would take a number for seconds since the epoch, and Python a week."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise ValueError("a day is written as 2026-01-31")
    return text


Day = Annotated[date, BeforeValidator(_written)]


def parsed(text: str) -> date | None:
    """A day that was typed; None where it is none."""
    try:
        found = date.fromisoformat(_written(text))
    except ValueError:
        return None
    return found if FIRST <= found <= LAST else None


def bounds(day: date) -> tuple[float, float]:
    """When it begins and when the next one does."""
    start, end = (datetime.combine(one, time.min).astimezone() for one in (day, day + timedelta(days=1)))
    return start.timestamp(), end.timestamp()
