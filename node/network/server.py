"""A pynetdicom association server that counts its connections, knows when each of them has ended, and always stops.

pynetdicom announces releases and aborts but not every end (a failed write in its reader thread ends silently), its
own shutdown waits for a peer that is stuck, and it shakes hands for TLS in the loop that accepts. Nothing here knows
what the associations carry.
"""

from __future__ import annotations

import errno
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from node.network import proxied
from node.network.guard import GuardedSocket, Limits, Places
from node.network.stack import cut

log = logging.getLogger(__name__)

# How long an association may take to abort, and its callbacks to return, once the grace is over (seconds).
ABORT_SECONDS = 1.0
MOST_CONNECTIONS = 500
"""Where nobody says otherwise."""
HANDSHAKE_SECONDS = 5.0
"""For TLS, from connection to agreement."""
NO_FILES_LEFT_SECONDS = 0.1
"""What the accept loop waits when the process has no file descriptor left, instead of turning in circles."""


class Connection(RequestHandler):  # type: ignore[misc]  # pynetdicom is untyped here and asks for a subclass
    """One connection, in a thread that lives as long as its association."""

    server: Server

    def _create_association(self) -> Any:
        self.assoc = super()._create_association()
        self.server.equip(self.assoc, self.request)
        self.server.began(self.assoc)
        return self.assoc

    def handle(self) -> None:
        try:
            super().handle()
            self.assoc.join()
            # The reader thread may still write for a moment after the association gave up on it.
            self.assoc.dul.join(timeout=ABORT_SECONDS)
        finally:
            self.server.over(self.assoc)


