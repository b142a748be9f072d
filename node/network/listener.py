"""The storage SCP: who may associate, and each instance as a file handed to a callback that answers for it.

It decides nothing about content, knows no rows and no spool, and never answers success by itself. Instances are
streamed (`stream.py`) or, where this pynetdicom cannot be taught that, come by its own path; both read through
`guard.py`.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

from pynetdicom import evt

from node.errors import SettingsError
from node.network import commitment, contexts, stack, stream, tls
from node.network.guard import Limits, Places
from node.network.incoming import (
    CALLED_AE_TITLE,
    FAILED,
    MAX_ASSOCIATIONS,
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    STOPPING,
    Callbacks,
    CommitmentReport,
    CommitmentRequest,
    Incoming,
    Rejection,
    Requestor,
    Status,
)
from node.network.message import Command
from node.network.server import Connection, Server
from node.network.statuses import Outcome
from node.network.stream import Desk, Sink, StreamingDUL

log = logging.getLogger(__name__)

UpperLayer = Callable[[Any], Any] | None
SECURE_PORT = 2762
"""Registered for DICOM over TLS (PS3.15 B.12)."""
ACSE_SECONDS = 30.0
"""How long a connection may take to ask for its association."""


class Listener:
    """Accepts associations on one address: in plain on `port`, with TLS on `secure_port`, or on both.

    Instances are received into `folder` (mode 0600), which should lie on the spool's
    file system. Of one above `instance_limit` bytes no more than that is written, and it is refused with 0xA700.
    `network_timeout` (seconds) ends an association that is silent for so long. `streaming=False` takes pynetdicom's
    own path. Without an `identity` there is no TLS; with `port=None` nobody is served in plain. Whom `relays` knows is
    a balancer, whose connections are whom he says.
    """

    def __init__(
        self,
        *,
        ae_title: str,
        bind: str,
        port: int | None,
        folder: Path,
        callbacks: Callbacks,
        max_associations: int,
        network_timeout: float,
        instance_limit: int,
        prefer_uncompressed: Callable[[str], bool] | None = None,
        limits: Limits | None = None,
        places: Places | None = None,
        streaming: bool = True,
        secure_port: int = SECURE_PORT,
        identity: tls.Identity | None = None,
        relays: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._relays = relays
        self._ae_title = ae_title
        self._bind = bind
        self._asked = {"plain": port, "tls": secure_port if identity else None}
        self._folder = folder
        self._callbacks = callbacks
        self._max_associations = max_associations
        self._network_timeout = network_timeout
        self._instance_limit = instance_limit
        self._prefers_uncompressed = prefer_uncompressed or (lambda calling_ae_title: False)
        self._limits = limits or Limits()
        self._places = places or Places(total=4 * max_associations, per_host=4 * max_associations)
        self._streaming = streaming
        self._identity = identity
        self._uncompressed_first = contexts.acceptable(contexts.UNCOMPRESSED_FIRST)
        # accepted and not yet ended: pynetdicom's association -> our name for it
        self._ids: dict[Any, str] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._servers: dict[str, Server] = {}
        self._files: stack.TemporaryFiles | None = None

    @property
    def port(self) -> int | None:
        """The plain port; once started the real one, where 0 was asked for. None: there is none."""
        return self._servers["plain"].port if "plain" in self._servers else self._asked["plain"]

    @property
    def secure_port(self) -> int | None:
        """The same for TLS."""
        return self._servers["tls"].port if "tls" in self._servers else self._asked["tls"]

    def start(self) -> None:
        """Listen, in threads of its own.

        Raises:
            SettingsError: an address and port cannot be listened on.
        """
        ae = stack.entity(self._ae_title)
        ae.network_timeout = ae.dimse_timeout = self._network_timeout
        ae.acse_timeout = min(ACSE_SECONDS, self._network_timeout)
        # Our own count decides; pynetdicom's includes connections that are just being rejected.
        ae.maximum_associations = 1_000_000
        self._files = files = stack.TemporaryFiles(ae, self._folder, limit=self._instance_limit)
        self._stopping = False
        upper_layer = self._upper_layer()
        try:
            for kind, port in self._asked.items():
                if port is not None:
                    self._servers[kind] = self._made(ae, files, kind, port, upper_layer)
        except SettingsError:
            for server in self._servers.values():
                server.server_close()
            self._servers = {}
            raise
        for server in self._servers.values():
            server.serve()

    def stop(self, grace: float) -> None:
        """Take no new associations, give the running ones `grace` seconds to end, then abort them.

        Returns a few seconds after the grace at the latest, even when a peer or a callback hangs.
        """
        self._stopping = True
        servers, self._servers = self._servers, {}
        stopping = [threading.Thread(target=server.stop, args=(grace,), daemon=True) for server in servers.values()]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def report(self, association: str, said: CommitmentReport) -> Outcome:
        """Report on storage commitment to who asked on this association, if it is still open."""
        assoc = next((a for a, name in list(self._ids.items()) if name == association), None)
        if assoc is None:
            return Outcome(None, "the association has ended", "retry")
        stack.keep_answers_apart(assoc)
        return commitment.report_back(assoc, said)

    def _made(self, ae: Any, files: stack.TemporaryFiles, kind: str, port: int, upper_layer: UpperLayer) -> Server:
        handlers = [
            (evt.EVT_CONN_OPEN, self._on_connection),
            (evt.EVT_REQUESTED, self._on_request),
            (evt.EVT_C_STORE, self._on_store),
            commitment.request_handler(self._on_commitment_request),
            commitment.report_handler(self._on_commitment_report),
        ]
        try:
            made: Server = ae.make_server(
                (self._bind, port),
                contexts=contexts.acceptable(contexts.COMPRESSED_FIRST),
                evt_handlers=handlers,
                server_class=Server,
                request_handler=Connection,
                ended=lambda assoc: self._on_ended(assoc, files),
                limits=self._limits,
                places=self._places,
                upper_layer=upper_layer,
                tls=self._identity.server if self._identity and kind == "tls" else None,
                relays=self._relays,
            )
        except (OSError, OverflowError) as error:
            where = f'[listener] bind = "{self._bind}", {"[tls] " if kind == "tls" else ""}port = {port}'
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"{where}: cannot listen there: {reason}") from None
        return made

    def _upper_layer(self) -> UpperLayer:
        lacking = stream.supported() if self._streaming else "streaming is off"
        if lacking:
            log.warning("listener.stock-path lacking=%r", lacking)
            return None
        desk = Desk(self._folder, self._instance_limit, self._on_streamed)
        return lambda assoc: StreamingDUL(assoc, desk)

    def _on_connection(self, event: Any) -> None:
        stack.tune(event.assoc.dul.socket.socket, min(self._network_timeout, self._limits.pdu_seconds))

    def _on_request(self, event: Any) -> None:
        request = event.assoc.requestor
        requestor = Requestor("", "", request.address, request.port)
        try:
            requestor = Requestor(
                calling_ae_title=str(request.primitive.calling_ae_title).strip(),
                called_ae_title=str(request.primitive.called_ae_title).strip(),
                address=request.address,
                port=request.port,
                certificate=tls.shown_by(event.assoc.dul.socket.socket),
            )
            rejection = self._refuse(requestor) or self._accept(event.assoc, requestor)
        except Exception as error:
            # pynetdicom swallows what this handler raises, and would accept.
            _log_failure("association.failed", error)
            rejection = FAILED
        if rejection:
            log.warning(
                "association.rejected rule=%s calling=%r called=%r address=%s",
                rejection.rule,
                requestor.calling_ae_title,
                requestor.called_ae_title,
                requestor.address,
            )
            self._callbacks.on_reject(requestor, rejection)
            _reject(event.assoc, rejection)

    def _refuse(self, requestor: Requestor) -> Rejection | None:
        if self._stopping:
            return STOPPING
        if requestor.called_ae_title != self._ae_title:
            return CALLED_AE_TITLE
        return self._callbacks.admit(requestor)

    def _accept(self, assoc: Any, requestor: Requestor) -> Rejection | None:
        association = token_hex(6)
        if self._prefers_uncompressed(requestor.calling_ae_title):
            assoc.acceptor.supported_contexts = self._uncompressed_first
        with self._lock:
            if len(self._ids) >= self._max_associations:
                return MAX_ASSOCIATIONS
            self._ids[assoc] = association
        try:
            self._callbacks.on_accept(association, requestor)
        except Exception:
            with self._lock:
                del self._ids[assoc]
            raise
        return None

    def _on_streamed(self, assoc: Any, command: Command, sink: Sink) -> Status:
        """The answer to an instance that was streamed."""
        if sink.too_long:
            return self._too_long(assoc)
        if sink.failed:
            return self._failed(assoc, sink.failed)
        return self._answer(
            assoc,
            command.sop_class_uid,
            command.sop_instance_uid,
            command.transfer_syntax_uid,
            sink.path,
            sink.digest,
        )

    def _on_store(self, event: Any) -> Any:
        """The answer to an instance that came by pynetdicom's own path."""
        request = event.request
        if self._files and self._files.too_long(Path(event.dataset_path)):
            return self._too_long(event.assoc).data_set
        return self._answer(
            event.assoc,
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            Path(event.dataset_path),
        ).data_set

    def _answer(self, assoc: Any, sop_class: str, instance: str, syntax: str, path: Path, digest: str = "") -> Status:
        association = self._ids.get(assoc)
        if association is None:
            return Status(NOT_AUTHORISED)
        try:
            return self._callbacks.on_instance(Incoming(association, sop_class, instance, syntax, path, digest))
        except Exception as error:
            return self._failed(assoc, error)

    def _on_commitment_request(self, assoc: Any, request: CommitmentRequest) -> Status:
        name = self._ids.get(assoc)
        return self._callbacks.on_commitment_request(name, request) if name else Status(NOT_AUTHORISED)

    def _on_commitment_report(self, assoc: Any, report: CommitmentReport) -> Status:
        name = self._ids.get(assoc)
        return self._callbacks.on_commitment_report(name, report) if name else Status(NOT_AUTHORISED)

    def _failed(self, assoc: Any, error: Exception) -> Status:
        _log_failure(f"instance.failed association={self._ids.get(assoc)}", error)
        return Status(OUT_OF_RESOURCES if isinstance(error, OSError) else PROCESSING_FAILURE)

    def _too_long(self, assoc: Any) -> Status:
        log.warning("instance.too-large association=%s limit=%d", self._ids.get(assoc), self._instance_limit)
        return Status(OUT_OF_RESOURCES, f"larger than the limit of {self._instance_limit} bytes")

    def _on_ended(self, assoc: Any, files: stack.TemporaryFiles) -> None:
        with self._lock:
            association = self._ids.pop(assoc, None)
        if association is not None:
            try:
                self._callbacks.on_end(association, "released" if assoc.is_released else "aborted")
            except Exception as error:
                _log_failure(f"association.end-failed association={association}", error)
        files.discard(assoc)


def _reject(assoc: Any, rejection: Rejection) -> None:
    try:
        assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
    except ValueError as error:
        _log_failure(f"association.rejection-unknown rule={rejection.rule}", error)
        assoc.acse.send_reject(FAILED.result, FAILED.source, FAILED.diagnostic)
    # As pynetdicom does after its own rejections: wait until it is on the wire, or closing the socket overtakes it.
    assoc.kill()


def _log_failure(event: str, error: Exception) -> None:
    """Log where it failed, and not what the exception says: that may quote the data set."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s error=%s at=%s:%s", event, type(error).__name__, Path(place.filename).name, place.lineno)
