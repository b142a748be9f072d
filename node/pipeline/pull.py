"""Pull: bring studies from a peer that is asked for them, one after the other, so that it can go on after anything.

All that a pull knows is rows, for whoever resumes it; what it brings goes through the `Receiver`, as what is sent.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from config.settings import Peer, Settings
from node.domain import Origin, StudyState
from node.errors import AssociationFailed, ContextRefused, DatabaseDamaged, PeerError, PullError, RoleTaken, StoreError
from node.failpoint import failpoint
from node.network.incoming import Incoming, Status
from node.network.source import Arrived, Fetched, Source
from node.network.taking import Held, nothing
from node.pipeline.ahead import Ahead
from node.pipeline.asked import Rules
from node.pipeline.deliver import ceiling
from node.pipeline.inquire import ask
from node.pipeline.moves import association_of
from node.pipeline.presence import receives
from node.pipeline.receive import Receiver
from node.storage import duties, pulled, pulls, roles
from node.storage.pulls import NOTHING, Here, Pull, PullState, PullStudy, PullStudyState, Spent
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

ATTEMPTS = 3
PEER_TRIES = 10
"""So often in a row a peer may not be reached, about half an hour; then the pull waits for a person."""
TICK_SECONDS = 2.0
"""Within so long a pull that waits sees that it was stopped."""
ANNOUNCE_SECONDS = 60.0
SETTLED = (StudyState.SETTLED, StudyState.ROUTED, StudyState.UNROUTED, StudyState.HELD)
# Taking a study out of what clinicians wait for is nothing that a pull may do
UNTOUCHED = "is here already as a study like every other, and stays one: this pull does not touch it"
SENT = "was also sent unasked: it is a study like every other, and its results go where the routes say"


class Asking(Protocol):
    """How to come by a source; `moving` is told of each C-MOVE, `held` knows what need not be brought again."""

    def __call__(self, *, moving: Callable[[str], None], held: Held) -> Source: ...


@dataclass(frozen=True)
class Progress:
    """How far a pull is; instances and bytes are of this run, `waits`: seconds, `asked`: questions that got answers."""

    total: int
    done: int
    dead: int
    instances: int
    size: int
    waits: float = 0.0
    why: str = ""
    asked: tuple[int, int] | None = None


def peer_named(name: str, settings: Settings) -> Peer:
    """A peer that may be asked for studies.

    Raises:
        PullError: there is none of that name.
    """
    peer = settings.peer_named(name)
    if peer is None or "query" not in peer.may:
        have = ", ".join(p.name for p in settings.peer if "query" in p.may) or "none"
        raise PullError(f'{name}: no [[peer]] of that name may "query" in the settings (have: {have})')
    return peer


@contextlib.contextmanager
def only_here(settings: Settings, store: Store, pull: Pull) -> Iterator[None]:
    """Hold a pull: one process works on it.

    Raises:
        PullError: another one does.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(roles.own(settings.node.data_dir, [f"pull-{pull.id}"]))
            held.enter_context(duties.hold(store, f"pull-{pull.id}", "another host has it"))
        except RoleTaken:
            raise PullError(f"pull #{pull.id} is being worked on by another process") from None
        yield


