"""Expect: ask a peer how many instances it has of a study that is arriving from it, so that `settle` can count.

The answer is a row, and so is a failure: a peer that cannot be asked costs nothing but this signal, and no study waits
for an answer.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from config.settings import Peer, Settings
from node.errors import PeerError
from node.network.find import Finder
from node.pipeline.deliver import ceiling
from node.pipeline.peers import target_of
from node.storage import expected
from node.storage.bell import Bell
from node.storage.expected import Open
from node.storage.store import Store

log = logging.getLogger(__name__)

BATCH = 20
"""Studies that are asked about in a row, over one association."""
AGAIN_SECONDS = 2.0
"""So long nobody asks again about a study of which more comes."""


class Counts(Protocol):
    """Whom a peer is asked by: as `Source`, of which no more is needed here."""

    def count(self, study_instance_uid: str) -> int | None: ...

    def close(self) -> None: ...


def is_asked(peer: Peer, settings: Settings) -> bool:
    """Whether a peer that studies come from is asked about them."""
    return {"send", "query"} <= set(peer.may) and settings.settle_for(peer.name).expected_seconds > 0


class Expecter:
    """Asks one peer, over an association that is held while there is something to ask."""

    def __init__(
        self,
        store: Store,
        peer: Peer,
        *,
        settings: Settings,
        bell: Bell,
        counts: Counts | None = None,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._peer = peer
        self._rules = settings.deliver
        self._bell = bell
        self._counts = counts or Finder(target_of(peer, settings), silence=settings.deliver.timeout_seconds)
        self._clock = clock or store.now
        self._monotonic = monotonic
        self._chance = chance
        self._used_at = 0.0
        self._not_before = 0.0
        """On the monotonic clock: new studies do not ask a peer that has just failed."""
        self._failures = 0

    def ask_due(self) -> int:
        """Ask about what is due.

        Returns:
            The number of studies that were asked about.
        """
        if self._monotonic() < self._not_before:
            return 0
        studies = expected.due(self._store, self._peer.name, BATCH, now=self._clock())
        for at, study in enumerate(studies):
            now = self._clock()  # what comes while it answers came since
            try:
                instances = self._counts.count(study.study_instance_uid)
            except PeerError as error:
                self._postpone(studies[at:], str(error))
                return 0
            self._told(study, instances, now)
        if studies:
            self._bell.ring("dispatch")
        return len(studies)

    def rest(self) -> None:
        """Close an association that nobody used for `deliver.hold_seconds`."""
        if self._monotonic() - self._used_at >= self._rules.hold_seconds:
            self.close()

    def close(self) -> None:
        self._counts.close()

    def _told(self, study: Open, instances: int | None, now: float) -> None:
        self._used_at, self._failures = self._monotonic(), 0
        # A peer that says 0 keeps nothing that could be counted
        expected.told(self._store, study.study_id, instances or None, due_at=now + AGAIN_SECONDS, now=now)

    def _postpone(self, studies: list[Open], reason: str) -> None:
        """Nobody asks for a while, the longer the oftener it failed. What waits for nothing else settles without."""
        self._failures += 1
        most = ceiling(self._failures - 1, self._rules)
        wait = self._chance(most / 2, most)
        self._not_before = self._monotonic() + wait
        now = self._clock()
        for study in studies:
            expected.unanswered(self._store, study.study_id, reason, due_at=now + wait)
        log.warning("expected.unanswered peer=%s studies=%d reason=%r", self._peer.name, len(studies), reason)
