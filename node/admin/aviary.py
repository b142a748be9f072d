"""Sends canaries in their time, from the dispatch role."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from config.settings import Settings
from node.admin.canary import HOUR, alone, run, tidy
from node.errors import RoleTaken
from node.storage import canaries, roles
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)


class Aviary:
    """Sends canaries in their time, from the dispatch role."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        settings: Settings,
        stopped: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._stopped = stopped
        self._monotonic = monotonic
        # The first one an hour after the start: models were replayed just then
        self._due = monotonic() + settings.canary.every_hours * HOUR
        self._begun = False

    def can_fly(self) -> bool:
        """Whether there is a listener here to fly to; hosts that have none leave it to others."""
        return not self._store.database.shared or bool(roles.status(self._settings.node.data_dir)["receive"]["running"])

    def step(self) -> int:
        """Fly if it is time; how many routes were judged."""
        if not self._begun:
            # a person's canary may be under way
            with contextlib.suppress(RoleTaken), alone(self._settings, self._store):
                canaries.end_all(self._store, "the node was restarted meanwhile", now=self._store.now())
                tidy(self._store, self._spool)
                self._begun = True
        if self._monotonic() < self._due:
            return 0
        found, self._due = [], self._monotonic() + self._settings.canary.every_hours * HOUR
        with contextlib.suppress(RoleTaken):  # a person's is under way, and says the same
            found = run(self._settings, self._store, self._spool, stopped=self._stopped)
        for ran in found:
            level = logging.ERROR if ran.ok is False else logging.INFO
            log.log(level, "canary.ended route=%s ok=%s reason=%r", ran.route, ran.ok, ran.reason)
        return len(found)

    def rest(self) -> None:
        """Nothing is held between two canaries."""

    def close(self) -> None:
        """Nothing is held open."""
