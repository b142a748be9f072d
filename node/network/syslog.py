"""Messages to a syslog server over TLS: RFC 5424 in the framing of RFC 5425, with the server's certificate seen to.

Syslog has no acknowledgement. A batch counts as taken when the server has closed its side after ours, without an error:
what breaks before is sent again by whoever calls.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from node.errors import PeerError, SettingsError

PRIORITY = 10 * 8 + 5  # RFC 5424 6.2.1: security messages, notice
MESSAGE_ID = "DICOM+RFC3881"  # PS3.15 A.6
BOM = "\ufeff"
SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """Where to, who vouches for it (None: the public authorities), and what we show it."""

    host: str
    port: int
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def framed(text: str, *, host: str, now: float) -> bytes:
    """One message with its length in front (RFC 5425 4.3)."""
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = f"<{PRIORITY}>1 {at} {host} overread {os.getpid()} {MESSAGE_ID} - "
    message = (head + BOM + text).encode()
    return b"%d " % len(message) + message


def send(server: Server, texts: Iterable[str], *, now: float) -> None:
    """Send a batch on a connection of its own.

    Raises:
        PeerError: it is not known to have arrived.
        SettingsError: a certificate's file cannot be used.
    """
    context = _context(server)
    host = socket.gethostname() or "-"
    data = b"".join(framed(text, host=host, now=now) for text in texts)
    try:
        with socket.create_connection((server.host, server.port), SECONDS) as plain:
            plain.settimeout(SECONDS)
            with context.wrap_socket(plain, server_hostname=server.host) as secure:
                secure.sendall(data)
                _finish(secure)
    except (OSError, ValueError) as error:
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise PeerError(f"the syslog server {server} did not take it: {said}") from None


def _finish(secure: ssl.SSLSocket) -> None:
    """Say that we are done and wait for the other side: a server that answers has read what came before."""
    try:
        secure.unwrap()
    except ssl.SSLEOFError:
        return  # closed without a word, which many do
    except ssl.SSLError as error:
        if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
            raise


def _context(server: Server) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=server.authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if server.certificate and server.key:
            context.load_cert_chain(server.certificate, server.key, password="")
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise SettingsError(f"[audit] authorities, certificate, key: PEM files are needed: {said}") from None
    return context
