"""What a peer may do to a connection before anybody knows who it is: how long a PDU may take, how long it may be, how
much may come, and how many connections one host may hold. Knows no DICOM but the six bytes before each PDU.

`GuardedSocket` is the one reader: pynetdicom's own path (`recv`) and the streaming one (`begin`, `take`, `piece`) both
read from its buffer, so that no limit holds on one of them only.
"""

from __future__ import annotations

import logging
import math
import select
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from pynetdicom import evt
from pynetdicom.transport import AssociationSocket

from node.network.stack import acknowledge_at_once, cut

log = logging.getLogger(__name__)

READ_AHEAD = 256 * 1024
"""Twice the longest PDU that we announce: one is read while the kernel takes the next."""
HEADER = 6
P_DATA, REQUESTS, SHORT_ONES = 4, (1, 2), (3, 5, 6, 7)
"""PDU types (PS3.8 9.3): data; association request and acceptance; rejection, release request and reply, abort."""
SHORT = 64
"""Bytes that one of the short ones may have; four are right."""
UNREAD = 2**32
AWAITING_REQUEST = "Sta2"  # PS3.8 Table 9-2


class Refused(OSError):
    """A connection broke a limit; the message says which. It is closed without an answer, and a line is logged."""


@dataclass(frozen=True)
class Limits:
    """`pdu_bytes`: the longest P-DATA that is read, `request_bytes`: the longest association request or acceptance;
    `pdu_seconds`: from a PDU's first byte to its last; `association_bytes`: in all, 0 for no limit."""

    pdu_bytes: int = 131072
    request_bytes: int = 262144
    pdu_seconds: float = 30.0
    association_bytes: int = 0

    def length(self, kind: int) -> int:
        """How many bytes a PDU of this type may announce (PS3.8 Table 9-11 and following)."""
        if kind == P_DATA:
            # some count the six bytes before a PDU to its length, some do not
            return self.pdu_bytes + HEADER
        if kind in REQUESTS:
            return self.request_bytes
        # pynetdicom reads nothing behind the header of a type that it does not know
        return SHORT if kind in SHORT_ONES else UNREAD


