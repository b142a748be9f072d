"""An odd peer: sends the bytes that it is told to, and reads what comes back as PDUs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Any

from peers import SECONDARY_CAPTURE
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

P_DATA, ABORT = 4, 7
COMMAND, LAST = 1, 2
STORE, ECHO = 1, 3
"""Presentation context identifiers."""
INSTANCE = "1.2.3.4"


class Wire:
    """One connection. `read()` gives (type, body) or None at its end."""

    def __init__(self, port: int, *, timeout: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> tuple[int, bytes] | None:
        try:
            header = self._exactly(6)
            return (header[0], self._exactly(struct.unpack(">L", header[2:])[0])) if header else None
        except ConnectionError:
            return None

    def associate(self, *, maximum_length: int = 16382) -> None:
        self.send(association_request(maximum_length))
        answer = self.read()
        assert answer and answer[0] == 2, answer

    def status(self) -> int:
        """Of the next C-STORE response, in however many PDUs it comes."""
        command = b""
        while True:
            answer = self.read()
            assert answer and answer[0] == P_DATA, answer
            command += answer[1][6:]
            if answer[1][5] & LAST:
                break
        elements = {}
        at = 0
        while at < len(command):
            _, element, size = struct.unpack_from("<HHL", command, at)
            elements[element] = command[at + 8 : at + 8 + size]
            at += 8 + size
        assert elements[0x0100] == b"\x01\x80"
        return int(struct.unpack("<H", elements[0x0900])[0])

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            some = self.socket.recv(count - len(found))
            if not some:
                raise ConnectionError
            found += some
        return found


def association_request(maximum_length: int = 16382) -> bytes:
    """Asks for Secondary Capture and Verification, explicit little endian."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "ODD", "OVERREAD"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum_length
    implementation.implementation_class_uid = AE().implementation_class_uid
    request.user_information = [length, implementation]
    contexts: list[Any] = []
    for number, sop_class in ((STORE, SECONDARY_CAPTURE), (ECHO, Verification)):
        context = build_context(sop_class, [ExplicitVRLittleEndian])
        context.context_id = number
        contexts.append(context)
    request.presentation_context_definition_list = contexts
    return bytes(A_ASSOCIATE_RQ(request).encode())


def store_request(*, instance: str = INSTANCE, message_id: int = 7, more: dict[int, bytes] | None = None) -> bytes:
    """The command set of a C-STORE-RQ."""
    elements = {
        0x0002: _uid(SECONDARY_CAPTURE),
        0x0100: struct.pack("<H", 1),
        0x0110: struct.pack("<H", message_id),
        0x0700: struct.pack("<H", 0),
        0x0800: struct.pack("<H", 0),
        0x1000: _uid(instance),
    } | (more or {})
    body = b"".join(struct.pack("<HHL", 0, n, len(v)) + v for n, v in sorted(elements.items()))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def echo_with_data_set() -> bytes:
    """A C-ECHO-RQ that announces a data set, which none has."""
    uid = b"1.2.840.10008.1.1\0"
    elements = {0x0002: uid, 0x0100: b"\x30\0", 0x0110: b"\x01\0", 0x0800: b"\0\0"}
    body = b"".join(struct.pack("<HHL", 0, n, len(v)) + v for n, v in sorted(elements.items()))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def pdv(data: bytes, control: int, *, context: int = STORE) -> bytes:
    return struct.pack(">LBB", len(data) + 2, context, control) + data


def p_data(*pdvs: bytes) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BBL", P_DATA, 0, len(body)) + body


def in_pieces(data: bytes, size: int) -> Iterable[bytes]:
    """Fragments of a data set, the last one marked."""
    for at in range(0, len(data), size):
        yield pdv(data[at : at + size], LAST if at + size >= len(data) else 0)


def _uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)
