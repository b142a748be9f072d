"""Read back: does a peer find what it was sent, asked over whatever it speaks. What it lost is sent again.

`prove` asks so over DICOM where there is no commitment; `ReadBack` is all there is for a peer without associations.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence

from config.settings import Deliver, Peer, Settings
from node.errors import PeerError
from node.network.query import Sought
from node.storage import proofs
from node.storage.proofs import Sent
from node.storage.store import Store

log = logging.getLogger(__name__)

GATHER_SECONDS = 2.0
"""Results of one sending go into one question."""
BATCH = 100
RESENDS = 3
INDEX_PART = 6
"""A sixth of deliver.proof_hours is what a PACS gets to index an object before it is said not to have it."""
FIRST_LOOK_SECONDS = 10.0
HOUR = 3600.0

Holds = Callable[[Sought], bool]
"""Whether a peer says that it has an instance.

Raises:
    PeerError: it did not answer.
"""


def due(store: Store, peer: str, now: float) -> list[Sent]:
    """What a peer is to be asked about now; nothing while results of the same sending may still follow."""
    first = proofs.first_due(store, peer)
    if first is None or first > now - GATHER_SECONDS:
        return []
    return proofs.due(store, peer, BATCH, now=now)


def look(store: Store, rules: Deliver, one: Sent, holds: Holds, how: str, *, now: float) -> None:
    """Ask whether a peer finds an object, and record the answer; it gets some minutes to index it.

    Raises:
        PeerError: it did not answer.
    """
    sought = Sought(one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
    age, time_to_index = now - one.sent_at, rules.proof_hours * HOUR / INDEX_PART
    if holds(sought):
        proofs.commit(store, [one], how, now=now)
    elif age < time_to_index:
        wait = min(max(age, FIRST_LOOK_SECONDS), time_to_index)
        proofs.look_again(store, one, due_at=now + wait)
    else:
        missing(store, one, "does not find it", now=now)


def missing(store: Store, sent: Sent, said: str, *, now: float) -> None:
    """The peer does not have what it took: it is sent again, a few times."""
    state = proofs.send_again(store, sent, f"{sent.peer} {said}", most=RESENDS, now=now)
    log.warning("proof.missing delivery=%d peer=%s state=%s resends=%d", sent.id, sent.peer, state, sent.resends)


def later(
    store: Store, rules: Deliver, sent: Sequence[Sent], reason: str, *, now: float, wait: float | None = None
) -> None:
    """Ask again after `wait` seconds (deliver.proof_hours); what could not be asked for too long stays unproven."""
    due_at = now + (rules.proof_hours * HOUR if wait is None else wait)
    hopeless = [one for one in sent if now - one.sent_at > rules.give_up_hours * HOUR]
    proofs.put_off(store, [one for one in sent if one not in hopeless], reason, due_at=due_at, now=now)
    proofs.end(store, hopeless, reason, now=now)


class ReadBack:
    """Asks a peer that has no associations, and so no commitment, about what was sent to it.

    `holds` asks it about one instance; `how` is what a proof is called, such as "read back by QIDO-RS"; `closed` ends
    whatever connection `holds` keeps.
    """

    def __init__(
        self,
        store: Store,
        peer: Peer,
        *,
        settings: Settings,
        holds: Holds,
        how: str,
        closed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] | None = None,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._peer = peer
        self._rules = settings.deliver
        self._holds = holds
        self._how = how
        self._clock = clock or store.now
        self._chance = chance
        self.rest = self.close = closed

    def prove_due(self) -> int:
        """Ask about what is due; a peer that does not answer is asked again later.

        Returns:
            The number of results that something was done about.
        """
        now = self._clock()
        sent = due(self._store, self._peer.name, now)
        for at, one in enumerate(sent):
            try:
                look(self._store, self._rules, one, self._holds, self._how, now=now)
            except PeerError as error:
                cap = self._rules.retry_cap_seconds
                wait = self._chance(cap / 2, cap)
                later(self._store, self._rules, sent[at:], str(error), now=now, wait=wait)
                break
        return len(sent)
