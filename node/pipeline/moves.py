"""Moves: what is sent to the listener because a pull had told somebody to move it. It then came by that pull.

A PACS may send by another AE title than it is queried by, so it is the study that counts and not who sends it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex

from node.domain import Origin, Pulled
from node.storage import pulls
from node.storage.spool import COHORT
from node.storage.store import Store

LOOK_SECONDS = 5.0
"""So long an answer stands whether a study is being moved; far shorter than what has ended still counts."""


def association_of(pulled: Pulled) -> str:
    """A name for what a pull brings, which says by itself where nothing of it may be delivered."""
    return (COHORT if pulled.route or pulled.mode else "") + token_hex(6)


class Moves:
    """Of one association: whether its peer sends a study by itself or for a pull. Keeps no more than is under way."""

    def __init__(self, store: Store, origin: Origin, end: Callable[[Origin, str], None]) -> None:
        self._store = store
        self._origin = origin
        self._end = end
        self._looked: dict[str, tuple[Origin, float]] = {}

    def origin(self, study_instance_uid: str, *, now: float) -> Origin:
        """Where an instance of the study comes from that has just arrived."""
        known, looked_at = self._looked.get(study_instance_uid, (self._origin, None))
        if looked_at is None or not 0 <= now - looked_at < LOOK_SECONDS:
            for uid, (_, at) in list(self._looked.items()):
                if not 0 <= now - at < LOOK_SECONDS:
                    self._look(uid, now)
            known = self._look(study_instance_uid, now)
            self._looked[study_instance_uid] = known, now
        return known

    def close(self, how: str) -> None:
        """The association has ended, and with it what came by it for pulls."""
        for known, _ in self._looked.values():
            if known.pulled:
                self._end(known, how)

    def _look(self, uid: str, now: float) -> Origin:
        """Ask anew; only what is being moved is remembered."""
        pulled = pulls.moved(self._store, uid, self._origin.peer, now=now)
        known, _ = self._looked.pop(uid, (self._origin, now))
        if pulled == known.pulled:
            found = known
        else:
            if known.pulled:
                self._end(known, "released")
            found = replace(self._origin, id=association_of(pulled), pulled=pulled) if pulled else self._origin
        if pulled:
            self._looked[uid] = found, now
        return found
