"""TLS in both directions: who we are, whom we believe, and nothing weaker than the Standard's profile.

Both sides show a certificate. The profile is BCP 195 RFC 8996, 9325 (PS3.15 B.12), which does not downgrade: TLS 1.3,
or 1.2 with ephemeral keys and authenticated encryption. Decides nothing about AE titles.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from node.errors import SettingsError

log = logging.getLogger(__name__)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"
"""For TLS 1.2; those of TLS 1.3 are all good enough. With Python's own limits DHE has 2,048 bits or more."""

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Files:
    """PEM files: our certificate (and those between it and its authority), its key, and who vouches for peers, which
    may be their own certificates where they signed them themselves."""

    certificate: Path
    key: Path
    authorities: Path

    @property
    def all(self) -> tuple[Path, Path, Path]:
        return self.certificate, self.key, self.authorities


class Identity:
    """What this node shows and believes. Files that were replaced are taken up by the next connection; when they do
    not fit each other (they may be half replaced), what was read before stays in use and a line is logged.

    Raises:
        SettingsError: on creation, naming the file that cannot be used.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stamp = _stamp(files)
        self._server, self._client, self._pinned = _contexts(files)

    def server(self) -> ssl.SSLContext:
        """For connections that we accept: the peer must show a certificate that we believe."""
        self._fresh()
        return self._server

    def client(self, *, pinned: bool) -> ssl.SSLContext:
        """For connections that we make. The certificate must be for the host's name, except of a peer that is
        `pinned` to one certificate, which the caller compares."""
        self._fresh()
        return self._pinned if pinned else self._client

    def _fresh(self) -> None:
        with self._lock:
            try:
                stamp = _stamp(self._files)
            except SettingsError:
                return  # in the midst of being replaced
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._server, self._client, self._pinned = _contexts(self._files)
                log.info("tls.reloaded certificate=%s", fingerprint_of(self._files.certificate))
            except SettingsError as error:
                log.error("tls.not-reloaded reason=%r", str(error))


def fingerprint(der: bytes | None) -> str:
    """SHA-256 of a certificate in DER, as 64 hexadecimal digits; "" for none."""
    return hashlib.sha256(der).hexdigest() if der else ""


def fingerprint_of(path: Path) -> str:
    """Of the first certificate in a PEM file.

    Raises:
        SettingsError: there is none.
    """
    return _certificates(path)[0].fingerprint(hashes.SHA256()).hex()


def shown_by(connection: Any) -> str:
    """The fingerprint of the certificate that the other side of a connection has shown; "" in plain."""
    return fingerprint(connection.getpeercert(binary_form=True)) if isinstance(connection, ssl.SSLSocket) else ""


def days_left(path: Path, *, now: datetime | None = None) -> list[float]:
    """Until each certificate of a PEM file expires; negative when it has.

    Raises:
        SettingsError: it holds no certificate.
    """
    at = now or datetime.now(UTC)
    return [(c.not_valid_after_utc - at).total_seconds() / 86400 for c in _certificates(path)]


def _contexts(files: Files) -> tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]:
    server = _context(files, ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    client, pinned = _context(files, ssl.PROTOCOL_TLS_CLIENT), _context(files, ssl.PROTOCOL_TLS_CLIENT)
    pinned.check_hostname = False
    return server, client, pinned


def profile(protocol: int) -> ssl.SSLContext:
    """What is agreed on at the least, before it is known who we are and whom we believe."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _context(files: Files, protocol: int) -> ssl.SSLContext:
    context = profile(protocol)
    try:
        # without a password for the key OpenSSL would ask for one on the terminal
        context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"[tls] certificate = {files.certificate}, key = {files.key}: a certificate and its own key without a "
            f"password, both in PEM form, are needed: {_words(error)}"
        ) from None
    try:
        context.load_verify_locations(files.authorities)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"[tls] authorities = {files.authorities}: certificates in PEM form are needed: {_words(error)}"
        ) from None
    return context


def _words(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: no certificate in PEM form: {error}") from None


def _stamp(files: Files) -> Stamp:
    try:
        found = [path.stat() for path in files.all]
    except OSError as error:
        raise SettingsError(f"[tls] {error.filename}: {error.strerror}") from None
    return tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in found)
