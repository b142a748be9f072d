"""Streaming receive: the data set of a C-STORE goes from the connection's buffer straight to its file, hashed on the
way, and the answer leaves from the same thread.

Everything else stays pynetdicom's: negotiation, every other message, odd C-STOREs too. Whatever is not exactly one
whole C-STORE-RQ command in the first PDV of a PDU takes pynetdicom's path unchanged.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import pynetdicom
from blake3 import blake3
from pynetdicom import association, dimse, transport
from pynetdicom.dul import DULServiceProvider
from pynetdicom.sop_class import StorageCommitmentPushModel

from node.network.guard import HEADER, P_DATA, GuardedSocket
from node.network.incoming import Status
from node.network.message import C_STORE_RQ, COMMAND, LAST, NO_DATA_SET, PDV, Command, file_meta, parsed, response
from node.network.reactor import EventDUL

LONGEST_COMMAND = 4096
LONGEST_MESSAGE = 65536
LONGEST_COMMITMENT = 4 * 1024**2
"""A request for commitment names each instance: room for some 25,000 of them."""
LEAST_PDU = 1024
"""An answer fits in one PDU of this length; a peer that takes less is answered by pynetdicom, in several."""
UID_LENGTH = 64
KNOWN = "3.0."
"""The pynetdicom whose inner ways these overrides were made for."""


class Sink:
    """One instance on its way into a file of `folder`, which is there before it begins.

    `failed` once it could not be written or grew beyond `limit` bytes; what comes after that is taken and dropped, so
    that the sender gets his answer.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.path = folder / f"incoming-{token_hex(8)}.part"
        self.failed: OSError | None = None
        self.too_long = False
        self._left = limit
        self._hasher = blake3()
        self._fd = -1
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._fail(error)

    def begin(self, command: Command) -> None:
        if self._fd >= 0:
            try:
                _write(self._fd, file_meta(command))
            except OSError as error:
                self._fail(error)

    @property
    def digest(self) -> str:
        """BLAKE3 of the data set, as `node.storage.spool.digest_of` computes it."""
        return self._hasher.hexdigest()

    def write(self, piece: memoryview) -> None:
        if self._fd < 0:
            return
        self._left -= len(piece)
        if self._left < 0:
            self.too_long = True
            self.discard()
            return
        try:
            _write(self._fd, piece)
        except OSError as error:
            self._fail(error)
        else:
            self._hasher.update(piece)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)
            except OSError as error:  # a network file system may say only here that it is full
                self._fail(error)

    def discard(self) -> None:
        """Close and delete, unless somebody took the file away."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _fail(self, error: OSError) -> None:
        self.failed = error
        self.discard()


@dataclass(frozen=True)
class Desk:
    """Where instances are received: into files of `folder`, at most `limit` bytes each; `answer` says the status, and
    may take the file away."""

    folder: Path
    limit: int
    answer: Callable[[Any, Command, Sink], Status]


class StreamingDUL(EventDUL):
    """The upper layer of one accepted association, which receives C-STOREs itself."""

    def __init__(self, assoc: Any, desk: Desk) -> None:
        super().__init__(assoc)
        self._desk = desk
        self._command: Command | None = None
        self._sink: Sink | None = None
        self._next: Sink | None = None

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.assoc.dimse.message = None  # it may be large, and hang in a circle
            self._drop_next()
            if self._sink:
                self._sink.discard()

    def _read_pdu_data(self) -> None:
        """Receive one instance after another for as long as nothing else comes."""
        ours = self._streams()
        while ours and self._read_streamed():
            if not (self._streams() and self._more()):
                self._drop_next()
                return
            self._idle_timer.restart()
        self._drop_next()
        if self._hoards():
            self.event_queue.put("Evt19")
            return
        super()._read_pdu_data()

    def _more(self) -> bool:
        """Wait for the next PDU; the file for the next instance is made while its sender still reads it."""
        if not (self._sink or self._next):
            made = Sink(self._desk.folder, self._desk.limit)
            self._next = None if made.failed else made
        return self._wait()

    def _drop_next(self) -> None:
        if self._next:
            self._next.discard()
            self._next = None

    def _hoards(self) -> bool:
        """Whether the message that pynetdicom collects in memory is longer than any that we answer."""
        message = self.assoc.dimse.message
        if message is None:
            return False
        accepted = self.assoc._accepted_cx.get(message.context_id)
        commitment = accepted is not None and accepted.abstract_syntax == StorageCommitmentPushModel
        parts = (message.encoded_command_set, message.data_set)
        held = sum(part.tell() for part in parts if part is not None)
        return bool(held > (LONGEST_COMMITMENT if commitment else LONGEST_MESSAGE))

    def _streams(self) -> bool:
        return bool(
            self.state_machine.current_state == "Sta6"
            and not self.event_queue.queue
            and not self.to_provider_queue.queue
            and self.assoc.dimse.message is None
            and not self._kill_thread
        )

    def _read_streamed(self) -> bool:
        """Read one PDU if it is ours; otherwise leave it where it is."""
        connection: GuardedSocket = self.socket
        try:
            kind, length = connection.begin()
            if kind != P_DATA or (self._sink is None and not self._starts(connection, length)):
                return False
            connection.take(HEADER)
            while length:
                length -= self._fragment(connection, length)
        except _Malformed:
            self.event_queue.put("Evt19")
        except OSError:
            self.event_queue.put("Evt17")
        return True

    def _starts(self, connection: GuardedSocket, length: int) -> bool:
        """Whether this PDU begins with a whole C-STORE-RQ that asks for nothing unusual."""
        if length < PDV:
            return False
        size, context, control = _pdv(connection.peek(PDV))
        if control & 3 != COMMAND | LAST or not 0 < size <= min(LONGEST_COMMAND, length - PDV):
            return False
        self._command = self._understood(context, connection.peek(size, skip=HEADER + PDV))
        return self._command is not None

    def _understood(self, context: int, data: bytes) -> Command | None:
        accepted = self.assoc._accepted_cx.get(context)
        if accepted is None or 0 < self.assoc.requestor.maximum_length < LEAST_PDU:
            return None
        try:
            elements = parsed(data)
            numbers = [struct.unpack("<H", elements[element])[0] for element in (0x0100, 0x0110, 0x0800)]
            uids = [elements[element].rstrip(b"\0 ").decode("ascii") for element in (0x0002, 0x1000)]
        except (struct.error, KeyError, ValueError):
            return None
        kind, message_id, data_set = numbers
        if kind != C_STORE_RQ or data_set == NO_DATA_SET or uids[0] != accepted.abstract_syntax:
            return None
        if not all(0 < len(uid) <= UID_LENGTH for uid in uids):
            return None
        return Command(context, message_id, uids[0], uids[1], str(accepted.transfer_syntax[0]))

    def _fragment(self, connection: GuardedSocket, left: int) -> int:
        """Take one PDV; gives its length with what stands before it."""
        if left < PDV or self._command is None:
            raise _Malformed
        size, context, control = _pdv(connection.take(PDV))
        if not 0 <= size <= left - PDV or context != self._command.context:
            raise _Malformed
        if control & COMMAND:
            if self._sink is not None:
                raise _Malformed  # a command within a data set
            connection.take(size)
            self._sink, self._next = self._next or Sink(self._desk.folder, self._desk.limit), None
            self._sink.begin(self._command)
            return PDV + size
        if self._sink is None:
            raise _Malformed
        rest = size
        while rest:
            piece = connection.piece(rest)
            self._sink.write(piece)
            rest -= len(piece)
        if control & LAST:
            if left > PDV + size:
                raise _Malformed  # one message at a time: no asynchronous operations were negotiated
            self._finish()
        return PDV + size

    def _finish(self) -> None:
        assert self._sink and self._command
        sink, command = self._sink, self._command
        sink.close()
        # our owner's time is not the peer's silence
        self._idle_timer.stop()
        try:
            status = self._desk.answer(self.assoc, command, sink)
        finally:
            self._sink = self._command = None
            sink.discard()
            self._idle_timer.start()
        self.socket.send(response(command, status))


class _Malformed(Exception):
    """What came is no P-DATA of the message that was begun."""


def _pdv(header: bytes) -> tuple[int, int, int]:
    """Bytes of the fragment itself, context, control (PS3.8 9.3.5.1, E.2)."""
    size, context, control = struct.unpack(">LBB", header)
    return int(size) - 2, int(context), int(control)


def supported() -> str:
    """ "", or what this pynetdicom lacks of that which is replaced here; then its own path is used."""
    needed = {
        DULServiceProvider: ("_read_pdu_data", "_is_transport_event", "run_reactor", "send_pdu", "kill_dul"),
        association.Association: ("set_socket", "run_reactor", "_run_reactor"),
        dimse.DIMSEServiceProvider: ("receive_primitive", "get_msg"),
        transport.RequestHandler: ("_create_association",),
        transport.AssociationSocket: ("recv", "send", "ready", "close"),
    }
    lacking = [f"{o.__name__}.{name}" for o, names in needed.items() for name in names if not hasattr(o, name)]
    if not pynetdicom.__version__.startswith(KNOWN):
        lacking.append(f"version {KNOWN}* (this is {pynetdicom.__version__})")
    return ", ".join(lacking)


def _write(fd: int, data: bytes | memoryview) -> None:
    done = os.write(fd, data)
    while done < len(data):  # a signal, or a disk that is about to be full
        done += os.write(fd, data[done:])
