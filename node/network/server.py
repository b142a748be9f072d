"""A pynetdicom association server that knows when each of its associations has ended, and that always stops.

pynetdicom announces releases and aborts but not every end (a failed write in its reader thread ends silently), and
its own shutdown waits for a peer that is stuck. Nothing here knows what the associations carry.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

log = logging.getLogger(__name__)

# How long an association may take to abort, and its callbacks to return, once the grace is over (seconds).
ABORT_SECONDS = 1.0


class Connection(RequestHandler):  # type: ignore[misc]  # pynetdicom is untyped here and asks for a subclass
    """One connection, in a thread that lives as long as its association."""

    server: Server

    def _create_association(self) -> Any:
        self.assoc = super()._create_association()
        self.server.began(self.assoc)
        return self.assoc

    def handle(self) -> None:
        super().handle()
        self.assoc.join()
        # The reader thread may still write for a moment after the association gave up on it.
        self.assoc.dul.join(timeout=ABORT_SECONDS)
        self.server.over(self.assoc)


class Server(ThreadedAssociationServer):  # type: ignore[misc]  # pynetdicom is untyped here and asks for a subclass
    """Made by `AE.make_server(..., server_class=Server, request_handler=Connection, ended=...)`.

    `ended(association)` is called once for each connection, after the last of its other callbacks.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any, ended: Callable[[Any], None], **kwargs: Any) -> None:
        self._ended = ended
        self._open: set[Any] = set()
        self._changed = threading.Condition()
        super().__init__(*args, **kwargs)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def serve(self) -> None:
        """Accept connections, in a thread of its own."""
        threading.Thread(target=self.serve_forever, args=(0.2,), name="association-server", daemon=True).start()

    def stop(self, grace: float) -> None:
        """Stop listening, give established associations `grace` seconds to end, then abort them.

        Returns a few seconds after the grace at the latest, even when a peer or a callback hangs.
        """
        self.shutdown()
        with self._changed:
            unfinished = {assoc for assoc in self._open if not assoc.is_established}
            # Nothing is under way on these; their threads may stay until pynetdicom's own timers end them.
            self._open -= unfinished
        for assoc in unfinished:
            _cut(assoc)
        if self._empty_within(grace):
            return
        for assoc in self._still_open():
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


def _cut(assoc: Any) -> None:
    """Close the connection under an association: its reader, however stuck, sees the end of the stream."""
    connection = assoc.dul.socket
    raw = connection.socket if connection else None
    if raw is not None:
        with suppress(OSError):
            raw.shutdown(socket.SHUT_RDWR)
