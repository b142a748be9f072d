"""A C-STORE as bytes: its command as it was asked, the answer, and the head of the file that its data set goes into.

Knows no connection and no file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from node.network.guard import P_DATA
from node.network.incoming import Status
from node.network.stack import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

PDV = 6
"""Bytes before a fragment: length, context, control (PS3.8 Tables 9-23 and E.2-1)."""
COMMAND, LAST = 1, 2
C_STORE_RQ, NO_DATA_SET = 0x0001, 0x0101


@dataclass(frozen=True)
class Command:
    """A C-STORE-RQ (PS3.7 Table 9.3-1) and the presentation context that it came in."""

    context: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def parsed(data: bytes) -> dict[int, bytes]:
    """The elements of a command set, implicit VR little endian (PS3.7 6.3.1), by element number.

    Raises:
        ValueError: another group, or a length beyond the end.
    """
    found = {}
    at = 0
    while at < len(data):
        group, element, size = struct.unpack_from("<HHL", data, at)
        at += 8
        if group or at + size > len(data):
            raise ValueError("no command set")
        found[element] = data[at : at + size]
        at += size
    return found


def response(command: Command, status: Status) -> bytes:
    """The C-STORE-RSP (PS3.7 Table 9.3-2) as one P-DATA PDU."""
    body = _element(0x0002, _padded(command.sop_class_uid))
    body += _element(0x0100, struct.pack("<H", C_STORE_RQ | 0x8000))
    body += _element(0x0120, struct.pack("<H", command.message_id))
    body += _element(0x0800, struct.pack("<H", NO_DATA_SET))
    body += _element(0x0900, struct.pack("<H", status.code))
    if status.comment:
        body += _element(0x0902, _padded(status.as_lo, b" "))
    body += _element(0x1000, _padded(command.sop_instance_uid))
    body = _element(0x0000, struct.pack("<L", len(body))) + body
    return struct.pack(">BxLLBB", P_DATA, len(body) + PDV, len(body) + 2, command.context, COMMAND | LAST) + body


def file_meta(command: Command) -> bytes:
    """Preamble, prefix and File Meta Information (PS3.10 Table 7.1-1)."""
    group = struct.pack("<HH2sxxL", 2, 1, b"OB", 2) + b"\0\1"
    for element, uid in (
        (0x0002, command.sop_class_uid),
        (0x0003, command.sop_instance_uid),
        (0x0010, command.transfer_syntax_uid),
        (0x0012, IMPLEMENTATION_CLASS_UID),
    ):
        value = _padded(uid)
        group += struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value
    name = _padded(IMPLEMENTATION_VERSION_NAME, b" ")
    group += struct.pack("<HH2sH", 2, 0x0013, b"SH", len(name)) + name
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(group)) + group


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def _padded(text: str, filler: bytes = b"\0") -> bytes:
    value = text.encode("ascii")
    return value + filler * (len(value) % 2)
