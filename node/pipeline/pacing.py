"""When a pull may ask for its next study: so many a minute, and only at some hours of the day. Times are arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from node.errors import PullError

MINUTE = 60.0


@dataclass(frozen=True)
class Window:
    """Hours of the day in local time, from `start` up to but without `end`; over midnight where `end` is earlier."""

    start: time
    end: time

    def opens_in(self, now: float) -> float:
        """Seconds until it is open; 0 while it is."""
        here = datetime.fromtimestamp(now)
        if self._holds(here.time()):
            return 0.0
        opening = datetime.combine(here.date(), self.start)
        if opening <= here:
            opening += timedelta(days=1)
        return opening.timestamp() - now

    def _holds(self, at: time) -> bool:
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end


@dataclass(frozen=True)
class Pace:
    """At most `per_minute` studies (0 is no limit), and none outside the window."""

    per_minute: float = 0
    window: Window | None = None

    def wait(self, now: float, last: float | None) -> float:
        """Seconds until the next study may be asked for; `last` is when the one before was."""
        rest = last + MINUTE / self.per_minute - now if self.per_minute and last is not None else 0.0
        # A clock that was set back must not stop a pull for longer than its pace asks for
        rest = min(rest, MINUTE / self.per_minute) if self.per_minute else 0.0
        return max(rest, self.window.opens_in(now) if self.window else 0.0, 0.0)


def window_of(text: str) -> Window:
    """`19:00-06:00` as hours of the day.

    Raises:
        PullError: it is none.
    """
    found = re.fullmatch(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})", text.strip())
    try:
        if not found:
            raise ValueError
        begin, minute, end, last = (int(part) for part in found.groups())
        window = Window(time(begin, minute), time(end, last))
    except ValueError:
        raise PullError(f'--between {text}: hours of the day in local time, such as "19:00-06:00"') from None
    if window.start == window.end:
        raise PullError(f"--between {text}: begins when it ends; leave it out for the whole day")
    return window
