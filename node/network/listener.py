"""The storage SCP: who may associate, and each instance as a file handed to a callback that answers for it.

It decides nothing about content, knows no rows and no spool, and never answers success by itself. This is
pynetdicom's stock receive path; what it cannot guard against (a length field that lies, bytes that drip) is not
guarded here.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt

from node.errors import SettingsError
from node.network import contexts, stack
from node.network.server import Connection, Server

log = logging.getLogger(__name__)

OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
PROCESSING_FAILURE = 0x0110  # PS3.7 C.5.7
NOT_AUTHORISED = 0x0124  # PS3.7 C.5.15
COMMENT_LENGTH = 64  # Error Comment (0000,0902) is an LO

ACSE_SECONDS = 30.0
"""How long a connection may take to ask for its association."""


@dataclass(frozen=True)
class Requestor:
    """Who asks for an association; AE titles without padding."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    port: int


@dataclass(frozen=True)
class Incoming:
    """One instance as received: its command's UIDs and a Part 10 file that holds the sender's bytes unaltered.

    The callback may rename the file away; what is left is deleted when it returns.
    """

    association: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    path: Path


@dataclass(frozen=True)
class Rejection:
    """Why somebody does not associate: result, source and diagnostic of PS3.8 Table 9-21, and our rule's name."""

    result: int
    source: int
    diagnostic: int
    rule: str


@dataclass(frozen=True)
class Status:
    """The DIMSE status of a C-STORE response and its Error Comment, of which 64 characters are sent."""

    code: int
    comment: str = ""


@dataclass(frozen=True)
class Callbacks:
    """What a listener asks its owner; each is called from the association's own thread."""

    admit: Callable[[Requestor], Rejection | None]
    on_accept: Callable[[str, Requestor], None]
    """(association, requestor): before the acceptance goes out; if it raises, the association is rejected."""
    on_instance: Callable[[Incoming], Status]
    on_end: Callable[[str, str], None]
    """(association, "released" | "aborted"): once for every association of which `on_accept` was told."""


CALLED_AE_TITLE = Rejection(1, 1, 7, "called-ae-title")
MAX_ASSOCIATIONS = Rejection(2, 3, 2, "max-associations")
STOPPING = Rejection(2, 3, 1, "stopping")
# The fault is here: transient, so that the sender comes again.
FAILED = Rejection(2, 1, 1, "failed")


class Listener:
    """Accepts associations on one address and port.

    Instances are received into `folder` (mode 0600), which should lie on the spool's
    file system. One above `instance_limit` bytes is refused with 0xA700, after it was received: the stock path
    cannot stop it earlier. `network_timeout` (seconds) ends an association that is silent for so long.
    """

    def __init__(
        self,
        *,
        ae_title: str,
        bind: str,
        port: int,
        folder: Path,
        callbacks: Callbacks,
        max_associations: int,
        network_timeout: float,
        instance_limit: int,
        prefer_uncompressed: Callable[[str], bool] | None = None,
    ) -> None:
        self._ae_title = ae_title
        self._address = (bind, port)
        self._folder = folder
        self._callbacks = callbacks
        self._max_associations = max_associations
        self._network_timeout = network_timeout
        self._instance_limit = instance_limit
        self._prefers_uncompressed = prefer_uncompressed or (lambda calling_ae_title: False)
        self._uncompressed_first = contexts.acceptable(contexts.UNCOMPRESSED_FIRST)
        # accepted and not yet ended: pynetdicom's association -> our name for it
        self._ids: dict[Any, str] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._server: Server | None = None

    @property
    def port(self) -> int:
        """The port; once started the real one, where 0 was asked for."""
        return self._server.port if self._server else self._address[1]

    def start(self) -> None:
        """Listen, in threads of its own.

        Raises:
            SettingsError: that address and port cannot be listened on.
        """
        ae = stack.entity(self._ae_title)
        ae.network_timeout = ae.dimse_timeout = self._network_timeout
        ae.acse_timeout = min(ACSE_SECONDS, self._network_timeout)
        # Our own count decides; pynetdicom's includes connections that are just being rejected.
        ae.maximum_associations = 1_000_000
        files = stack.TemporaryFiles(ae, self._folder)
        handlers = [
            (evt.EVT_CONN_OPEN, self._on_connection),
            (evt.EVT_DATA_SENT, stack.on_data_sent),
            (evt.EVT_REQUESTED, self._on_request),
            (evt.EVT_C_STORE, self._on_store),
        ]
        try:
            server: Server = ae.make_server(
                self._address,
                contexts=contexts.acceptable(contexts.COMPRESSED_FIRST),
                evt_handlers=handlers,
                server_class=Server,
                request_handler=Connection,
                ended=lambda assoc: self._on_ended(assoc, files),
            )
        except (OSError, OverflowError) as error:
            bind, port = self._address
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f'[listener] bind = "{bind}", port = {port}: cannot listen there: {reason}') from None
        self._stopping = False
        self._server = server
        server.serve()

    def stop(self, grace: float) -> None:
        """Take no new associations, give the running ones `grace` seconds to end, then abort them.

        Returns a few seconds after the grace at the latest, even when a peer or a callback hangs.
        """
        self._stopping = True
        if self._server:
            self._server.stop(grace)
            self._server = None

    def _on_connection(self, event: Any) -> None:
        stack.tune(event.assoc.dul.socket.socket, self._network_timeout)

    def _on_request(self, event: Any) -> None:
        request = event.assoc.requestor
        requestor = Requestor(
            calling_ae_title=str(request.primitive.calling_ae_title).strip(),
            called_ae_title=str(request.primitive.called_ae_title).strip(),
            address=request.address,
            port=request.port,
        )
        try:
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

    def _on_store(self, event: Any) -> Any:
        association = self._ids.get(event.assoc)
        if association is None:
            return NOT_AUTHORISED
        try:
            return _response(self._receive(association, event))
        except OSError as error:
            _log_failure(f"instance.failed association={association}", error)
            return OUT_OF_RESOURCES
        except Exception as error:
            _log_failure(f"instance.failed association={association}", error)
            return PROCESSING_FAILURE

    def _receive(self, association: str, event: Any) -> Status:
        path = Path(event.dataset_path)
        size = path.stat().st_size
        if size > self._instance_limit:
            log.warning("instance.too-large association=%s bytes=%d", association, size)
            return Status(OUT_OF_RESOURCES, f"larger than the limit of {self._instance_limit} bytes")
        return self._callbacks.on_instance(
            Incoming(
                association=association,
                sop_class_uid=str(event.request.AffectedSOPClassUID),
                sop_instance_uid=str(event.request.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                path=path,
            )
        )

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


def _response(status: Status) -> Any:
    if not status.comment:
        return status.code
    answer = Dataset()
    answer.Status = status.code
    # A command set knows the default repertoire only (PS3.7 6.3.1), and a backslash would part an LO in two.
    text = status.comment.replace("\\", "/").encode("ascii", "replace").decode("ascii")
    answer.ErrorComment = text[:COMMENT_LENGTH]
    return answer


def _log_failure(event: str, error: Exception) -> None:
    """Log where it failed, and not what the exception says: that may quote the data set."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s error=%s at=%s:%s", event, type(error).__name__, Path(place.filename).name, place.lineno)
