"""One association that we asked for: opened, bounded in time, explained when it does not come about.

Whatever the peer does or leaves undone, no call here blocks for much longer than its timeout. It knows no files and
no retries.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pynetdicom import build_role, evt
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ

from node.domain import Pair
from node.errors import AssociationFailed, ContextRefused
from node.network import contexts, stack, tls
from node.network.statuses import rejection

MAXIMUM_CONTEXTS = 128
"""PS3.8 9.3.2.2: context identifiers are the odd numbers from 1 to 255."""

IDLE_SECONDS = 60.0
"""pynetdicom aborts an association on which nothing was received for so long, or for the timeout if that is more."""


@dataclass(frozen=True)
class Target:
    """A peer as we call it. The timeout (seconds) holds for each step: connect, associate, answer, release. With an
    identity it is TLS; with a fingerprint only one certificate will do."""

    calling_ae_title: str
    called_ae_title: str
    host: str
    port: int
    timeout: float
    identity: tls.Identity | None = None
    fingerprint: str = ""

    def context(self) -> ssl.SSLContext | None:
        return self.identity.client(pinned=bool(self.fingerprint)) if self.identity else None

    def __str__(self) -> str:
        return f'"{self.called_ae_title}" at {self.host}:{self.port}'


class Link:
    """An established association. Made by `open_link`; used by one thread."""

    def __init__(self, target: Target, proposed: Sequence[Pair]) -> None:
        self.target = target
        self.proposed = frozenset(proposed)
        self.accepted: frozenset[Pair] = frozenset()
        self.connected = False
        self.aborted = False
        self.rejected: tuple[int, int, int] | None = None
        self.stranger = ""
        """The certificate that was shown in place of the one that is asked for."""
        self.late = False
        self.heard_at = time.monotonic()
        """When the last PDU came."""
        self.assoc: Any = None
        self._context = target.context()
        self._socket: socket.socket | None = None
        self._message = 0

    @property
    def alive(self) -> bool:
        return bool(self.assoc and self.assoc.is_established)

    def next_message(self) -> int:
        """A Message ID that is not in use (US: 16 bits)."""
        self._message = self._message % 0xFFFF + 1
        return self._message

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut the connection when the block takes longer than this; `late` then says so."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def while_it_speaks(self, silence: float) -> Iterator[None]:
        """Cut the connection when nothing came for so many seconds: for answers that take as long as they take."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(max(self.heard_at + silence - time.monotonic(), 0.01)):
                if time.monotonic() - self.heard_at >= silence:
                    self._cut()
                    stack.give_up(self.assoc)
                    return

        self.heard_at = time.monotonic()
        timeout, self.assoc.dimse_timeout = self.assoc.dimse_timeout, None
        watchman = threading.Thread(target=watch, daemon=True)
        watchman.start()
        try:
            yield
        finally:
            over.set()
            watchman.join()
            self.assoc.dimse_timeout = timeout

    def close(self) -> None:
        """Release the association, or clear away what is left of it."""
        if self.assoc is not None:
            if self.alive:
                with self.within(self.target.timeout):
                    self.assoc.release()
            self.assoc.dul.join(timeout=1.0)
        if self._socket is not None:
            # pynetdicom forgets to close a socket on which the connection failed or the peer hung up.
            self._socket.close()

    def lost(self) -> str:
        """Why there was no answer, in words."""
        if self.late:
            return "did not answer in time"
        return "aborted the association" if self.aborted else "closed the connection without an answer"

    def wrap_socket(self, plain: socket.socket, **options: Any) -> ssl.SSLSocket:
        """As an SSLContext does it; pynetdicom then forgets to close this one too when the handshake fails."""
        assert self._context, "only called with an identity"
        self._socket = wrapped = self._context.wrap_socket(plain, **options)
        return wrapped

    def _cut(self) -> None:
        self.late = True
        if self._socket is not None:
            stack.cut(self._socket)

    def handlers(self) -> list[Any]:
        return [
            (evt.EVT_ACSE_SENT, self._on_acse_sent),
            (evt.EVT_CONN_OPEN, self._on_connected),
            (evt.EVT_DATA_SENT, stack.on_data_sent),
            (evt.EVT_PDU_RECV, self._on_pdu),
        ]

    def _on_acse_sent(self, event: Any) -> None:
        # The first one comes before the connection is tried: the only moment at which every socket can be had.
        if self._socket is None:
            self._socket = event.assoc.dul.socket.socket

    def _on_connected(self, event: Any) -> None:
        self.connected = True
        connection = event.assoc.dul.socket.socket
        try:
            # before our request goes out
            shown = tls.shown_by(connection)
            if self.target.fingerprint and shown != self.target.fingerprint:
                self.stranger = shown
                stack.cut(connection)
            # pynetdicom has just made the socket wait without end.
            stack.tune(connection, self.target.timeout)
        except Exception:  # which pynetdicom would swallow, and go on
            stack.cut(connection)
            raise

    def _on_pdu(self, event: Any) -> None:
        self.heard_at = time.monotonic()
        # Kept from the wire: a peer that hangs up at once makes pynetdicom report a rejection as a failed connection.
        if isinstance(event.pdu, A_ABORT_RQ):
            self.aborted = True
        elif isinstance(event.pdu, A_ASSOCIATE_RJ):
            self.rejected = (event.pdu.result, event.pdu.source, event.pdu.reason_diagnostic)


