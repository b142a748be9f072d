"""Commit: answer peers that ask whether this node keeps what they sent it (PS3.4 Annex J, as SCP).

A request is a row before it is answered. The files on disk are read and their digests compared before anything is
said of them; what is said holds for the time that the retention settings give.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import replace

from config.settings import Peer, Settings
from node.domain import CommitmentState, Gone
from node.errors import AssociationFailed, ContextRefused
from node.failpoint import failpoint
from node.network import commitment as wire
from node.network.incoming import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_INSTANCE,
    NOT_AUTHORISED,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    CommitmentReport,
    CommitmentRequest,
    Reference,
    Status,
)
from node.network.link import open_link
from node.network.statuses import Outcome
from node.pipeline.peers import target_of
from node.storage import commitments, instances
from node.storage.bell import Bell
from node.storage.commitments import Commitment, Item
from node.storage.shelf import Away
from node.storage.spool import digest_of
from node.storage.store import Store

log = logging.getLogger(__name__)

MOST_OPEN = 1000
"""Requests of one peer that wait to be reported on; one more is refused for now."""
HOUR = 3600.0
NOWHERE = "its association ended before the report, and the settings give no host and port to report to"


def requested(
    store: Store,
    settings: Settings,
    request: CommitmentRequest,
    *,
    association: str,
    calling_ae_title: str,
    peer: Peer | None,
    now: float,
) -> Status:
    """Keep a request, so that success can be answered to it (PS3.4 J.3.2)."""
    if not settings.listener.commit:
        return Status(NOT_AUTHORISED, "this node commits to nothing (listener.commit = false)")
    if peer and "send" not in peer.may:
        return Status(NOT_AUTHORISED, 'this peer may not "send"')
    name = peer.name if peer else ""
    if commitments.open_ones(store, name) >= MOST_OPEN:
        return Status(RESOURCE_LIMITATION, f"{MOST_OPEN} requests are waiting")
    items = [Item(r.sop_class_uid, r.sop_instance_uid) for r in request.references]
    kept = commitments.add(
        store,
        request.transaction_uid,
        items,
        association=association,
        calling_ae_title=calling_ae_title,
        peer=name,
        now=now,
    )
    if not kept:
        return Status(DUPLICATE_TRANSACTION_UID, "this Transaction UID was used for other instances")
    log.info("commitment.asked peer=%s objects=%d", name, len(items))
    failpoint("commit.asked")
    return Status(0x0000)


def check(store: Store, item: Item) -> Item:
    """Whether an instance is on disk as it was received; a Failure Reason if not (PS3.3 C.14.1.1)."""
    kept = [i for i in commitments.instances_of(store, item.sop_instance_uid) if i.gone is Gone.KEPT]
    if not kept:
        return replace(item, failure=NO_SUCH_INSTANCE)
    same = [i for i in kept if i.sop_class_uid == item.sop_class_uid]
    if not same:
        return replace(item, failure=CLASS_INSTANCE_CONFLICT)
    failure = 0
    for instance in same:  # of several versions the peer may mean any
        try:
            with store.spool.shelf.fresh(instance.path) as file:
                whole = digest_of(file) == instance.digest
        except FileNotFoundError:
            instances.lose(store, instance)
            failure = NO_SUCH_INSTANCE
            continue
        except Away:
            raise
        except OSError:
            whole = False
        if not whole:
            log.error("commitment.not-whole instance=%d: its file is not what was received", instance.id)
            return replace(item, failure=PROCESSING_FAILURE)
    return replace(item, failure=failure)


def as_report(asked: Commitment) -> CommitmentReport:
    references = [(Reference(i.sop_class_uid, i.sop_instance_uid), i.failure) for i in asked.items]
    kept = tuple(reference for reference, failure in references if not failure)
    return CommitmentReport(asked.transaction_uid, kept, tuple((r, failure) for r, failure in references if failure))


def report_on(
    store: Store, associations: set[str], send: Callable[[str, CommitmentReport], Outcome], *, now: float
) -> int:
    """Report what was checked to peers that asked on these associations; the number that took it."""
    told = 0
    for asked in commitments.checked_of(store, associations) if associations else []:
        outcome = send(asked.association, as_report(asked))
        if outcome.kind in ("stored", "warning"):
            told += commitments.reported(store, asked, now=now)
            log.info("commitment.reported peer=%s", asked.peer)
        else:
            commitments.give_up(store, asked, outcome.error)
            log.warning("commitment.given-up peer=%s", asked.peer)
    return told


class Committer:
    """Checks and answers the requests of one peer; None stands for this machine, where the settings name nobody.

    A peer with host and port is told on an association of ours; others by the receive role, which is woken, on theirs.
    """

    def __init__(
        self,
        store: Store,
        peer: Peer | None,
        *,
        settings: Settings,
        bell: Bell,
        clock: Callable[[], float] | None = None,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._name = peer.name if peer else ""
        self._rules = settings.deliver
        self._target = target_of(peer, settings) if peer and peer.host and peer.port is not None else None
        self._bell = bell
        self._clock = clock or store.now
        self._chance = chance

    def commit_due(self) -> int:
        """Check what was asked, report what was checked; the number of requests that something was done about."""
        now = self._clock()
        # Without a place to report to the receive role reports, until it is too late
        before = math.inf if self._target else now - self._rules.give_up_hours * HOUR
        found = commitments.due(self._store, self._name, now=now, asked_before=before)
        for asked in found:
            if asked.state is CommitmentState.ASKED:
                self._check(asked)
            else:
                self._report(asked)
        return len(found)

    def _is_old(self, asked: Commitment) -> bool:
        return self._clock() - asked.asked_at > self._rules.give_up_hours * HOUR

    def _check(self, asked: Commitment) -> None:
        items = [check(self._store, item) for item in asked.items]
        commitments.checked(self._store, asked, items, now=self._clock())
        failed = sum(1 for item in items if item.failure)
        log.info("commitment.checked peer=%s objects=%d failed=%d", self._name, len(items), failed)
        failpoint("commit.checked")
        self._bell.ring("receive")

    def _report(self, asked: Commitment) -> None:
        if self._target is None:
            outcome = Outcome(None, NOWHERE, "permanent")
        else:
            try:
                link = open_link(self._target, wire.PAIRS, scp_of=[wire.MODEL])
            except (AssociationFailed, ContextRefused) as error:
                outcome = Outcome(None, str(error), "retry")
            else:
                outcome = wire.report(link, as_report(asked))
                link.close()
        self._record(asked, outcome)

    def _record(self, asked: Commitment, outcome: Outcome) -> None:
        now = self._clock()
        if outcome.kind in ("stored", "warning"):
            commitments.reported(self._store, asked, now=now)
            log.info("commitment.reported peer=%s", self._name)
        elif outcome.kind == "permanent" or self._is_old(asked):
            commitments.give_up(self._store, asked, outcome.error)
            log.warning("commitment.given-up peer=%s", self._name)
        else:
            cap = self._rules.retry_cap_seconds
            wait = min(cap, self._rules.retry_base_seconds * 2.0 ** min(asked.attempts, 32))
            commitments.retry_later(self._store, asked, outcome.error, due_at=now + self._chance(0, wait))

    def rest(self) -> None:
        """Nothing is held."""

    close = rest
