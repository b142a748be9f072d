"""The dispatch role's work: advance every study that can be advanced, and keep one courier per destination.

Every step is a sweep over rows and may run at any time, twice, or late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from config.settings import Peer, Settings
from node.admin.alarms import Watchman
from node.admin.audit import Auditor
from node.admin.aviary import Aviary
from node.admin.reconcile import Account, reconcile, totals
from node.domain import StudyState
from node.edge import careful
from node.pipeline import commit, deliver, expect, prove
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import (
    alarms,
    auditing,
    canaries,
    commitments,
    deliveries,
    hosts,
    routing,
    tally,
    trials,
    upkeep,
    waits,
)
from node.storage.bell import Bell
from node.storage.duties import Duties
from node.storage.spool import Spool
from node.storage.store import Store, elapsed

log = logging.getLogger(__name__)

Sweep = Callable[[], object]
IDLE_SECONDS = 1.0
HOUR = 3600.0
SWEEPS = "sweeps"
"""The duty of all sweeps that delete files, write the log or keep everybody else from writing."""
JUMP_SECONDS = 5.0
"""By less the clock may be set unnoticed: something then waits so much longer or shorter."""
LOT = 20
"""Of studies that were pulled so many are settled and routed in a row; then whatever was sent meanwhile comes first."""
DOUBT_SECONDS = 24 * HOUR
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
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        clock = clock or store.now
        # of many hosts one may sleep, and time passes for the others; a node by itself sleeps as a whole
        monotonic = monotonic or (elapsed if store.database.shared else time.monotonic)
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
        self._duties = Duties(store)
        self._lanes = [_Lane(name, worker, self._stop, self._duties) for name, worker in self._workers()]

    def _workers(self) -> Iterator[tuple[str, Worker]]:
        """Who works for which peer, each in a thread of its own. Couriers work side by side on many hosts, as what one
        has claimed is his; all others ask or tell somebody outside, and that is one host's duty."""
        store, settings = self._store, self._settings
        for peer in settings.peer:
            if "receive" in peer.may:
                courier = deliver.Courier(store, peer, spool=self._spool, settings=settings)
                yield f"deliver-{peer.name}", Worker(courier.deliver_due, courier.rest, courier.close)
                if peer.proof != "none":
                    prover = prove.prover_of(store, peer, settings=settings)
                    yield f"prove-{peer.name}", Worker(prover.prove_due, prover.rest, prover.close, duty=True)
            if expect.is_asked(peer, settings):
                expecter = expect.Expecter(store, peer, settings=settings, bell=self._bell)
                yield f"expect-{peer.name}", Worker(expecter.ask_due, expecter.rest, expecter.close, duty=True)
        watchman = Watchman(store, self._spool, settings=settings, clock=self._clock)
        yield "alarms", Worker(watchman.step, watchman.rest, watchman.close, duty=True)
        if settings.audit.sinks:
            auditor = Auditor(store, settings=settings, clock=self._clock)
            yield "audit", Worker(auditor.step, auditor.rest, auditor.close, duty=True)
        if settings.canary.every_hours:
            stopped = self._stop.is_set
            aviary = Aviary(store, self._spool, settings=settings, stopped=stopped, monotonic=self._monotonic)
            yield "canary", Worker(aviary.step, aviary.rest, aviary.close, duty=True, able=aviary.can_fly)
        if settings.listener.commit:
            senders: list[Peer | None] = [peer for peer in settings.peer if "send" in peer.may]
            for sender in senders or [None]:
                committer = commit.Committer(store, sender, settings=settings, bell=self._bell)
                name = f"commit-{sender.name if sender else 'here'}"
                yield name, Worker(committer.commit_due, committer.rest, committer.close, duty=True)

    def recover(self) -> None:
        """After a restart: nothing is being sent from here any more, and nothing may wait for what the clock said
        before."""
        deliveries.free_all(self._store)
        if not self._settings.audit.sinks and not hosts.differ(self._store):
            auditing.end(self._store)
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
        self._duties.close()

    def advance(self) -> float | None:
        """Settle and route what is due, wake the others; when the next study may settle.

        What pulls brought goes in lots, and before each of them everything else that is due by then.
        """
        settled: set[int] = set()
        routed: set[int] = set()
        due, more = None, True
        with self._one:
            self._mind_the_clock()
            while more and not self._stop.is_set():
                found = settle_due(self._store, self._settings, self._clock(), lot=LOT, tried=settled)
                due, more = found.next_due, self._route(routed) or found.more
        for lane in self._lanes:
            lane.kick.set()
        return due

    def _route(self, tried: set[int]) -> bool:
        """Route what is settled and not among the `tried`, of pulled studies a lot; whether there are more of these."""
        lot, now = 0, self._clock()
        for study, is_pulled in routing.waiting(self._store):
            if study.id in tried:
                continue
            if is_pulled and lot == LOT:
                return True
            lot += is_pulled
            tried.add(study.id)
            step = partial(route_study, self._store, study, self._plans, now, peers=self._settings.peer)
            routed = careful(step, pause=0)
            if routed and routed.state is StudyState.ROUTED:
                self._bell.ring("infer")
        return False

    def _mind_the_clock(self) -> None:
        seconds = self._watch.jump()
        if not seconds:
            return
        log.warning("clock.set seconds=%+.0f", seconds)
        self._delete_at = self._monotonic() + DOUBT_SECONDS
        if not waits.remember_jump(self._store, seconds, now=self._clock()):
            return
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
            (self.send_unanswered, 60.0),
            (self.count, 15.0),
            (self.sweep_tmp, 600.0),
            (self.purge, HOUR),
            (self.purge_pulled, 300.0),
            (self.reconcile, 6 * HOUR),
        ]

    def bound_waits(self) -> int:
        rules = self._settings
        wait = max(rules.deliver.retry_cap_seconds, rules.deliver.retry_base_seconds * 2**rules.infer.attempts)
        proof = max(wait, rules.deliver.proof_hours * HOUR)
        return waits.bound(self._store, now=self._clock(), wait=wait, proof_wait=proof, **self._leases())

    def count(self) -> int:
        return tally.advance(self._store) if self._duties.mine(SWEEPS) else 0

    def reconcile(self) -> int:
        """Account for the last day in the log; the number of studies that nothing explains."""
        if not self._duties.mine(SWEEPS):
            return 0
        now = self._clock()
        lines = reconcile(self._store, since=now - 24 * HOUR, until=now, now=now)
        log.info("day.reconciled %s", " ".join(f"{account}={n}" for account, n in totals(lines).items()))
        unexplained = [line for line in lines if line.account is Account.UNEXPLAINED]
        for line in unexplained:
            log.error("study.unexplained study=%s reason=%r", line.log_id, "; ".join(line.reasons))
        return len(unexplained)

    def give_up_orphans(self) -> int:
        if hosts.differ(self._store):  # a peer that only others know yet, or still
            return 0
        return deliver.orphans(self._store, self._settings, self._clock())

    def send_unanswered(self) -> int:
        return deliveries.send_unanswered(self._store, now=self._clock())

    def _may_delete(self) -> bool:
        with self._one:
            self._mind_the_clock()
        return self._monotonic() >= self._delete_at

    def sweep_tmp(self) -> int:
        if not self._may_delete():
            return 0
        if self._store.database.shared and self._duties.mine(SWEEPS):
            known = [host.id for host in hosts.known(self._store) if host.seen_ago < upkeep.DAY]
            self._spool.sweep_tmp_of_others(self._clock(), older_than=upkeep.DAY, but=known)
        # A transfer that still runs touches its file more often than the network timeout
        return self._spool.sweep_tmp(self._clock(), older_than=2 * self._settings.listener.network_timeout_seconds)

    def _may_purge(self) -> bool:
        """By one host, and only while all go by the same settings: what an older file lets go a newer one may keep."""
        return self._may_delete() and self._duties.mine(SWEEPS) and not hosts.differ(self._store)

    def purge_pulled(self) -> int:
        if not self._may_purge():
            return 0
        items = upkeep.purge_pulled(self._store, self._settings.retention, self._clock())
        if items:
            log.info("retention.purged-pulled files=%d bytes=%d", len(items), sum(i.size for i in items))
        return len(items)

    def purge(self) -> int:
        if not self._may_purge():
            return 0
        items = upkeep.purge(self._store, self._settings.retention, self._clock())
        upkeep.purge_origins(self._store, self._spool, self._clock())
        upkeep.purge_forms(self._store, self._spool, self._clock())
        trials.sweep(self._store, self._spool, before=self._clock() - HOUR)
        canaries.purge(self._store, before=self._clock() - self._settings.retention.dead_days * upkeep.DAY)
        alarms.purge(self._store, before=self._clock() - self._settings.retention.dead_days * upkeep.DAY)
        commitments.purge(self._store, before=self._clock() - self._settings.retention.dead_days * upkeep.DAY)
        if items:
            log.info("retention.purged files=%d bytes=%d", len(items), sum(i.size for i in items))
        return len(items)


@dataclass(frozen=True)
class Worker:
    """What a lane does: a step that says how much it did, what to do when there is nothing, and the end. `duty`: by one
    host at a time, and only by one that is `able`."""

    step: Callable[[], int]
    rest: Callable[[], None]
    close: Callable[[], None]
    duty: bool = False
    able: Callable[[], bool] = lambda: True


class _Lane:
    """One thread for one peer: what happens to this peer happens to nobody else."""

    def __init__(self, name: str, worker: Worker, stop: threading.Event, duties: Duties) -> None:
        self.kick = threading.Event()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._worker = worker
        self._stop = stop
        self._duties = duties

    def _run(self) -> None:
        while not self._stop.is_set():
            if not careful(self._step):
                self.kick.wait(IDLE_SECONDS)
                self.kick.clear()
                careful(self._worker.rest)
        if careful(self._is_mine):
            self._worker.close()

    def _step(self) -> int:
        return self._worker.step() if self._is_mine() else 0

    def _is_mine(self) -> bool:
        if not self._worker.duty:
            return True
        if not self._worker.able():
            self._duties.drop(self.thread.name)
            return False
        return self._duties.mine(self.thread.name)
