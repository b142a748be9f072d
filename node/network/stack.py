"""pynetdicom as this package uses it: its process-wide switches, our implementation's name, socket options.

pynetdicom keeps some choices in module globals; they are made here, once, and nowhere else. Nothing here opens a
connection or knows what is sent over it.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import SimpleNamespace
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, _config, dimse_messages, timer

from node import __version__

# PS3.7 D.3.3.2: the same UID stands in the file meta information of every result (node/results/uids.py).
IMPLEMENTATION_CLASS_UID = UID("2.25.259135236868611966261715014741616583299")
IMPLEMENTATION_VERSION_NAME = f"OVERREAD_{__version__}"[:16]

# DCMTK sends at most 128 KiB per PDU, so more gains nothing; 0 (no limit) would let a peer make us buffer any length.
MAXIMUM_PDU = 131072

# A data set goes straight between file and socket, unparsed: less memory, and its bytes stay as they are.
_config.STORE_RECV_CHUNKED_DATASET = True
_config.STORE_SEND_CHUNKED_DATASET = True
# Identifiers hold names of patients.
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
# Even with a silent logger these handlers format every message and PDU.
_config.LOG_HANDLER_LEVEL = "none"
# Its timers go by the clock: set forward, it would end every association, set back, none that fell silent.
timer.time = SimpleNamespace(time=time.monotonic)
# It calls every refused connection an error; what became of it is said by our own lines
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


log = logging.getLogger(__name__)


def entity(ae_title: str) -> Any:
    """A pynetdicom application entity under our implementation's name."""
    ae = AE(ae_title)
    ae.maximum_pdu_size = MAXIMUM_PDU
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return ae


class TemporaryFiles:
    """The files that the associations of one application entity receive into: made in `folder`, mode 0600.

    pynetdicom would make them in the folder that is global to the process, which is the wrong file system for a
    spool, and forgets the last one of an association that dies within an instance. None grows beyond `limit` bytes.
    """

    def __init__(self, ae: Any, folder: Path, *, limit: float = math.inf) -> None:
        if not hasattr(dimse_messages, "NamedTemporaryFile"):
            raise RuntimeError("this pynetdicom receives into files in another way: overread needs pynetdicom 3.0")
        self._folder = folder
        self._limit = limit
        self._open: dict[Any, list[Any]] = {}
        _places[ae] = self
        dimse_messages.NamedTemporaryFile = _open_file

    def open(self, assoc: Any) -> Any:
        # Stays open beyond this call: pynetdicom writes and closes it.
        opened = NamedTemporaryFile(  # noqa: SIM115
            dir=self._folder, prefix="incoming-", suffix=".part", mode="wb", delete=False
        )
        _bound(opened, self._limit)
        # the last one is kept although it is closed: its owner may still ask about it
        self._open[assoc] = [*self._open.get(assoc, [])[-1:], opened]
        return opened

    def too_long(self, path: Path) -> bool:
        """Whether more came for this file than it may hold."""
        return any(file.too_long for files in list(self._open.values()) for file in files if file.name == str(path))

    def discard(self, assoc: Any) -> None:
        """Delete what an association that has ended left behind."""
        for file in self._open.pop(assoc, []):
            file.close()
            Path(file.name).unlink(missing_ok=True)


def _bound(opened: Any, limit: float) -> None:
    """Let a file take `limit` bytes; what comes after them is taken and dropped, and so is the rest."""
    write, left = opened.write, limit

    def bounded(data: bytes) -> int:
        nonlocal left
        left -= len(data)
        if left >= 0:
            return int(write(data))
        if not opened.too_long:
            opened.too_long = True
            opened.truncate(0)
        return len(data)

    opened.too_long = False
    opened.write = bounded


_places: weakref.WeakKeyDictionary[Any, TemporaryFiles] = weakref.WeakKeyDictionary()


def _open_file(**options: Any) -> Any:
    # Called in the association's reader thread, the only trace of the association in this call.
    assoc = getattr(threading.current_thread(), "assoc", None)
    place = _places.get(assoc.ae) if assoc is not None else None
    return place.open(assoc) if place else NamedTemporaryFile(**options)


def keep_answers_apart(assoc: Any) -> None:
    """Who sends a request gets its answer, and the association's own thread gets what the peer asks.

    pynetdicom gives both whatever comes next: its thread may take an answer away in the moment before it pauses (once
    in some thousand requests on a busy machine), and a report that overtakes the answer to its request is taken for it.
    """
    dimse = assoc.dimse
    if dimse.get_msg != type(dimse).get_msg.__get__(dimse):
        return
    take, waiting = dimse.get_msg, dimse.msg_queue

    def get_msg(block: bool = False) -> Any:
        if not block:
            with waiting.mutex:
                message = waiting.queue[0][1] if waiting.queue else None
            return take() if message is not None and message.is_valid_request else (None, None)
        context, message = take(True)
        while message is not None and message.is_valid_request:
            assoc._serve_request(message, context)
            context, message = take(True)
        return context, message

    dimse.get_msg = get_msg


def give_up(assoc: Any) -> None:
    """Abort an association on which an answer is waited for: pynetdicom tells the waiting thread only of the peer's
    aborts."""
    assoc.abort()
    assoc.dimse.msg_queue.put((None, None))


def tune(sock: socket.socket, timeout: float) -> None:
    """Set what every DICOM socket needs: no Nagle delay, and an end to waiting for a peer that fell silent.

    The timeout (seconds) holds for each single read and write, and for bytes that the peer does not acknowledge.
    """
    sock.settimeout(timeout)
    # pynetdicom writes command and data set separately: with Nagle's algorithm the second waits 40 ms for an
    # acknowledgement that the peer delays.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000))
    acknowledge_at_once(sock)


def cut(sock: socket.socket) -> None:
    """End both directions at once; whoever reads sees the end of the stream. Not by SSLSocket's own shutdown: that
    forgets its keys first, and another thread that writes at this moment would write in plain."""
    with suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def on_data_sent(event: Any) -> None:
    """Handler of EVT_DATA_SENT for associations that we ask for: the answer is acknowledged while it still arrives.

    A peer with Nagle's algorithm (DCMTK and Orthanc as packaged) writes a PDU in two parts and waits for the first
    to be acknowledged, which we would delay by 40 ms. Linux forgets the option whenever we send.
    """
    connection = event.assoc.dul.socket
    if connection and connection.socket:
        acknowledge_at_once(connection.socket)


def acknowledge_at_once(sock: socket.socket) -> None:
    """A peer with Nagle's algorithm holds back the rest of what it writes until the first part is acknowledged, which
    we would delay by 40 ms. Linux forgets the option: it is set again after each read, and when we have sent."""
    if hasattr(socket, "TCP_QUICKACK"):
        with suppress(OSError):  # the other thread may just have closed it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
