"""One DICOMweb service: a file posted as it is stored, and a search to see that somebody is there.

The one home of dicomweb-client. Nothing is tried twice here, and no answer is read without a limit.
"""

from __future__ import annotations

import io
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from urllib3.exceptions import HTTPError

from node.network.query import Sought
from node.network.weblink import Connection, Credentials, failure, open_session

ANSWER_BYTES = 4 << 20
"""The longest answer that is read."""
DICOM_JSON = "application/dicom+json"
STORED_AS = 'multipart/related; type="application/dicom"'
STUDIES = "/studies"
"""Where objects are posted, below the root of the service."""


@dataclass(frozen=True)
class Answer:
    """What a service answered: HTTP status code with its words, and the object of a DICOM JSON answer."""

    code: int
    words: str
    media_type: str
    said: dict[str, Any] | None


def values(item: dict[str, Any], tag: str) -> list[Any]:
    """The values of an attribute of a data set in DICOM JSON (PS3.18 F.2)."""
    found = item.get(tag)
    said = found.get("Value") if isinstance(found, dict) else None
    return said if isinstance(said, list) else []


class Service:
    """One DICOMweb service, over one connection that is kept; used by one thread at a time.

    `timeout` (seconds) bounds connecting and each silence; an exchange as a whole may take twice that.

    Raises:
        SettingsError: a secret or the file of authorities cannot be used.
    """

    def __init__(self, url: str, *, timeout: float, credentials: Credentials, authorities: Path | None) -> None:
        self.url = url
        self.credentials = credentials
        self._timeout = timeout
        self._connection = Connection()
        self._client = _Client(url, open_session(self._connection, credentials, authorities), timeout)

    def store(self, path: Path, *, seconds: float) -> Answer:
        """Post one Part 10 file (PS3.18 10.5); `seconds` may it take beyond the usual.

        Raises:
            OSError: the file cannot be read.
            AssociationFailed: there was no answer; the message says what to change, and on which side.
            SettingsError: as the class.
        """
        with path.open("rb") as file:
            body = _Body(file)
            with self._explained(2 * self._timeout + seconds):
                self._client.post(body)
        return self._client.answer()

    def search(self) -> Answer:
        """Ask for one study (PS3.18 10.6), whichever.

        Raises:
            AssociationFailed, SettingsError: as `store`.
        """
        with self._explained(2 * self._timeout):
            self._client.search_for_studies(limit=1, fields=["StudyInstanceUID"])
        return self._client.answer()

    def find(self, sought: Sought) -> Answer:
        """Ask for one instance (PS3.18 10.6).

        Raises:
            AssociationFailed, SettingsError: as `store`.
        """
        with self._explained(2 * self._timeout):
            self._client.search_for_instances(
                sought.study_instance_uid,
                sought.series_instance_uid,
                limit=1,
                search_filters={"SOPInstanceUID": sought.sop_instance_uid},
            )
        return self._client.answer()

    def close(self) -> None:
        self._client.end()

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def _explained(self, seconds: float) -> Iterator[None]:
        """An exchange that ends after so many seconds, and whose failure is put into words."""
        self._client.response = None
        try:
            with self._connection.within(seconds):
                yield
        except (requests.HTTPError, requests.JSONDecodeError):
            # the answer itself says it
            return
        except (OSError, HTTPError) as error:
            raise failure(self.url, error, late=self._connection.late) from None


class _Client(DICOMwebClient):
    """The library's client, which keeps the whole answer and can post a file as it is.

    Its own `store_instances` writes every data set anew and holds it three times in memory; what was answered to a
    failure, or in a media type with parameters, it does not give back.
    """

    def __init__(self, url: str, session: requests.Session, timeout: float) -> None:
        # What is longer than chunk_size would be sent in chunks, which not every server takes
        super().__init__(
            url,
            session,
            headers={"Accept": DICOM_JSON},
            callback=self._keep,
            chunk_size=sys.maxsize,
            timeout=(timeout, timeout),
        )
        self.set_http_retry_params(retry=False)
        self.response: Any = None

    def post(self, body: _Body) -> None:
        kind = f'{STORED_AS}; boundary="{body.boundary}"'
        message: Any = body
        self._http_post(f"{self.base_url}{STUDIES}", message, {"Content-Type": kind})

    def answer(self) -> Answer:
        response = self.response
        assert response is not None, "an exchange that did not fail has an answer"
        said_type = response.headers.get("Content-Type", "") if response.content else ""
        media_type = said_type.partition(";")[0].strip().lower()
        said: Any = None
        if media_type in (DICOM_JSON, "application/json"):
            try:
                said = response.json()
            except ValueError:
                media_type = f"broken {media_type}"
        said = said[0] if isinstance(said, list) and said else said
        return Answer(response.status_code, response.reason or "", media_type, said if isinstance(said, dict) else None)

    def end(self) -> None:
        self._session.close()

    def _keep(self, response: Any, *_arguments: Any, **_more: Any) -> None:
        """Read the answer, up to a limit, before anybody else does."""
        content = response.raw.read(ANSWER_BYTES + 1, decode_content=True)
        if len(content) > ANSWER_BYTES:
            response.close()
            raise requests.ConnectionError("the answer is too long")
        response.raw.release_conn()
        response.raw = io.BytesIO(content)
        self.response = response


class _Body:
    """A Part 10 file as a multipart message of one part (RFC 2387), read while it is sent."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.boundary = secrets.token_hex(16)
        head = f"--{self.boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        tail = f"\r\n--{self.boundary}--\r\n".encode()
        self._length = len(head) + file.seek(0, io.SEEK_END) + len(tail)
        file.seek(0)
        self._pieces: list[io.BufferedIOBase] = [io.BytesIO(head), file, io.BytesIO(tail)]

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        while self._pieces:
            if data := self._pieces[0].read(size):
                return data
            self._pieces.pop(0)
        return b""
