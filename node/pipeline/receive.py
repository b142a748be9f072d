"""Receive: an instance is identified, made durable, remembered, and only then acknowledged.

The listener has already written the bytes to `spool/tmp`. Pixels are never decoded here, and nothing that a peer sent
becomes part of a file name or a log line.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from config.settings import Peer, Settings
from node.domain import Gone, Origin, Received
from node.errors import StoreError
from node.failpoint import failpoint
from node.network.incoming import (
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    Callbacks,
    CommitmentReport,
    CommitmentRequest,
    Incoming,
    Rejection,
    Requestor,
    Status,
)
from node.network.statuses import Outcome
from node.pipeline import commit, prove
from node.pipeline.identify import DOES_NOT_MATCH, Unidentified, identify
from node.pipeline.moves import Moves
from node.pipeline.ourselves import is_ourselves, is_test, is_this_machine
from node.pipeline.owed import Owed
from node.pipeline.rejected import Rejections
from node.storage import commitments, instances, studies, trials
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store
from node.storage.trials import OURSELVES

log = logging.getLogger(__name__)


class Receiver:
    """Answers the listener's questions for one node."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        settings: Settings,
        bell: Bell,
        own_device_uid: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._bell = bell
        self._own_device_uid = own_device_uid
        self._clock = clock or store.now
        self.rejections = Rejections(store, kept=lambda: bool(self._settings.audit.sinks), clock=self._clock)
        self._origins: dict[str, Origin] = {}
        self._only: dict[str, str] = {}
        """Associations on which we asked for one study, and take nothing else."""
        self._moves: dict[str, Moves] = {}
        """What associations bring because we told somebody to move it."""
        self._senders: dict[str, Peer | None] = {}
        """Who an open association is from; what it may do does not change with the settings."""
        self._noted: set[str] = set()
        self._waiting: set[str] = set()
        """Associations on which commitment was asked for, and nowhere else can be reported to."""
        self.owed = Owed()
        """How associations ended."""

    @property
    def settings(self) -> Settings:
        """Those in force: whatever decides about a new association asks here."""
        return self._settings

    def take_up(self, settings: Settings) -> None:
        """Decide by other settings from now on; associations that are open go on."""
        self._settings = settings

    def callbacks(self) -> Callbacks:
        return Callbacks(
            admit=self.admit,
            on_accept=self.on_accept,
            on_instance=self.on_instance,
            on_end=self.on_end,
            on_commitment_request=self.on_commitment_request,
            on_commitment_report=self.on_commitment_report,
            on_reject=self.rejections.note,
        )

    def admit(self, requestor: Requestor) -> Rejection | None:
        """Whether this peer may associate; the listener has seen to the called AE title, and logs the rule."""
        rejection = refuse(requestor, self._settings)
        if rejection is None and self._spool.free_bytes() < self._settings.listener.reserve_mb * 1024**2:
            rejection = no_room(self._settings)
        return rejection

    def on_accept(self, association: str, requestor: Requestor) -> None:
        """Know who is sending. It is noted with his first instance: most associations are only an echo."""
        origin = Origin(
            association,
            requestor.calling_ae_title,
            requestor.called_ae_title,
            requestor.address,
            _name_of(requestor, self._settings),
            self._clock(),
        )
        self._origins[association] = origin
        self._senders[association] = self._settings.peer_named(origin.peer)

    def on_pull(self, origin: Origin, study_instance_uid: str) -> None:
        """Know that we are asking for one study ourselves: in place of `on_accept`."""
        self._origins[origin.id] = origin
        self._only[origin.id] = study_instance_uid

    def ring(self) -> None:
        """What was pulled is to be looked at."""
        self._bell.ring("dispatch")

    def on_end(self, association: str, how: str) -> None:
        origin = self._origins.pop(association)
        self._senders.pop(association, None)
        self._only.pop(association, None)
        self._end(origin, how)
        if association in self._moves:
            self._moves.pop(association).close(how)
        if association in self._waiting:
            self._waiting.remove(association)
            self.owed.write(lambda: commitments.abandon(self._store, association, commit.NOWHERE))

    def on_instance(self, incoming: Incoming) -> Status:
        """Keep one instance; 0x0000 only when bytes, name and row are on stable storage."""
        failpoint("receive.start")
        origin, peer = self._origins[incoming.association], self._senders.get(incoming.association)
        if origin.pulled is None and peer and "send" not in peer.may:  # it may associate to report on our results
            return Status(NOT_AUTHORISED, 'this peer may not "send"')
        try:
            received = identify(
                incoming.path,
                sop_class_uid=incoming.sop_class_uid,
                sop_instance_uid=incoming.sop_instance_uid,
                digest=incoming.digest,
            )
            if origin.peer == OURSELVES and not self._belongs_to_a_test(received):
                return Status(NOT_AUTHORISED, "by its own AE title only objects of a test")
            if received.study_instance_uid != self._only.get(origin.id, received.study_instance_uid):
                raise Unidentified(DOES_NOT_MATCH, "not of the study that was asked for")
            if origin.pulled is None and any("query" in p.may for p in self._settings.peer):
                origin = self._by_move(origin, received.study_instance_uid)
            self._note(origin)
            remembered = self._keep(received, origin)
        except Unidentified as error:
            log.warning("instance.refused status=0x%04X reason=%r", error.status.code, error.status.comment)
            return error.status
        except (OSError, StoreError) as error:
            log.error("instance.not-kept error=%s", type(error).__name__)
            return Status(OUT_OF_RESOURCES, f"not kept: {getattr(error, 'strerror', None) or 'database not writable'}")
        failpoint("receive.end")
        log.info("instance.received study=%s state=%s", remembered.study.log_id, remembered.state)
        if not remembered.expected:
            self._bell.ring("dispatch")
        return Status(0x0000)

    def on_commitment_request(self, association: str, request: CommitmentRequest) -> Status:
        """Keep the question whether instances are kept; the dispatch role looks at them."""
        origin, peer = self._origins[association], self._senders.get(association)
        if origin.peer == OURSELVES:
            return Status(NOT_AUTHORISED)
        status = commit.requested(
            self._store,
            self._settings,
            request,
            association=association,
            calling_ae_title=origin.calling_ae_title,
            peer=peer,
            now=self._clock(),
        )
        if status.code == 0x0000:
            if peer is None or not peer.host or peer.port is None:
                self._waiting.add(association)
            self._bell.ring("dispatch")
        return status

    def report(self, send: Callable[[str, CommitmentReport], Outcome]) -> int:
        """Report what was checked to those who asked on an association that is still open."""
        return commit.report_on(self._store, set(self._waiting), send, now=self._clock())

    def on_commitment_report(self, association: str, report: CommitmentReport) -> Status:
        """Record what a peer says of our results."""
        if self._origins[association].peer == OURSELVES:
            return Status(NOT_AUTHORISED)
        status = prove.reported(self._store, self._settings.deliver, report, now=self._clock())
        self._bell.ring("dispatch")
        return status

    def _belongs_to_a_test(self, received: Received) -> bool:
        return is_test(received) and trials.is_free(self._store, received.study_instance_uid)

    def _by_move(self, origin: Origin, study_instance_uid: str) -> Origin:
        """Who sends a study that somebody may have been told to move: then it came by our pull."""
        if origin.id not in self._moves:
            self._moves[origin.id] = Moves(self._store, origin, self._end)
        return self._moves[origin.id].origin(study_instance_uid, now=self._clock())

    def _end(self, origin: Origin, how: str) -> None:
        if origin.id in self._noted:
            self._noted.remove(origin.id)
            now = self._clock()
            self.owed.write(lambda: studies.end_association(self._store, origin.id, how, now=now))
            self._bell.ring("dispatch")

    def make_up(self) -> None:
        """Put down what could not be while the database was away."""
        if self.owed and self.owed.put_down():
            self._bell.ring("dispatch")

    def _keep(self, received: Received, origin: Origin) -> instances.Remembered:
        own = self._own_device_uid
        try:
            return keep(self._store, self._spool, received, origin, own_device_uid=own, now=self._clock())
        except StoreError:
            final = self._spool.object_path(received.sop_instance_uid, received.digest, origin.id)
            if received.path != final and final.exists():  # a file without a row: what a restart would remember
                self.owed.add(lambda: self._keep(replace(received, path=final), origin))
            raise

    def _note(self, origin: Origin) -> None:
        """Make durable who is sending, before anything is taken from him."""
        if origin.id not in self._noted:
            self._spool.write_origin(origin)
            studies.begin_association(self._store, origin)
            self._noted.add(origin.id)