class Server(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom is untyped here and asks for a subclass
    """Made by `AE.make_server(..., server_class=Server, request_handler=Connection, ended=..., ...)`.

    `ended(association)` is called once for each connection, after the last of its other callbacks. `upper_layer`
    makes the upper layer of an association; None leaves pynetdicom's own. `tls` is asked for each connection; without
    it all is plain. Whom `relays` knows is a balancer: he says for whom each connection is (`proxied`).
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        *args: Any,
        ended: Callable[[Any], None],
        limits: Limits | None = None,
        places: Places | None = None,
        upper_layer: Callable[[Any], Any] | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
        relays: Callable[[str], bool] = lambda _: False,
        **kwargs: Any,
    ) -> None:
        self._ended = ended
        self._limits = limits or Limits()
        self._places = places or Places(total=MOST_CONNECTIONS, per_host=MOST_CONNECTIONS)
        self._upper_layer = upper_layer
        self._tls = tls
        self._relays = relays
        self._open: set[Any] = set()
        self._changed = threading.Condition()
        super().__init__(*args, **kwargs)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def serve(self) -> None:
        """Accept connections, in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.2,), name="association-server", daemon=True).start()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; of TLS only the beginning, the rest is done in the connection's own thread."""
        try:
            connection, address = self.socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                log.error("connection.refused rule=no-file-descriptor-left")
                time.sleep(NO_FILES_LEFT_SECONDS)
            raise
        try:
            if self._tls:
                connection.settimeout(HANDSHAKE_SECONDS)
                connection = self._tls().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except Exception as error:
            # only an OSError leaves the loop that accepts alive
            log.exception("connection.failed address=%s", address[0])
            connection.close()
            raise OSError("connection failed") from error
        return connection, address

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether there is a place for this host; asked before a thread is made."""
        try:
            rule = self._places.take(client_address[0])
        except Exception as error:  # as in get_request
            log.exception("connection.failed address=%s", client_address[0])
            rule = type(error).__name__
        if rule:
            log.warning("connection.refused rule=%s address=%s", rule, client_address[0])
        return not rule

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread can be started: nobody else would give the place back
            self._places.give_back(client_address[0])
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            if self._relays(client_address[0]):
                client_address = self._introduced(request, client_address)
            if client_address and (not isinstance(request, ssl.SSLSocket) or _shaken(request, client_address)):
                super().process_request_thread(request, client_address)
        finally:
            # pynetdicom does not close a socket whose peer has gone first
            self.shutdown_request(request)
            if client_address:
                self._places.give_back(client_address[0])

    def _introduced(self, request: socket.socket, balancer: Any) -> Any:
        """Whom a balancer brings, with a place of his own in the stead of the balancer's; None: nobody is served."""
        client: proxied.Client | None = None
        try:
            client = proxied.read_client(request, HANDSHAKE_SECONDS)
        except proxied.NoHeader as error:
            if str(error):
                log.warning("connection.refused rule=no-proxy-header address=%s reason=%r", balancer[0], str(error))
        except OSError as error:
            log.warning("connection.refused rule=proxy-header address=%s reason=%r", balancer[0], error.strerror)
        self._places.give_back(balancer[0])
        if client is None:
            return None
        rule = self._places.take(client[0])
        if rule:
            log.warning("connection.refused rule=%s address=%s by=%s", rule, client[0], balancer[0])
            return None
        return client

    def service_actions(self) -> None:
        """Nothing: pynetdicom's own collects garbage here, which in a large process keeps the next connection waiting;
        Python does so by itself."""

    def equip(self, assoc: Any, connection: socket.socket) -> None:
        """Give an association that has not started our reader, and our upper layer."""
        assoc.dul.socket = None
        if self._upper_layer:
            assoc.dul = self._upper_layer(assoc)
            # they are kept by the upper layer's timers
            assoc.network_timeout, assoc.acse_timeout = assoc.network_timeout, assoc.acse_timeout
        else:
            assoc.dul.event_queue.get(block=False)  # the first socket has already announced the connection
        assoc.set_socket(GuardedSocket(assoc, connection, self._limits))

    def stop(self, grace: float) -> None:
        """Stop listening, give established associations `grace` seconds to end, then abort them.

        Waits for what is still done for those that have just ended. Returns a few seconds after the grace at the
        latest, even when a peer or a callback hangs.
        """
        self.shutdown()
        with self._changed:
            unfinished = {assoc for assoc in self._open if not (assoc.is_established or _is_over(assoc))}
            # Nothing is under way on these; their threads may stay until pynetdicom's own timers end them.
            self._open -= unfinished
        for assoc in unfinished:
            _cut(assoc)
        if self._empty_within(grace):
            return
        for assoc in self._still_open():
            if _is_over(assoc):
                continue
            # Not in this thread: it blocks for as long as the reader is stuck.
            threading.Thread(target=assoc.abort, daemon=True).start()
        if self._empty_within(ABORT_SECONDS):
            return
        for assoc in self._still_open():
            _cut(assoc)
        self._empty_within(ABORT_SECONDS)

    def began(self, assoc: Any) -> None:
        with self._changed:
            self._open.add(assoc)

    def over(self, assoc: Any) -> None:
        try:
            self._ended(assoc)
        finally:
            with self._changed:
                self._open.discard(assoc)
                self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("connection.failed")

    def shutdown(self) -> None:
        # Wakes the accept loop, which would otherwise notice at its next poll.
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        # Not pynetdicom's own: that takes the server off a list on which make_server never put it, and fails.
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def _still_open(self) -> list[Any]:
        with self._changed:
            return list(self._open)

    def _empty_within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, timeout=max(0.0, seconds))


def _shaken(connection: ssl.SSLSocket, address: Any) -> bool:
    try:
        connection.do_handshake()
    except OSError as error:  # ssl.SSLError is one
        log.warning("connection.refused rule=tls address=%s reason=%r", address[0], getattr(error, "reason", "") or "")
        return False
    return True


def _is_over(assoc: Any) -> bool:
    """Whether it came to an end; `ended` may still be at work for it."""
    return bool(assoc.is_released or assoc.is_aborted or assoc.is_rejected)


def _cut(assoc: Any) -> None:
    """Close the connection under an association: its reader, however stuck, sees the end of the stream."""
    connection = assoc.dul.socket
    raw = connection.socket if connection else None
    if raw is not None:
        cut(raw)
