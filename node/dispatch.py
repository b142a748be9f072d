"""The dispatch role's work: advance every study that can be advanced, and keep one courier per destination.

Every step is a sweep over rows and may run at any time, twice, or late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from config.settings import Peer, Settings
from node.domain import StudyState
from node.edge import careful
from node.pipeline import deliver
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import deliveries, studies, upkeep
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

Sweep = Callable[[], object]
IDLE_SECONDS = 1.0


class Dispatcher:
    """Settles, routes and delivers for one node."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        settings: Settings,
        bell: Bell,
        plans: Sequence[Planned],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._bell = bell
        self._plans = plans
        self._clock = clock
        self._stop = threading.Event()
        self._one = threading.Lock()
        self._lanes = [
            _Lane(store, spool, peer, settings, self._stop) for peer in settings.peer if "receive" in peer.may
        ]

    def start(self) -> None:
        deliveries.free_all(self._store)
        for lane in self._lanes:
            lane.thread.start()

    def stop(self) -> None:
        self._stop.set()
        for lane in self._lanes:
            lane.kick.set()
        for lane in self._lanes:
            lane.thread.join(self._settings.deliver.timeout_seconds)

    def advance(self) -> float | None:
        """Settle and route what is due, wake the others; when the next study may settle."""
        with self._one:
            now = self._clock()
            due = settle_due(self._store, self._settings, now).next_due
            for study in studies.in_state(self._store, StudyState.SETTLED):
                step = partial(route_study, self._store, study, self._plans, now, peers=self._settings.peer)
                routed = careful(step, pause=0)
                if routed and routed.state is StudyState.ROUTED:
                    self._bell.ring("infer")
        for lane in self._lanes:
            lane.kick.set()
        return due

    def sweeps(self) -> list[tuple[Sweep, float]]:
        """What the scheduler fires, with its seconds in between."""
        return [(self.advance, 5.0), (self.give_up_orphans, 60.0), (self.sweep_tmp, 600.0), (self.purge, 3600.0)]

    def give_up_orphans(self) -> int:
        return deliver.orphans(self._store, self._settings, self._clock())

    def sweep_tmp(self) -> int:
        # A transfer that still runs touches its file more often than the network timeout
        return self._spool.sweep_tmp(self._clock(), older_than=2 * self._settings.listener.network_timeout_seconds)

    def purge(self) -> int:
        items = upkeep.purge(self._store, self._settings.retention, self._clock())
        upkeep.purge_origins(self._store, self._spool, self._clock())
        upkeep.purge_forms(self._store, self._spool, self._clock())
        if items:
            log.info("retention.purged files=%d bytes=%d", len(items), sum(i.size for i in items))
        return len(items)


class _Lane:
    """One destination's thread: what happens to this peer happens to nobody else."""

    def __init__(self, store: Store, spool: Spool, peer: Peer, settings: Settings, stop: threading.Event) -> None:
        self.kick = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"deliver-{peer.name}", daemon=True)
        self._courier = deliver.Courier(store, peer, spool=spool, settings=settings)
        self._stop = stop

    def _run(self) -> None:
        while not self._stop.is_set():
            if not careful(self._courier.deliver_due):
                self.kick.wait(IDLE_SECONDS)
                self.kick.clear()
                careful(self._courier.rest)
        self._courier.close()