class GuardedSocket(AssociationSocket):  # type: ignore[misc]  # pynetdicom is untyped here
    """An accepted connection that is read within limits, through one buffer.

    The socket's own timeout must be `pdu_seconds` at the most: it bounds the single read and write, the deadline is
    looked at in between. What `piece` gave is valid until the next call.
    """

    def __init__(self, assoc: Any, client_socket: socket.socket, limits: Limits) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._limits = limits
        self._view = memoryview(bytearray(READ_AHEAD))
        self._start = self._end = 0
        """Where the bytes lie that were read and not taken."""
        self._begun = False
        """A PDU's header is there that nobody took."""
        self._left = 0
        self._deadline = math.inf
        self._received = 0
        self._poll = select.poll()
        self._poll.register(client_socket, select.POLLIN)

    def fileno(self) -> int:
        """-1 when it is closed."""
        return self.socket.fileno() if self.socket else -1

    @property
    def buffered(self) -> bool:
        """Whether there is something to read that the kernel no longer knows of."""
        if self._end > self._start:
            return True
        return isinstance(self.socket, ssl.SSLSocket) and bool(self.socket.pending())

    @property
    def ready(self) -> bool:
        """Whether anything can be read at once; not by select(), which knows no more than 1,024 files."""
        if self.socket is None or not self._is_connected:
            return False
        try:
            return self.buffered or bool(self._poll.poll(0))
        except OSError:
            self.event_queue.put("Evt17")
            return False

    def begin(self) -> tuple[int, int]:
        """The next PDU's type and length; its header is not taken yet.

        Raises:
            Refused: it is longer than its type may be, came too slowly, or the association has sent enough.
            OSError: the stream ended.
        """
        if not self._begun:
            self._deadline = time.monotonic() + self._limits.pdu_seconds
            self._have(HEADER)
        kind, length = struct.unpack_from(">BxL", self._view, self._start)
        if not self._begun:
            if length > self._limits.length(kind):
                self._refuse(f"pdu-too-long type={kind} bytes={length} limit={self._limits.length(kind)}")
            self._received += HEADER + length
            if 0 < self._limits.association_bytes < self._received:
                self._refuse(f"association-too-long limit={self._limits.association_bytes}")
            self._begun = True
        return kind, length

    def peek(self, count: int, *, skip: int = HEADER) -> bytes:
        """`count` bytes from `skip` bytes behind the beginning of the current PDU on, not taken.

        Raises:
            OSError: as `begin`.
        """
        self._have(skip + count)
        return bytes(self._view[self._start + skip : self._start + skip + count])

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes.

        Raises:
            OSError: as `begin`.
        """
        self._have(count)
        found = bytes(self._view[self._start : self._start + count])
        self._took(count)
        return found

    def piece(self, most: int) -> memoryview:
        """Between 1 and `most` bytes of the current PDU.

        Raises:
            OSError: as `begin`.
        """
        if self._start == self._end:
            self._start = self._end = 0
            self._read()
        found = self._view[self._start : min(self._end, self._start + most)]
        self._took(len(found))
        return found

    def recv(self, nr_bytes: int) -> bytearray:
        """pynetdicom's own way to read: first a PDU's six bytes, then the rest of it."""
        found = bytearray()
        if nr_bytes and not self._left:
            self.begin()
            return found + self.take(HEADER)
        while len(found) < nr_bytes:
            found += self.piece(nr_bytes - len(found))
        return found

    def send(self, bytestream: bytes) -> None:
        """All bytes within the socket's timeout, or the connection counts as closed."""
        sock = self.socket
        try:
            if sock is None:
                raise OSError("closed")
            sock.sendall(bytestream)
            acknowledge_at_once(sock)
            evt.trigger(self.assoc, evt.EVT_DATA_SENT, {"data": bytestream})
        except OSError:
            self.event_queue.put("Evt17")

    def _took(self, count: int) -> None:
        if self._begun:  # the header is taken with the first bytes
            self._begun = False
            self._left = HEADER + struct.unpack_from(">L", self._view, self._start + 2)[0]
        self._start += count
        self._left -= count

    def _have(self, count: int) -> None:
        """Have `count` bytes in the buffer."""
        if len(self._view) - self._start < count:
            held = self._end - self._start
            self._view[:held] = self._view[self._start : self._end]
            self._start, self._end = 0, held
        while self._end - self._start < count:
            self._read()

    def _read(self) -> None:
        if self.socket is None:
            raise ConnectionError("closed")
        try:
            count = 0 if time.monotonic() > self._deadline else self.socket.recv_into(self._view[self._end :])
        except TimeoutError:
            count = 0
            self._deadline = -math.inf
        except OSError:  # reset, or no TLS any more
            self._over()
            raise
        if time.monotonic() > self._deadline:
            self._refuse(f"pdu-too-slow limit={self._limits.pdu_seconds:g}")
        if not count:
            self._over()
            raise ConnectionError("end of stream")
        self._end += count
        acknowledge_at_once(self.socket)

    def _refuse(self, rule: str) -> NoReturn:
        log.warning("connection.refused rule=%s address=%s", rule, self.assoc.requestor.address)
        self._over()
        raise Refused(rule)

    def _over(self) -> None:
        """Let both sides know at once: the peer, and our thread that may still wait for its association request."""
        if self.socket is not None:
            cut(self.socket)
        if self.assoc.dul.state_machine.current_state == AWAITING_REQUEST:
            self.assoc.dul.to_user_queue.put(None)  # as if its time were over


class Places:
    """How many connections may be open at once: in all, and of one host.

    `reserved` of them are kept for hosts that `known` knows, so that strangers cannot keep a configured peer out. A
    host that `relays` others may have as many as there are: each connection has the place of whom it is for in the end.
    """

    def __init__(
        self,
        *,
        total: int,
        per_host: int,
        reserved: int = 0,
        known: Callable[[str], bool] = lambda _: True,
        relays: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._total, self._per_host, self._reserved, self._known = total, per_host, reserved, known
        self._relays = relays
        self._open: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, host: str) -> str:
        """Take a place for a host; "", or the rule by which there is none."""
        relays = self._relays(host)
        stranger = not relays and not self._known(host)
        with self._lock:
            if self._open.total() >= self._total:
                return "connections"
            if stranger and self._strangers.total() >= self._total - self._reserved:
                return "connections-of-strangers"
            if not relays and self._open[host] >= self._per_host:
                return "connections-of-one-host"
            self._open[host] += 1
            self._strangers[host] += stranger
        return ""

    def give_back(self, host: str) -> None:
        with self._lock:
            self._open[host] -= 1
            self._strangers[host] = min(self._strangers[host], self._open[host])
            if not self._open[host]:
                del self._open[host], self._strangers[host]
