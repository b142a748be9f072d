"""How far a pull may run ahead: it rests while too much of what pulls brought waits to be read, and while the disk has
no more room than clinical work may need; and goes on by itself.
"""

from __future__ import annotations

from node.storage import bulk
from node.storage.spool import Spool
from node.storage.store import Store

MOST = 1000
"""So many pulled studies wait to be read, unless the pull says otherwise."""
ROOM = 2
"""A pull leaves so many times listener.reserve_mb free: below one of them nobody's associations are taken."""
LOOK_SECONDS = 1.0
MB = 1024**2


class Ahead:
    """Asked before each study. `most` pulled studies may wait to be read, 0 is no limit."""

    def __init__(self, store: Store, spool: Spool, *, most: int, reserve_mb: int) -> None:
        self._store = store
        self._spool = spool
        self._most = most
        self._reserve_mb = reserve_mb
        self._said = ""
        self._looked_at = float("-inf")

    def rests(self, now: float) -> str:
        """Why the next study must wait; empty when it need not. Where nobody reads only the disk counts."""
        if not 0 <= now - self._looked_at < LOOK_SECONDS:
            self._looked_at = now
            self._said = self._full() or self._long(now)
        return self._said

    def look_again(self) -> None:
        """The disk filled up faster than it was looked at."""
        self._looked_at = float("-inf")

    def _full(self) -> str:
        if self._spool.free_bytes() >= ROOM * self._reserve_mb * MB:
            return ""
        return (
            f"less than {ROOM} x listener.reserve_mb = {ROOM * self._reserve_mb} MB free on the disk of "
            f"{self._spool.root}: it goes on when there is more"
        )

    def _long(self, now: float) -> str:
        waiting = bulk.ahead(self._store) if self._most else 0
        if waiting < self._most or not waiting or not bulk.somebody_reads(self._store, now=now):
            return ""
        return f"{waiting} pulled studies wait to be read: it goes on when there are fewer than {self._most}"