class Puller:
    """Works on one pull; `wait` takes seconds."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        receiver: Receiver,
        *,
        settings: Settings,
        pull: Pull,
        source: Asking,
        clock: Callable[[], float],
        wait: Callable[[float], None],
        watch: Callable[[Progress], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._spool, self._receiver = store, spool, receiver
        self._settings = settings
        self._pull = pull
        self._peer = peer_named(pull.peer, settings)
        self._rules = Rules(**pull.rules)
        self._pace = self._rules.pace
        self._clock, self._wait, self._watch, self._monotonic = clock, wait, watch, monotonic
        self._ahead = Ahead(store, spool, most=self._rules.ahead, reserve_mb=settings.listener.reserve_mb)
        held = nothing if self._rules.again else partial(pulls.held, store)
        self._source = source(moving=self._on_moving, held=held)
        self._leased: PullStudy | None = None
        self._announced_at = 0.0
        self._last: float | None = None
        self._unreached = 0
        self._rests_until = 0.0
        """While the peer cannot be reached no other study is tried either."""
        self._counts = pulls.counts(store, pull.id)
        self._instances = self._size = 0
        self._spent = NOTHING  # on the study that is leased

    def run(self) -> Pull:
        """Bring what is still to be brought; the pull as it is then, with its reason where it could not go on.

        Raises:
            PeerError: which studies there are could not be asked.
        """
        store, number = self._store, self._pull.id
        try:
            pulls.resume(store, number, now=self._clock())
            if self._pull.asked is not None:
                limit, told = self._rules.limit, lambda n, of: self._tell(asked=(n, of))
                ask(store, self._pull, self._source, limit, clock=self._clock, told=told)
            reason = self._bring_all()
        finally:
            self._source.close()
        if pulls.find(store, number).state is PullState.OPEN:
            state = PullState.OPEN if reason else PullState.DONE
            pulls.set_state(store, number, state, reason=reason, now=self._clock())
        return pulls.find(store, number)

    def _bring_all(self) -> str:
        """Until nothing is left, or somebody stops it; in words why it cannot go on."""
        store, number = self._store, self._pull.id
        self._counts = pulls.counts(store, number)
        while pulls.state(store, number) is PullState.OPEN:
            due = pulls.next_due(store, number)
            if due is None:
                return ""
            now = self._clock()
            rest = max(self._pace.wait(now, self._last), due - now, self._rests_until - now)
            why = "" if rest > 0 else self._ahead.rests(now)
            self._tell(waits=max(rest, 0.0), why=why)
            if rest > 0 or why:
                self._wait(min(rest, TICK_SECONDS) if rest > 0 else TICK_SECONDS)
                continue
            study = pulls.claim(store, number, now=now)
            if study is not None:
                self._last = now
                reason = self._take_on(study)
                self._counts[PullStudyState.QUEUED] -= 1
                self._counts[pulls.became(store, study)] += 1
                self._tell()
                if reason:
                    return reason
        return ""

    def _take_on(self, study: PullStudy) -> str:
        """Bring one study; in words why the pull cannot go on, where that is not the study's fault."""
        self._leased = study
        self._announced_at = 0.0
        self._spent = NOTHING
        try:
            self._bring(study)
        except (AssociationFailed, ContextRefused, StoreError) as error:
            self._unreached += 1
            asked_for = (error.retry_after or 0.0) if isinstance(error, AssociationFailed) else 0.0
            self._rests_until = max(self._later(self._unreached), self._clock() + asked_for)
            pulls.release(self._store, study, due_at=self._rests_until, reason=str(error), spent=self._spent)
            permanent = isinstance(error, ContextRefused | DatabaseDamaged) or getattr(error, "permanent", False)
            return str(error) if permanent or self._unreached >= PEER_TRIES else ""
        except PeerError as error:
            self._failed(study, study.expected, str(error))
        except PullError as error:  # no room: it rests until there is some, and then the study is asked for anew
            self._ahead.look_again()
            pulls.release(self._store, study, due_at=self._clock(), reason=str(error), spent=self._spent)
        except KeyboardInterrupt:
            pulls.release(self._store, study, due_at=self._clock(), spent=self._spent)
            raise
        finally:
            self._leased = None
        self._unreached = 0
        return ""

    def _bring(self, study: PullStudy) -> None:
        uid, asked = study.study_instance_uid, self._pull.pulled
        expected = None if study.attempts else study.expected
        expected = self._source.count(uid) if expected is None else expected
        before = pulls.here(self._store, uid)
        first = before.study_id is not None and not before.is_pulled and not study.attempts
        if first and (asked.route or asked.mode):
            self._done(study, before.instances, expected, UNTOUCHED)
            return
        complete = expected is not None and before.instances >= expected > 0 and before.state in SETTLED
        fetched = None if complete and not self._rules.again else self._fetched(uid, expected, before)
        here = pulls.here(self._store, uid)
        lacking = self._lacking(fetched, here.instances, expected) if fetched else ""
        if lacking:
            self._failed(study, expected, lacking)
            return
        if here.study_id is not None:
            joined = pulled.join(self._store, here.study_id, asked, now=self._clock())
            if not joined and (asked.route or asked.mode):
                self._failed(study, expected, SENT, attempts=1)
                return
            self._receiver.ring()
        self._done(study, here.instances, expected, "" if fetched else "was here already")

    def _done(self, study: PullStudy, taken: int, expected: int | None, reason: str) -> None:
        now, spent = self._clock(), self._spent
        pulls.done(self._store, study, taken=taken, expected=expected, reason=reason, spent=spent, now=now)

    def _fetched(self, uid: str, expected: int | None, before: Here) -> Fetched:
        """Have one study brought, into the hands of the receiver."""
        asked, peer = self._pull.pulled, self._peer
        address = (urlsplit(peer.url).hostname or "" if peer.url else peer.host)[:64]
        ours = self._settings.node.ae_title
        origin = Origin(association_of(asked), peer.ae_title, ours, address, peer.name, self._clock(), asked)
        instances, size, how = self._instances, self._size, "aborted"
        began = self._monotonic()
        self._receiver.on_pull(origin, uid)
        try:
            fetched = self._source.fetch(uid, lambda arrived: self._take(origin, arrived))
            here = pulls.here(self._store, uid)
            if self._instances == instances:  # by C-MOVE it came to the listener
                self._instances += here.instances - before.instances
                self._size += here.size - before.size
            if not self._lacking(fetched, here.instances, expected):
                how = "released"
        finally:
            self._receiver.on_end(origin.id, how)
            self._spent = Spent(self._size - size, self._monotonic() - began)
            if self._announced_at and self._leased:
                pulls.moving(self._store, self._leased, now=self._clock())
        failpoint("pull.fetched")
        return fetched

    def _take(self, origin: Origin, arrived: Arrived) -> Status:
        self._see_to_space()
        size = arrived.path.stat().st_size
        status = self._receiver.on_instance(
            Incoming(
                origin.id, arrived.sop_class_uid, arrived.sop_instance_uid, arrived.transfer_syntax_uid, arrived.path
            )
        )
        if status.code == 0x0000:
            self._instances += 1
            self._size += size
            self._tell()
        failpoint("pull.taken")
        return status

    def _see_to_space(self) -> None:
        reserve = self._settings.listener.reserve_mb
        if self._spool.free_bytes() < reserve * 1024**2:
            raise PullError(f"less than listener.reserve_mb = {reserve} free on the disk of {self._spool.root}")

    def _lacking(self, fetched: Fetched, have: int, expected: int | None) -> str:
        """What is wrong with a study that was brought; empty when nothing is."""
        if fetched.failed:
            return fetched.reason or f"{fetched.failed} instances could not be brought"
        if expected is None:
            return "" if have else "the peer brought nothing"
        if have >= expected > 0:
            return ""
        if expected == 0:
            return "the peer does not have it any more"
        if fetched.taken and not have:
            here = self._settings.node.ae_title
            return (
                f'the peer says that it sent {fetched.taken} instances to "{here}": see which address it has for that'
            )
        return f"{have} of {expected} instances are here"

    def _failed(self, study: PullStudy, expected: int | None, reason: str, *, attempts: int = ATTEMPTS) -> None:
        dead = pulls.fail(
            self._store,
            study,
            taken=pulls.here(self._store, study.study_instance_uid).instances,
            expected=expected,
            reason=reason,
            attempts=attempts,
            due_at=self._later(study.attempts + 1),
            spent=self._spent,
            now=self._clock(),
        )
        log_id = self._store.log_id(study.study_instance_uid)
        log.info("pull.failed pull=%d study=%s final=%s", study.pull_id, log_id, dead)

    def _later(self, tries: int) -> float:
        return self._clock() + ceiling(tries - 1, self._settings.deliver)

    def _on_moving(self, study_instance_uid: str) -> None:
        """Before a C-MOVE and while it goes on: what the peer sends of the study is what we asked for."""
        if "send" not in self._peer.may:
            raise AssociationFailed(
                f"peer {self._peer.name} is asked by C-MOVE, and what it is told to move it sends: "
                'add "send" to may in its settings here',
                permanent=True,
            )
        if not receives(self._settings, self._store):
            raise AssociationFailed(
                f"peer {self._peer.name} is asked by C-MOVE, and what it sends comes to the node, which does not run: "
                "start `overread serve`",
                permanent=True,
            )
        now = self._clock()
        if self._leased and now - self._announced_at >= ANNOUNCE_SECONDS:
            self._announced_at = now
            pulls.moving(self._store, self._leased, now=now)

    def _tell(self, *, waits: float = 0.0, why: str = "", asked: tuple[int, int] | None = None) -> None:
        counts = self._counts
        self._watch(
            Progress(
                total=sum(counts.values()),
                done=counts[PullStudyState.DONE],
                dead=counts[PullStudyState.DEAD],
                instances=self._instances,
                size=self._size,
                waits=waits,
                why=why,
                asked=asked,
            )
        )
