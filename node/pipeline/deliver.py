"""Deliver: stored results go out, one held association per destination, and every answer becomes a row.

A destination that is down, slow or wrong blocks nobody else: each has its own thread, and a retry is a stored time,
never a sleep.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from config.settings import Deliver, Peer, Settings
from node.domain import Delivery
from node.failpoint import failpoint
from node.network.offer import SOP_CLASS_NOT_SUPPORTED, Offers
from node.network.sender import Outcome
from node.pipeline import forms
from node.pipeline.owed import Owed
from node.pipeline.peers import sender_to
from node.storage import deliveries, departed, negotiated, proofs, recalls
from node.storage.canaries import PEER
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

BATCH = 8
"""Objects in one claim: something urgent that comes meanwhile waits for no more than these."""
TURN = 8
"""Of so many claims one is for what has waited longest, however urgent others are."""
LEASE_SECONDS = 900.0
PERMANENT_TRIES = 3
"""A permanent refusal is believed when it came so often in a row, spaced: people mend a wrong AE title meanwhile."""
HOUR = 3600.0
NOBODY_ASKS = "the settings have this peer prove nothing"


class Courier:
    """Delivers to one peer, over an association that is held while there is something to send."""

    def __init__(
        self,
        store: Store,
        peer: Peer,
        *,
        spool: Spool,
        settings: Settings,
        clock: Callable[[], float] | None = None,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._spool = spool
        self._peer = peer
        self._rules = settings.deliver
        self._clock = clock or store.now
        self._chance = chance
        self._sender = sender_to(peer, settings)
        self._claims = 0
        self._owed = Owed()
        """What came of deliveries."""

    def deliver_due(self) -> int:
        """Send what is due and record each answer.

        Returns:
            The number of deliveries tried.
        """
        if not self._owed.put_down():
            return 0
        by_age = self._claims % TURN == TURN - 1
        due = deliveries.claim(
            self._store, self._peer.name, BATCH, now=self._clock(), lease=LEASE_SECONDS, by_age=by_age
        )
        self._claims += bool(due)
        failpoint("deliver.claimed")
        ready = [d for d in due if forms.can_go(self._store, d)]
        for gone in [d for d in due if d not in ready]:
            reason = "the stored result is gone from the spool"
            deliveries.give_up(self._store, gone, status=None, reason=reason, now=self._clock())
        self._send(ready)
        return len(due)

    def _send(self, ready: Sequence[Delivery]) -> None:
        waiting = {d.path: d for d in ready}
        offers = Offers(
            of=lambda path: forms.of(waiting[path]),
            make=lambda path, form: forms.take(self._store, self._spool, waiting[path], form, now=self._clock()),
            told=lambda said: negotiated.remember(self._store, self._peer.name, said, now=self._clock()),
        )
        try:
            # Asked just before each object leaves: a person may have stopped it since it was claimed
            outcomes = self._sender.send(
                [d.path for d in ready],
                wanted=lambda path: deliveries.may_go(self._store, waiting[path]),
                offers=offers,
            )
            for path, outcome in outcomes:
                failpoint("deliver.sent")
                self._owed.write(partial(self._record, waiting.pop(path), outcome))
                failpoint("deliver.recorded")
        finally:
            for delivery in waiting.values():
                self._owed.write(partial(deliveries.release, self._store, delivery))

    def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        now = self._clock()
        if outcome.kind in ("stored", "warning"):
            assert outcome.status is not None
            note = outcome.error if outcome.kind == "warning" else ""
            prove = self._peer.proof != "none"
            deliveries.sent(self._store, delivery, status=outcome.status, note=note, now=now, prove=prove)
            log.info("delivery.sent delivery=%d peer=%s kind=%s", delivery.id, delivery.peer, delivery.kind)
            return
        if is_untaken(delivery, outcome):
            if other := deliveries.instead(self._store, delivery):
                reason = f"{outcome.error}; its {other} says the same"
                deliveries.omit(self._store, delivery, status=outcome.status, reason=reason, now=now)
                log.info("delivery.omitted delivery=%d peer=%s kind=%s", delivery.id, delivery.peer, delivery.kind)
                return
            outcome = replace(outcome, error=f"{outcome.error}: {remedy(delivery.kind, delivery.peer)}")
        final = gives_up(delivery, outcome, self._rules, now)
        # The row keeps what the peer said; the log does not, as it may quote the data set
        status = "none" if outcome.status is None else f"0x{outcome.status:04X}"
        log.warning(
            "delivery.not-sent delivery=%d peer=%s status=%s final=%s", delivery.id, delivery.peer, status, final
        )
        if final:
            deliveries.give_up(self._store, delivery, status=outcome.status, reason=outcome.error, now=now)
        else:
            refusals = delivery.refusals + 1 if outcome.kind == "permanent" else 0
            longest = self._rules.retry_cap_seconds if refusals else ceiling(delivery.attempts, self._rules)
            wait = self._chance(longest / 2 if refusals else 0, longest)
            deliveries.retry_later(
                self._store,
                delivery,
                status=outcome.status,
                reason=outcome.error,
                refusals=refusals,
                due_at=now + wait,
                now=now,
            )

    def rest(self) -> None:
        """Close an association that nobody used for `deliver.hold_seconds`."""
        if self._sender.idle_seconds >= self._rules.hold_seconds:
            self._sender.close()

    def close(self) -> None:
        self._sender.close()


def is_untaken(delivery: Delivery, outcome: Outcome) -> bool:
    """Whether the peer takes this kind of object in none of its forms."""
    return outcome.untaken or outcome.status == SOP_CLASS_NOT_SUPPORTED == delivery.status


def remedy(kind: str, peer: str) -> str:
    """What to change when a peer takes a kind of object in none of its forms."""
    if kind == recalls.KIND:
        return "allow it there, or take back by hand there what `overread show` names"
    if kind in deliveries.SHOWN:
        return f'allow that there, or leave "{kind}" out of the results of [[peer]] {peer} here'
    return (
        'allow one of them there, or let the peer have a picture: add "sc" to the results of the route here, and to '
        f"those of [[peer]] {peer} if it names any"
    )


def gives_up(delivery: Delivery, outcome: Outcome, rules: Deliver, now: float) -> bool:
    """Whether this failure is the last one: permanent too often, or failing for too long.

    So long that is also by the number of tries that the time holds: while a node is off, or its machine sleeps, nobody
    tries, and a clock that is set lets no time pass.
    """
    if outcome.kind == "permanent":
        return delivery.refusals + 1 >= PERMANENT_TRIES
    # Once may be a PACS that is just starting; twice is its answer
    if outcome.status == SOP_CLASS_NOT_SUPPORTED == delivery.status:
        return True
    longest = rules.give_up_hours * HOUR
    tries = longest / (rules.retry_cap_seconds + rules.timeout_seconds)
    return now - (delivery.failing_since or now) >= longest and delivery.attempts + 1 >= tries


def asked_for_proof(settings: Settings) -> list[Peer]:
    """The peers that are to prove that they keep what they are sent."""
    return [p for p in settings.peer if "receive" in p.may and p.proof != "none"]


def ceiling(attempts: int, rules: Deliver) -> float:
    """The longest wait in seconds after so many attempts; the wait itself is drawn evenly below it (full jitter)."""
    return min(rules.retry_cap_seconds, rules.retry_base_seconds * 2.0 ** min(attempts, 32))


def orphans(store: Store, settings: Settings, now: float) -> int:
    """Give up deliveries to peers that get nothing any more: for good where the settings do not name them at all.

    What was sent to peers that nobody asks for proof any more waits for none.
    """
    names = {p.name for p in settings.peer}
    given_up = departed.end(store, names | {PEER}, now=now)
    known = {p.name for p in settings.peer if "receive" in p.may} | {PEER}
    proofs.end_all_but(store, [p.name for p in asked_for_proof(settings)], NOBODY_ASKS, now=now)
    for name in set(deliveries.peers(store)) & names - known:
        for delivery in deliveries.claim(store, name, 1000, now=now, lease=LEASE_SECONDS):
            reason = f'no [[peer]] named {name} that may "receive" is in the settings'
            given_up += deliveries.give_up(store, delivery, status=None, reason=reason, now=now)
    return given_up
