"""One HTTP connection to a service: who we are there, bounded in time, explained when it does not come about.

As `link` is to an association. It follows no redirect, believes no certificate without its authority, and takes nothing
from the environment (proxies, .netrc, authorities). Secrets are read anew for each request and stand in no error.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from node.errors import AssociationFailed, SettingsError
from node.network import stack
from node.network.secret import read_secret

CUT_SECONDS = 0.2
WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Credentials:
    """Who we are to the service: a user with a password, or a token, or nobody."""

    user: str = ""
    password_file: Path | None = None
    token_file: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.password_file or self.token_file)

    def sign(self, request: Any) -> Any:
        """Add the header that says so.

        Raises:
            SettingsError: a secret's file cannot be used.
        """
        if self.password_file:
            return HTTPBasicAuth(self.user.encode(), read_secret(self.password_file).encode())(request)
        if self.token_file:
            token = read_secret(self.token_file)
            if not token.isascii() or " " in token:
                raise SettingsError(f"{self.token_file}: a token is printable ASCII without spaces")
            request.headers["Authorization"] = f"Bearer {token}"
        return request


class _Signed(AuthBase):
    """Asked for each request, so that a secret that was changed is taken up."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def __call__(self, request: Any) -> Any:
        return self._credentials.sign(request)


class Connection(HTTPAdapter):
    """The one connection of a session, which can be cut while another thread waits for it."""

    def __init__(self) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._newest: Any = None
        self._socket: Any = None
        """The newest's, which http.client hides when the connection is not to be kept."""
        self._until = math.inf
        self.late = False

    def get_connection_with_tls_context(self, *arguments: Any, **more: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **more)
        kind = type(pool).ConnectionCls

        def connect(*a: Any, **k: Any) -> Any:
            self._newest = made = kind(*a, **k)
            dial = made.connect

            def connected() -> None:
                dial()
                self._socket = made.sock

            made.connect = connected
            return made

        pool.ConnectionCls = connect
        return pool

    def send(self, request: Any, *arguments: Any, **more: Any) -> Any:
        # dicomweb-client writes the host without its port, which is wrong for all ports but one
        request.headers.pop("Host", None)
        return super().send(request, *arguments, **more)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut the connection when the block takes longer; `late` then says so. A socket's own timeout is for one wait,
        and a peer that drips makes many."""
        done = threading.Event()
        self.late = False
        self._until = time.monotonic() + seconds

        def watch() -> None:
            while (left := self._until - time.monotonic()) > 0:
                if done.wait(min(left, WATCH_SECONDS)):
                    return
            self.late = True
            while True:
                for sock in filter(None, (getattr(self._newest, "sock", None), self._socket)):
                    stack.cut(sock)
                if done.wait(CUT_SECONDS):
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def allow(self, seconds: float) -> None:
        """The block may take so much longer: something came."""
        self._until += seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens in here is our time, not the peer's."""
        left, self._until = self._until - time.monotonic(), math.inf
        try:
            yield
        finally:
            self._until = time.monotonic() + left


def open_session(connection: Connection, credentials: Credentials, authorities: Path | None) -> requests.Session:
    """A session over one connection.

    Raises:
        SettingsError: a secret or the file of authorities cannot be used.
    """
    credentials.sign(requests.Request())
    if authorities:
        secure_context(authorities)
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    # The answer is read under a limit, by whoever asked
    session.stream = True
    session.auth = _Signed(credentials)
    session.verify = str(authorities) if authorities else True
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "Overread"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, connection)
    return session


def secure_context(authorities: Path | None) -> ssl.SSLContext:
    """What believes these authorities, or those of this machine.

    Raises:
        SettingsError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise SettingsError(f"{authorities}: no PEM file of authorities: {error.strerror or error}") from None


def failure(url: str, error: BaseException, *, late: bool) -> AssociationFailed:
    """Why there is no answer, and what to change."""
    if isinstance(error, requests.TooManyRedirects):
        advice = "correct url in this peer's settings here"
        return AssociationFailed(f"{url} leads to another place", advice=advice, permanent=True)
    silent = AssociationFailed(
        f"{url} does not answer in time",
        advice="correct url in this peer's settings here, open the way there (firewall, routing), or see whether the "
        "service hangs",
    )
    if late:
        return silent
    where = urlsplit(url)
    words = "no answer"
    for e in _chain(error):
        if isinstance(e, ssl.SSLCertVerificationError):
            return AssociationFailed(f"{url} is not believed ({e.verify_message})", advice=_remedy(e))
        if isinstance(e, ssl.SSLError):
            advice = "is that its port for https?"
            return AssociationFailed(f"{url}: TLS was not agreed on ({e.reason or e})", advice=advice)
        if isinstance(e, socket.gaierror):
            return AssociationFailed(
                f'the host name "{where.hostname}" is not known here ({e.strerror})',
                advice="correct url in this peer's settings here, or this machine's name service",
            )
        if isinstance(e, ConnectionRefusedError):
            advice = "start the service there, or correct url in the settings here"
            return AssociationFailed(f"nothing listens at {where.netloc}", advice=advice)
        if isinstance(e, TimeoutError | requests.Timeout):
            return silent
        words = getattr(e, "strerror", None) or words
    return AssociationFailed(f"{url} ended the connection ({words})")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _remedy(error: ssl.SSLCertVerificationError) -> str:
    # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL
    if error.verify_code == 10:
        return "its certificate must be renewed there"
    if error.verify_code in (62, 64):
        return "give the certificate's name in url here"
    return "give the file of its authority as authorities of this peer here"
