"""Who stands behind a TCP balancer: the header with which it begins each connection (the PROXY protocol, versions 1 and
2, sections 2.1 and 2.2 of its specification).

The header is read to its last byte and no further: what follows is the client's, in plain or in TLS.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time

V1, V2 = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
V1_LONGEST = 107
V2_LONGEST = 4096
"""Addresses take 216 bytes at most; the rest would be what a balancer adds about its own connection."""
LOCAL, PROXY = 0x20, 0x21
FAMILIES = {0x11: ("!4s4sHH", 12), 0x21: ("!16s16sHH", 36)}
"""TCP over IP version 4 and 6: how the addresses are packed, and in how many bytes."""

Client = tuple[str, int]


class NoHeader(Exception):
    """A connection from a balancer does not begin as it must; the message says how it begins."""


def read_client(connection: socket.socket, seconds: float) -> Client | None:
    """Read the header that a balancer puts before a connection.

    Returns:
        Address and port of the client; None where the balancer speaks for itself, as it does to see whether we live.

    Raises:
        NoHeader: there is none, or it is not one; empty: the connection ended before anything came.
        OSError: the connection broke.
    """
    until = time.monotonic() + seconds
    patience = connection.gettimeout()
    try:
        began = _exactly(connection, len(V2), until)
        if began == V2:
            return _second(connection, until)
        if began.startswith(V1):
            return _first(connection, began, until)
        raise NoHeader("it begins with something else")
    finally:
        connection.settimeout(patience)


def _exactly(connection: socket.socket, count: int, until: float) -> bytes:
    """So many bytes from below TLS, which has not begun: what is read here it never sees."""
    data = b""
    while len(data) < count:
        connection.settimeout(max(until - time.monotonic(), 0.001))
        try:
            more = socket.socket.recv(connection, count - len(data))
        except TimeoutError:
            raise NoHeader(f"only {len(data)} bytes came in time") from None
        if not more:
            raise NoHeader(f"it ended after {len(data)} bytes" if data else "")
        data += more
    return data


def _first(connection: socket.socket, line: bytes, until: float) -> Client | None:
    while not line.endswith(b"\r\n"):
        if len(line) >= V1_LONGEST:
            raise NoHeader(f"a line of more than {V1_LONGEST} bytes")
        line += _exactly(connection, 1, until)
    said = line[: -len(b"\r\n")].decode("ascii", "replace").split(" ")
    if said[1:2] == ["UNKNOWN"]:
        return None
    if len(said) != 6 or said[1] not in ("TCP4", "TCP6"):
        raise NoHeader("a line that is not PROXY TCP4 or TCP6 with two addresses and two ports")
    try:
        client, port = ipaddress.ip_address(said[2]), int(said[4])
    except ValueError:
        raise NoHeader("a line with no address or no port in it") from None
    if client.version != int(said[1][-1]) or not 0 <= port <= 65535:
        raise NoHeader("a line with an address or port that cannot be")
    return _plain(client), port


def _second(connection: socket.socket, until: float) -> Client | None:
    command, family, length = struct.unpack("!BBH", _exactly(connection, 4, until))
    if length > V2_LONGEST:
        raise NoHeader(f"{length} bytes, more than {V2_LONGEST}")
    rest = _exactly(connection, length, until) if length else b""
    if command == LOCAL:
        return None
    if command != PROXY:
        raise NoHeader(f"version and command {command:#04x}")
    if family not in FAMILIES:
        raise NoHeader(f"family {family:#04x}: only TCP over IP can be told apart here")
    form, size = FAMILIES[family]
    if length < size:
        raise NoHeader(f"{length} bytes, too few for its addresses")
    source, _, port, _ = struct.unpack(form, rest[:size])
    return _plain(ipaddress.ip_address(source)), int(port)


def _plain(client: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """As the rules for networks know it: an address of version 4 in the clothes of version 6 is one of version 4."""
    mapped = client.ipv4_mapped if isinstance(client, ipaddress.IPv6Address) else None
    return str(mapped or client)
