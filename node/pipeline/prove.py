"""Prove: a result that was sent is DELIVERED only when its peer has proven that it keeps it.

By storage commitment where the peer offers it, else by asking whether it finds the object. Both may take minutes or
fail: every question is a row first, and every answer may come twice, late or never.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from config.settings import Deliver, Peer, Settings
from node.domain import DeliveryState, Pair
from node.errors import AssociationFailed, ContextRefused, PeerError
from node.failpoint import failpoint
from node.network import commitment, query
from node.network.incoming import (
    CLASS_INSTANCE_CONFLICT,
    CLASS_NOT_SUPPORTED,
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    Reference,
    Status,
)
from node.network.link import Link, open_link
from node.network.statuses import classify
from node.pipeline.peers import target_of, web_sender_to
from node.pipeline.readback import GATHER_SECONDS, HOUR, ReadBack, due, later, look, missing
from node.storage import negotiated, proofs
from node.storage.proofs import Sent
from node.storage.store import Store

log = logging.getLogger(__name__)

REPORT_SECONDS = 45.0
"""How long an association is held for a report that has not come: pynetdicom ends one that is silent for a minute."""
DAY = 24 * HOUR
RETRIED_DAYS = 30
"""Older results of a peer that proves nothing are left alone."""
COMMITTED = "storage commitment"
READ_BACK = "read back by C-FIND"
READ_BACK_BY_WEB = "read back by QIDO-RS"
GONE_FOR_GOOD = {
    CLASS_INSTANCE_CONFLICT: "holds another SOP class under its UID",
    CLASS_NOT_SUPPORTED: "does not commit to objects of its SOP class",
}


def reported(store: Store, rules: Deliver, report: CommitmentReport, *, now: float) -> Status:
    """Record what a peer reports on a transaction of ours, also for the second time or too late (PS3.4 J.3.3).

    Returns:
        Success, or an error for a transaction that we do not know.
    """
    base, _, _ = report.transaction_uid.rpartition(".")
    asked = {one.sop_instance_uid: one for one in proofs.of_transaction(store, base)}
    if not asked:
        log.warning("proof.unknown-transaction kept=%d failed=%d", len(report.kept), len(report.failed))
        return Status(INVALID_ARGUMENT_VALUE, "no such transaction")
    kept = [asked[r.sop_instance_uid] for r in report.kept if r.sop_instance_uid in asked]
    proofs.commit(store, kept, COMMITTED, now=now)
    by_reason: dict[int, list[Sent]] = {}
    for reference, reason in report.failed:
        if reference.sop_instance_uid in asked:
            by_reason.setdefault(reason, []).append(asked[reference.sop_instance_uid])
    for reason, failed in by_reason.items():
        _failed(store, rules, failed, reason, now)
    peer = next(iter(asked.values())).peer
    strange = len(report.kept) + len(report.failed) - sum(1 for r in _named(report) if r.sop_instance_uid in asked)
    text = "proof.reported peer=%s kept=%d failed=%d never-asked=%d"
    log.info(text, peer, len(report.kept), len(report.failed), strange)
    return Status(0x0000)


def _named(report: CommitmentReport) -> Iterable[Reference]:
    return [*report.kept, *(reference for reference, _ in report.failed)]


def _failed(store: Store, rules: Deliver, failed: Sequence[Sent], reason: int, now: float) -> None:
    """PS3.3 C.14.1.1. What is not SENT any more has its answer already, and stays as it is."""
    open_ones = [one for one in failed if one.state is DeliveryState.SENT]
    if reason == NO_SUCH_INSTANCE:
        for one in open_ones:
            missing(store, one, "reports that it does not have it", now=now)
    elif reason in GONE_FOR_GOOD:
        for one in open_ones:
            proofs.give_up(store, one, f"{one.peer} {GONE_FOR_GOOD[reason]}", now=now)
    else:
        later(store, rules, open_ones, f"cannot commit yet: it {classify(reason).error}", now=now)


def asked_by(peer: Peer) -> list[Pair]:
    """What is proposed to a peer that is to prove something; nothing to one that need not."""
    ways = {"commitment": commitment.PAIRS, "find": query.PAIRS}
    wanted = ways if peer.proof == "auto" else [peer.proof]
    return [pair for way in wanted for pair in ways.get(way, ())]


def prover_of(store: Store, peer: Peer, *, settings: Settings) -> Prover | ReadBack:
    """Who asks this peer, in what it speaks.

    Raises:
        SettingsError: a file of the peer, or of [tls], cannot be used.
    """
    if not peer.url:
        return Prover(store, peer, settings=settings)
    web = web_sender_to(peer, settings)
    return ReadBack(store, peer, settings=settings, holds=web.holds, how=READ_BACK_BY_WEB, closed=web.close)


class Prover:
    """Asks one peer about what was sent to it, over an association that is held while a report may come on it."""

    def __init__(
        self,
        store: Store,
        peer: Peer,
        *,
        settings: Settings,
        clock: Callable[[], float] | None = None,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._peer = peer
        self._rules = settings.deliver
        self._target = target_of(peer, settings)
        self._clock = clock or store.now
        self._chance = chance
        self._link: Link | None = None
        self._used_at = 0.0
        self._retried_at = 0.0
        self._asked: set[str] = set()
        """The transactions of the held association."""
        self._pairs = asked_by(peer)

    def prove_due(self) -> int:
        """Ask about what is due.

        Returns:
            The number of results that something was done about.
        """
        now = self._clock()
        offers = self._offers(now)
        sent = due(self._store, self._peer.name, now)
        if not sent:
            return 0
        if offers is False:
            self._unprovable(sent, "offers neither storage commitment nor a query", now)
        elif link := self._associated(sent, now):
            self._prove(link, sent, now)
        return len(sent)

    def rest(self) -> None:
        """Close an association that nobody used for `deliver.hold_seconds`, unless a report may still come on it."""
        idle = time.monotonic() - self._used_at
        if self._link is None or (self._link.alive and idle < self._rules.hold_seconds):
            return
        if self._link.alive and idle < REPORT_SECONDS and proofs.waits(self._store, self._asked):
            return
        self.close()

    def close(self) -> None:
        if self._link:
            self._link.close()
        self._link = None
        self._asked = set()

    def _offers(self, now: float) -> bool | None:
        """False when the peer refused all that we could ask by, less than a day ago; after a day it is asked again."""
        known = negotiated.known(self._store, self._peer.name)
        answers = [known.get(pair) for pair in self._pairs]
        if None in answers or any(answer[0] for answer in answers if answer):
            return None
        if now - max(answer[1] for answer in answers if answer) < DAY:
            return False
        if now - self._retried_at > HOUR:
            self._retried_at = now
            proofs.ask_refused(self._store, self._peer.name, since=now - RETRIED_DAYS * DAY, now=now - GATHER_SECONDS)
        return None

    def _associated(self, sent: Sequence[Sent], now: float) -> Link | None:
        if self._link and self._link.alive:
            return self._link
        self.close()
        answers: dict[Pair, bool] = dict.fromkeys(self._pairs, False)
        try:
            handler = commitment.report_handler(lambda _, report: self._reported(report))
            self._link = link = open_link(self._target, self._pairs, handlers=[handler])
        except AssociationFailed as error:
            self._postpone(sent, str(error), now)
            return None
        except ContextRefused:
            self._unprovable(sent, "offers neither storage commitment nor a query", now)
        else:
            answers |= dict.fromkeys(link.accepted, True)
        negotiated.remember(self._store, self._peer.name, answers, now=now)
        return self._link

    def _prove(self, link: Link, sent: Sequence[Sent], now: float) -> None:
        commits, finds = (any(pair in link.accepted for pair in way) for way in (commitment.PAIRS, query.PAIRS))
        asked = [one for one in sent if commits and one.asks < proofs.ENOUGH]
        others = [one for one in sent if one not in asked]
        by_name = sorted(asked, key=lambda one: one.transaction_uid if one.asks else "")
        for name, some in groupby(by_name, key=lambda one: one.transaction_uid if one.asks else ""):
            group = list(some)
            if not link.alive:
                return
            if not self._ask(link, name or f"2.25.{uuid.uuid4().int}", group, now):
                others += group if finds else []
        for one in others:
            if finds and link.alive:
                self._look(link, one, now)
            elif not finds:
                self._silence(one, now)

    def _ask(self, link: Link, name: str, group: Sequence[Sent], now: float) -> bool:
        """Ask for commitment; False when the peer takes the question for good as none of its business."""
        again_at = now + self._rules.proof_hours * HOUR
        group = proofs.asking(self._store, group, name, again_at=again_at)
        if not group:
            return True
        failpoint("prove.asking")
        # A second question needs a name of its own, and a late answer to the first one counts too
        request = CommitmentRequest(f"{name}.{group[0].asks + 1}", _references(group))
        self._asked.add(name)
        outcome = commitment.ask(link, request)
        failpoint("prove.asked")
        self._used_at = time.monotonic()
        log.info("proof.asked peer=%s objects=%d status=%s", self._peer.name, len(group), outcome.status)
        if outcome.kind in ("stored", "warning"):
            return True
        if outcome.kind == "retry":
            self._postpone(group, f"cannot be asked for commitment: {outcome.error}", now)
            return True
        self._unprovable(group, f"does not commit: it {outcome.error}", now)
        return False

    def _look(self, link: Link, one: Sent, now: float) -> None:
        try:
            look(self._store, self._rules, one, lambda sought: query.holds(link, sought), READ_BACK, now=now)
        except PeerError as error:
            self._postpone([one], str(error), now)
        self._used_at = time.monotonic()

    def _silence(self, one: Sent, now: float) -> None:
        """Asked twice and not answered, and there is no other way: once more from the beginning, then never."""
        if one.asks < proofs.ENOUGH:
            self._unprovable([one], "does not offer storage commitment any more", now)
        elif one.resends:
            proofs.end(self._store, [one], "has not reported on it", now=now)
        else:
            missing(self._store, one, "has not reported on it", now=now)

    def _reported(self, report: CommitmentReport) -> Status:
        self._used_at = time.monotonic()
        return reported(self._store, self._rules, report, now=self._clock())

    def _postpone(self, sent: Sequence[Sent], reason: str, now: float) -> None:
        cap = self._rules.retry_cap_seconds
        later(self._store, self._rules, sent, reason, now=now, wait=self._chance(cap / 2, cap))

    def _unprovable(self, sent: Sequence[Sent], reason: str, now: float) -> None:
        """The peer does not prove anything: nobody asks until tomorrow."""
        proofs.refuse(self._store, sent, reason, now=now)
        log.warning("proof.not-offered peer=%s objects=%d", self._peer.name, len(sent))


def _references(sent: Iterable[Sent]) -> tuple[Reference, ...]:
    return tuple(Reference(one.sop_class_uid, one.sop_instance_uid) for one in sent)
