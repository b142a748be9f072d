"""The way to a peer before any DICOM: its name, its port, the TLS that it speaks. Each step raises what went wrong.

Nothing here blocks for much longer than its timeout, a name service that hangs included.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from node.network.stack import cut
from node.network.tls import fingerprint

MOST_ADDRESSES = 4
"""Of one name; each is waited for."""


@dataclass(frozen=True)
class Shown:
    """What a TLS handshake agreed on, and the certificate that the other side showed."""

    version: str
    cipher: str
    fingerprint: str
    days_left: float


def addresses(host: str, port: int, timeout: float) -> list[str]:
    """The addresses of a host, by this machine's name service.

    Raises:
        socket.gaierror: it has none.
        TimeoutError: the name service does not answer.
    """
    found: list[str] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(dict.fromkeys(str(info[4][0]) for info in infos))
        except OSError as error:
            failed.append(error)

    # getaddrinfo knows no timeout: a thread that hangs in it is left behind
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    if failed:
        raise failed[0]
    if thread.is_alive():
        raise TimeoutError
    return found[:MOST_ADDRESSES]


def connect(hosts: Sequence[str], port: int, timeout: float) -> float:
    """Open and close a connection to the first address that takes one; the seconds that it took.

    Raises:
        OSError: what the last of them said.
    """
    failed: OSError = TimeoutError()
    for host in hosts:
        started = time.monotonic()
        try:
            socket.create_connection((host, port), timeout).close()
            return time.monotonic() - started
        except OSError as error:
            failed = error
    raise failed


def shake_hands(host: str, port: int, context: ssl.SSLContext, timeout: float) -> Shown:
    """Agree on TLS, look at the certificate, and hang up.

    Raises:
        OSError: ssl.SSLError is one: it was not agreed on, or the certificate is not believed.
    """
    with socket.create_connection((host, port), timeout) as plain:
        # The socket's own timeout is for one wait, and whoever drips makes many
        timer = threading.Timer(2 * timeout, cut, [plain])
        timer.daemon = True
        timer.start()
        try:
            secure = context.wrap_socket(plain, server_hostname=host)
        finally:
            timer.cancel()
        try:
            der = secure.getpeercert(binary_form=True) or b""
            ends = x509.load_der_x509_certificate(der).not_valid_after_utc
            days = (ends - datetime.now(UTC)).total_seconds() / 86400
            cipher = secure.cipher()
            return Shown(secure.version() or "", cipher[0] if cipher else "", fingerprint(der), days)
        finally:
            with contextlib.suppress(OSError):
                secure.close()