def no_room(settings: Settings) -> Rejection:
    """PS3.8 9.3.4: rejected-transient, service provider (presentation), temporary congestion."""
    return Rejection(2, 3, 1, f"less than listener.reserve_mb = {settings.listener.reserve_mb} free")


def refuse(requestor: Requestor, settings: Settings) -> Rejection | None:
    """The rule that keeps this requestor out, or None.

    PS3.8 9.3.4: result 1 rejected-permanent, source 1 service-user, diagnostic 3 calling AE title not recognised. A
    wrong network gets 3 as well, so that nobody learns which titles exist.
    """
    if not settings.peer:
        if is_this_machine(requestor.address):
            return None
        return Rejection(1, 1, 3, "no [[peer]] in the settings: only this machine may associate")
    if is_ourselves(requestor, settings):
        return None
    titled = [p for p in settings.peer if p.ae_title == requestor.calling_ae_title and associates(p)]
    if not titled:
        return Rejection(1, 1, 3, 'no [[peer]] that may "send" has this calling AE title')
    reasons = [_kept_out(p, requestor, settings) for p in titled]
    return None if "" in reasons else Rejection(1, 1, 3, f"peer {titled[-1].name} {reasons[-1]}")


def associates(peer: Peer) -> bool:
    """Whether a peer may ask for associations: to send, or to report that it keeps our results."""
    return "send" in peer.may or ("receive" in peer.may and peer.proof in ("auto", "commitment"))


