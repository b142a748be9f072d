"""Asking a service on the web: short answers in JSON, and long ones piece by piece, each bounded in time and length.

What both `wado` and `rest` stand on. Nothing is tried twice here but a connection that had been kept; what a refusal
means is its asker's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from node.errors import AssociationFailed, Refused, SettingsError
from node.network.sender import SLOWEST
from node.network.weblink import Connection, Credentials, failure, open_session

ANSWER_BYTES = 32 << 20
"""The longest answer in JSON that is read."""
CHUNK = 1 << 16
LONGEST_WAIT = 86400.0
"""Seconds: what a service says about asking again later is believed up to a day."""
PAGE = 100
"""Studies or instances in one answer; a service may give fewer."""
GONE = frozenset({404, 410})
BUSY = frozenset({408, 429, 503})
FOR_EVERYTHING = frozenset({401, 403}) | BUSY
"""What is answered to one question and holds for the next one too."""

_ADVICE = {
    401: "give user with password_file, or token_file, in this peer's settings here",
    403: "allow this node to query and to retrieve there",
    404: "it does not have it, or url in this peer's settings here is not the root of the service",
    405: "it does not offer this",
    406: "it cannot answer in the form that was asked for",
    408: "it will be tried again",
    410: "it does not have it any more",
    429: "it is busy; it will be tried again",
    503: "it is busy; it will be tried again",
}


@dataclass(frozen=True)
class Body:
    """A long answer, while it arrives. `framed`: its length was told, so that its end can be told from a lost rest."""

    code: int
    content_type: str
    framed: bool
    pieces: Iterator[bytes]


class Reader:
    """One service, over one connection that is kept; used by one thread at a time.

    `timeout` (seconds) bounds connecting and each silence; an answer may take twice that, and a long one as long as its
    bytes come at SLOWEST or faster. `what` is what should answer there, in words.

    Raises:
        SettingsError: a secret or the file of authorities cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        what: str,
        timeout: float,
        credentials: Credentials | None = None,
        authorities: Path | None = None,
    ) -> None:
        self.url = url
        self._what = what
        self._timeout = timeout
        self._credentials = credentials or Credentials()
        self._connection = Connection()
        self._session = open_session(self._connection, self._credentials, authorities)
        self._kept = False

    def ask(
        self, path: str, *, accept: str, params: Sequence[tuple[str, str]] = (), sent: Mapping[str, Any] | None = None
    ) -> Any:
        """An answer in JSON; None where it is empty (204). With `sent` it is a POST of that.

        Raises:
            Refused: another answer, with its code; the message says what to change, and on which side.
            AssociationFailed: there was no answer.
        """
        with self._answer(path, accept, params, sent) as response:
            try:
                content = response.raw.read(ANSWER_BYTES + 1, decode_content=True)
            except (OSError, HTTPError) as error:
                raise failure(self.url, error, late=self._connection.late) from None
            if response.status_code == 204:
                return None
            if len(content) > ANSWER_BYTES:
                text = f"{self.url} answers with more than {ANSWER_BYTES >> 20} MB at once: ask for less"
                raise Refused(text, response.status_code, permanent=True)
            said_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            response._content = content
            with suppress(ValueError):
                return response.json()
        text = (
            f"{self.url} answers with {said_type or 'nothing'}, not as {self._what}: correct url in this peer's "
            "settings here"
        )
        raise Refused(text, response.status_code, permanent=True)

    @contextmanager
    def stream(self, path: str, *, accept: str) -> Iterator[Body]:
        """A long answer. Its pieces raise AssociationFailed where they break off.

        Raises:
            Refused, AssociationFailed: as `ask`.
        """
        with self._answer(path, accept) as response:
            headers = response.headers
            framed = "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()
            yield Body(response.status_code, headers.get("Content-Type", ""), framed, self._pieces(response))

    def close(self) -> None:
        self._session.close()
        self._kept = False

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def _answer(
        self,
        path: str,
        accept: str,
        params: Sequence[tuple[str, str]] = (),
        sent: Mapping[str, Any] | None = None,
    ) -> Iterator[requests.Response]:
        with self._connection.within(2 * self._timeout):
            again, self._kept = self._kept, False
            try:
                response = self._request(path, accept, params, sent)
            except AssociationFailed as error:
                # The service may have ended the connection while it was kept
                if not again or error.permanent or self._connection.late:
                    raise
                response = self._request(path, accept, params, sent)
            self._kept = True
            with response:
                if not 200 <= response.status_code < 300:
                    with suppress(OSError, HTTPError):  # so that the connection can be kept
                        response.raw.read(CHUNK)
                    raise self._refused(response)
                yield response

    def _request(
        self, path: str, accept: str, params: Sequence[tuple[str, str]], sent: Mapping[str, Any] | None
    ) -> requests.Response:
        try:
            return self._session.request(
                "GET" if sent is None else "POST",
                self.url + path,
                params=list(params),
                json=sent,
                headers={"Accept": accept},
                timeout=(self._timeout, self._timeout),
            )
        except SettingsError as error:
            raise AssociationFailed(str(error), permanent=True) from None
        except (OSError, HTTPError) as error:
            raise failure(self.url, error, late=self._connection.late) from None

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        try:
            # What is there, not what would fill a piece: that would be lost with what does not come
            while piece := response.raw.read1(CHUNK, decode_content=True):
                self._connection.allow(len(piece) / SLOWEST)
                with self._connection.paused():
                    yield piece
        except (OSError, HTTPError) as error:
            raise failure(self.url, error, late=self._connection.late) from None
        if self._connection.late:  # what was cut may look like an end
            raise failure(self.url, TimeoutError(), late=True)

    def _refused(self, response: requests.Response) -> Refused:
        code = response.status_code
        said = f"{self.url} answers {code} ({response.reason})"
        if code == 401 and self._credentials:
            advice = "correct the user, password or token in this peer's settings here"
        else:
            advice = _ADVICE.get(code, "see its log")
        permanent = code < 500 and code not in BUSY
        return Refused(f"{said}: {advice}", code, permanent=permanent, retry_after=_retry_after(response.headers))


def pages(
    page_at: Callable[[int], Sequence[dict[str, Any]]], key: Callable[[dict[str, Any]], str]
) -> Iterator[dict[str, Any]]:
    """All that a service lists, each once, by its `key`. A page may be shorter than was asked for, so the end is where
    nothing new comes; that is also what a service does which knows no pages."""
    seen: set[str] = set()
    at = 0
    while page := page_at(at):
        fresh = {key(item): item for item in page if key(item) not in seen}
        if not fresh:
            return
        seen.update(fresh)
        yield from fresh.values()
        at += len(page)


def whole_number(value: Any) -> int | None:
    """A count in JSON: a number, or its text."""
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """RFC 9110 10.2.3: seconds, or a date, which is held against the service's own."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return min(float(said), LONGEST_WAIT)
    with suppress(ValueError, TypeError):
        seconds = (parsedate_to_datetime(said) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
        return min(max(seconds, 0.0), LONGEST_WAIT)
    return None