def open_link(
    target: Target, pairs: Sequence[Pair], *, scp_of: Sequence[str] = (), handlers: Sequence[Any] = ()
) -> Link:
    """Associate, proposing one presentation context for each pair (MAXIMUM_CONTEXTS at most).

    Of the SOP classes `scp_of` this side asks to be the SCP (PS3.7 D.3.3.4). `handlers` of pynetdicom's events serve
    what the peer asks on this association.

    Raises:
        AssociationFailed: no association; `permanent` when the peer rejected it for good.
        ContextRefused: the peer associates and takes none of the pairs.
    """
    ae = stack.entity(target.calling_ae_title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = target.timeout
    ae.network_timeout = max(IDLE_SECONDS, target.timeout)
    link = Link(target, pairs)
    started = time.monotonic()
    try:
        # Connecting and associating each have their own timeout; a peer that drips bytes keeps within both.
        with link.within(2 * target.timeout + 1):
            link.assoc = ae.associate(
                target.host,
                target.port,
                contexts=contexts.proposal(pairs),
                ae_title=target.called_ae_title,
                max_pdu=stack.MAXIMUM_PDU,
                evt_handlers=[*link.handlers(), *handlers],
                ext_neg=[build_role(sop_class, scp_role=True) for sop_class in scp_of],
                tls_args=(link, target.host) if target.identity else None,
            )
    except OSError as error:
        raise failure(target, error) from None
    if not link.alive:
        link.close()
        raise _failure(link, time.monotonic() - started)
    stack.keep_answers_apart(link.assoc)
    link.accepted = frozenset((str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in link.assoc.accepted_contexts)
    return link


def failure(target: Target, error: OSError) -> AssociationFailed:
    """Why no connection to a peer can be made, and what to change."""
    where = f"{target.host}:{target.port}"
    if isinstance(error, socket.gaierror):
        return AssociationFailed(
            f'the host name "{target.host}" is not known here ({error.strerror})',
            advice="correct host in this peer's settings here, or this machine's name service",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return AssociationFailed(f"{target} is not believed ({error.verify_message})", advice=_remedy(error))
    why = getattr(error, "reason", "") or error.strerror
    hangs_up = isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError)
    if target.identity and (hangs_up or why == "WRONG_VERSION_NUMBER"):
        return AssociationFailed(
            f"{target}: TLS was not agreed on ({why or error})",
            advice="perhaps it does not speak TLS there: set tls = false in its settings here, or correct its port "
            "here, or switch TLS on there, and let it believe the authority of this node's certificate",
        )
    if isinstance(error, ssl.SSLError):
        return AssociationFailed(
            f"{target}: TLS was not agreed on ({error.reason or error})",
            advice="is that its port for TLS, does it take TLS 1.2 or 1.3, and does it believe the authority of this "
            "node's certificate?",
        )
    if isinstance(error, TimeoutError):
        return AssociationFailed(
            f"{where} does not answer within {target.timeout:g} s",
            advice="correct host and port here, or open the way there (firewall, routing)",
        )
    if isinstance(error, ConnectionRefusedError):
        return AssociationFailed(
            f"nothing listens at {where}", advice="start the peer's DICOM service there, or correct host and port here"
        )
    return AssociationFailed(
        f"no way to {where} from here ({error.strerror or error})",
        advice="correct host here, or this machine's network",
    )


def _failure(link: Link, seconds: float) -> AssociationFailed | ContextRefused:
    target = link.target
    if link.stranger:
        return stranger(target, link.stranger)
    if link.rejected:
        return _rejected(target, *link.rejected)
    if link.assoc.rejected_contexts:
        return ContextRefused(f"{target} accepts none of the proposed SOP classes and transfer syntaxes")
    if not link.connected:
        return _not_connected(target, seconds)
    if link.aborted:
        return AssociationFailed(
            f"{target} aborts instead of answering the association request",
            advice=f'see its log, and whether "{target.calling_ae_title}" at this machine\'s address is allowed there',
        )
    if seconds >= target.timeout:
        return AssociationFailed(
            f"{target} takes the connection and does not answer the association request within {target.timeout:g} s",
            advice=f"is that its DICOM port, {_with(target)} TLS? Correct port here, or see whether the peer hangs",
        )
    return AssociationFailed(
        f"{target} closes the connection without an answer",
        advice=f"is that its DICOM port, {_with(target)} TLS, and is this machine's address"
        f"{' and its certificate' if target.identity else ''} allowed there?",
    )


def stranger(target: Target, shown: str) -> AssociationFailed:
    """Another certificate than the one in the settings was shown."""
    return AssociationFailed(
        f"{target} shows a certificate with the fingerprint {shown}, not the one in its settings here",
        advice="if it was renewed, correct fingerprint; if not, somebody else answers there",
    )


def _with(target: Target) -> str:
    return "with" if target.identity else "without"


def _rejected(target: Target, result: int, source: int, diagnostic: int) -> AssociationFailed:
    advice = {
        (1, 1): f'see its log, and whether "{target.calling_ae_title}" at this machine\'s address is allowed there',
        (1, 3): f'add "{target.calling_ae_title}" with this machine\'s address to the known AE titles there, '
        "or correct ae_title in [node] here",
        (1, 7): "correct ae_title in this peer's settings here, or the AE title there",
        (3, 1): "it is busy; it will be tried again",
        (3, 2): "it has as many associations as it takes; raise its limit there if that lasts",
    }.get((source, diagnostic), "see its log")
    words = rejection(result, source, diagnostic)
    return AssociationFailed(f"{target} {words}", advice=advice, permanent=result == 1)


def _not_connected(target: Target, seconds: float) -> AssociationFailed:
    if seconds >= target.timeout:
        return failure(target, TimeoutError())
    # pynetdicom only logs why it could not connect, so ask once more.
    context = target.context()
    try:
        with socket.create_connection((target.host, target.port), target.timeout) as probe:
            if context:
                context.wrap_socket(probe, server_hostname=target.host).close()
    except OSError as error:
        return failure(target, error)
    where = f"{target.host}:{target.port}"
    return AssociationFailed(f"{where} refused the connection a moment ago and takes it now", advice="try again")


def _remedy(error: ssl.SSLCertVerificationError) -> str:
    # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH, X509_V_ERR_CERT_HAS_EXPIRED and others of OpenSSL
    if error.verify_code == 9:
        return "compare the clocks of both machines"
    if error.verify_code == 26:
        return "it is not meant for a server; it must be made anew there"
    if error.verify_code in (62, 64):
        return "give the certificate's name as host here, or its fingerprint in this peer's settings"
    if error.verify_code == 10:
        return "its certificate must be renewed there"
    return "add its authority, or the certificate itself if it signed that itself, to the authorities of [tls] here"
