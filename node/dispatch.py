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
from node.storage import deliveries, studies, upkeep, waits
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

Sweep = Callable[[], object]
IDLE_SECONDS = 1.0
JUMP_SECONDS = 5.0
"""By less the clock may be set unnoticed: something then waits so much longer or shorter."""
DOUBT_SECONDS = 24 * 3600.0
"""So long after the clock was set nothing is deleted for its age: people may find that the clock is wrong."""


class Watch:
    """Sees when the clock was set: it and the monotonic one, which nobody sets, no longer go together.

    A machine that slept looks the same as one whose clock was set forward, and is meant: the monotonic one slept too.
    """

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._apart = clock() - monotonic()

    def jump(self) -> float:
        """By how many seconds the clock was set since this was last asked; 0 for less than JUMP_SECONDS."""
        apart = self._clock() - self._monotonic()
        seconds = apart - self._apart
        if abs(seconds) < JUMP_SECONDS:
            return 0.0
        self._apart = apart
        return seconds


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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._bell = bell
        self._plans = plans
        self._clock = clock
        self._monotonic = monotonic
        self._watch = Watch(clock, monotonic)
        self._delete_at = monotonic()
        self._stop = threading.Event()
        self._one = threading.Lock()
        self._lanes = [_Lane(store, peer, settings, self._stop) for peer in settings.peer if "receive" in peer.may]

    def recover(self) -> None:
        """After a restart: nothing is being sent any more, and nothing may wait for what the clock said before."""
        deliveries.free_all(self._store)
        self.bound_waits()

    def start(self) -> None:
        self.recover()
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
            self._mind_the_clock()
            now = self._clock()
            due = settle_due(self._store, self._settings, now).next_due
            for study in studies.in_state(self._store, StudyState.SETTLED):
                routed = careful(partial(route_study, self._store, study, self._plans, now), pause=0)
                if routed and routed.state is StudyState.ROUTED:
                    self._bell.ring("infer")
        for lane in self._lanes:
            lane.kick.set()
        return due

    def _mind_the_clock(self) -> None:
        seconds = self._watch.jump()
        if not seconds:
            return
        log.warning("clock.set seconds=%+.0f", seconds)
        self._delete_at = self._monotonic() + DOUBT_SECONDS
        if seconds < 0:
            self.bound_waits()
        else:
            waits.postpone(self._store, seconds, now=self._clock(), **self._leases())

    def _leases(self) -> dict[str, float]:
        return {"job_lease": self._settings.infer.lease_seconds, "delivery_lease": deliver.LEASE_SECONDS}

    def sweeps(self) -> list[tuple[Sweep, float]]:
        """What the scheduler fires, with its seconds in between."""
        return [
            (self.advance, 5.0),
            (self.bound_waits, 60.0),
            (self.give_up_orphans, 60.0),
            (self.sweep_tmp, 600.0),
            (self.purge, 3600.0),
        ]

    def bound_waits(self) -> int:
        rules = self._settings
        wait = max(rules.deliver.retry_cap_seconds, rules.deliver.retry_base_seconds * 2**rules.infer.attempts)
        return waits.bound(self._store, now=self._clock(), wait=wait, **self._leases())

    def give_up_orphans(self) -> int:
        return deliver.orphans(self._store, self._settings, self._clock())

    def _may_delete(self) -> bool:
        with self._one:
            self._mind_the_clock()
        return self._monotonic() >= self._delete_at

    def sweep_tmp(self) -> int:
        if not self._may_delete():
            return 0
        # A transfer that still runs touches its file more often than the network timeout
        return self._spool.sweep_tmp(self._clock(), older_than=2 * self._settings.listener.network_timeout_seconds)

    def purge(self) -> int:
        if not self._may_delete():
            return 0
        items = upkeep.purge(self._store, self._settings.retention, self._clock())
        upkeep.purge_origins(self._store, self._spool, self._clock())
        if items:
            log.info("retention.purged files=%d bytes=%d", len(items), sum(i.size for i in items))
        return len(items)


class _Lane:
    """One destination's thread: what happens to this peer happens to nobody else."""

    def __init__(self, store: Store, peer: Peer, settings: Settings, stop: threading.Event) -> None:
        self.kick = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"deliver-{peer.name}", daemon=True)
        self._courier = deliver.Courier(store, peer, settings=settings)
        self._stop = stop

    def _run(self) -> None:
        while not self._stop.is_set():
            if not careful(self._courier.deliver_due):
                self.kick.wait(IDLE_SECONDS)
                self.kick.clear()
                careful(self._courier.rest)
        self._courier.close()