def _name_of(requestor: Requestor, settings: Settings) -> str:
    """Which peer asks; a peer of the settings that looks like ourselves is that peer."""
    if peer := _peer_of(requestor, settings):
        return peer.name
    return OURSELVES if settings.peer and is_ourselves(requestor, settings) else ""


def _peer_of(requestor: Requestor, settings: Settings) -> Peer | None:
    titled = [p for p in settings.peer if p.ae_title == requestor.calling_ae_title and associates(p)]
    titled.sort(key=lambda p: "send" not in p.may)
    return next((p for p in titled if not _kept_out(p, requestor, settings)), None)


def _kept_out(peer: Peer, requestor: Requestor, settings: Settings) -> str:
    """Why this requestor is not that peer, or ""."""
    if not peer.admits(requestor.address):
        return "may not come from this address"
    if settings.uses_tls(peer) and not requestor.certificate:
        return "may not come in plain: it must use TLS"
    if peer.fingerprint and peer.fingerprint != requestor.certificate:
        return f"shows another certificate, with the fingerprint {requestor.certificate}"
    return ""


def keep(
    store: Store, spool: Spool, received: Received, origin: Origin, *, own_device_uid: str, now: float
) -> instances.Remembered:
    """Make an identified file durable, then its row. The same bytes again only count as another receipt.

    Raises:
        OSError, StoreError: not kept; nothing may be acknowledged.
    """
    final = spool.object_path(received.sop_instance_uid, received.digest, origin.id)
    if final.exists():  # kept without its row, or sent twice on one association
        return _again(store, spool, received, final, origin, own_device_uid=own_device_uid, now=now)
    spool.keep(received.path, final)
    kept = replace(received, path=final)
    remembered = instances.remember(store, kept, origin, own_device_uid=own_device_uid, now=now)
    failpoint("receive.after_row")
    return remembered or _again(store, spool, kept, final, origin, own_device_uid=own_device_uid, now=now)


def _again(
    store: Store, spool: Spool, received: Received, final: Path, origin: Origin, *, own_device_uid: str, now: float
) -> instances.Remembered:
    """The same for bytes of which a file or a row is there already: the file that was there is left as it is, if it is
    whole."""
    before, damaged = instances.known(store, received.sop_instance_uid, received.digest), None
    if before and before.gone is Gone.KEPT and not spool.is_whole(before.path, before.digest):
        log.error("instance.lost instance=%d: its file is not what was received", before.id)
        instances.lose(store, before)
        damaged = before.path
    elif before and before.gone is Gone.KEPT and instances.count_receipt(store, before, origin, now=now):
        if received.path != before.path:
            spool.drop(received.path)
        return instances.Remembered(studies.by_id(store, before.study_id), before.state, before.path)
    if before:
        # A result carries its inputs' time. These came before: a database rebuilt from the spool must say so too
        os.utime(received.path, (time.time(), before.received_at))
    if received.path != final:
        spool.keep(received.path, final, anew=damaged == final)
    else:
        spool.secure(final)
    kept = replace(received, path=final)
    remembered = instances.remember(store, kept, origin, own_device_uid=own_device_uid, now=now)
    remembered = remembered or instances.restore(store, kept, origin, now=now)
    failpoint("receive.after_row")
    if remembered.path != final:
        spool.shelf.remove(final)
    return remembered
