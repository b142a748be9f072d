"""The storage client over HTTP (STOW-RS, PS3.18 10.5): files to one DICOMweb service, each with what became of it.

The same interface as `sender.Sender`, and the same rules: stored bytes go out as they are, one at a time, nothing is
remembered of earlier attempts, and when to try again is its owner's decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info

from node.domain import Pair
from node.errors import AssociationFailed, SettingsError
from node.network.dicomweb import Answer, Service, values
from node.network.offer import (
    AS_THEY_ARE,
    SOP_CLASS_NOT_SUPPORTED,
    Offers,
    forms_of,
    send_first_taken,
    unreadable,
)
from node.network.query import Sought
from node.network.sender import SLOWEST
from node.network.statuses import Kind, Outcome, classify
from node.network.weblink import Credentials

# DICOM JSON (PS3.18 F): attributes by tag
FAILED_SOP_SEQUENCE = "00081198"
REFERENCED_SOP_SEQUENCE = "00081199"
FAILURE_REASON = "00081197"
WARNING_REASON = "00081196"
REFERENCED_SOP_INSTANCE_UID = "00081155"
SOP_INSTANCE_UID = "00080018"
# PS3.18 Table I.2-2, beside the statuses of DIMSE
SYNTAX_NOT_SUPPORTED = 0xC122
DUPLICATE = 0x0111

# PS3.18 Table 10.5.3-1 and 8.5: what each HTTP status means for one object, and what to change.
_CODES: dict[int, tuple[Kind, str]] = {
    400: ("permanent", "see its log"),
    401: ("permanent", "give user with password_file, or token_file, in this peer's settings here"),
    403: ("permanent", "allow this node to store there"),
    404: ("permanent", "correct url in this peer's settings here: it is what comes before /studies"),
    405: ("permanent", "switch STOW-RS on there, or correct url in this peer's settings here"),
    406: ("permanent", "it cannot answer in DICOM JSON"),
    408: ("retry", "it will be tried again"),
    413: ("permanent", "raise its limit for one request there"),
    415: ("permanent", "let it take application/dicom by STOW-RS there"),
    429: ("retry", "it is busy; it will be tried again"),
}
NOTHING_FOUND = frozenset({204, 404})
"""To a search: some say 404 of a study that they lack; that the url is right was seen when the object was taken."""
ABOUT_ONE = frozenset({400, 409, 413, 415})
"""What is answered to one object and says nothing of the next."""


class WebSender:
    """Sends to one DICOMweb service; used by one thread at a time. Times are those of `sender.Sender`.

    Raises:
        SettingsError: a secret or the file of authorities cannot be used.
    """

    def __init__(
        self, url: str, *, timeout: float, credentials: Credentials | None = None, authorities: Path | None = None
    ) -> None:
        self._service = Service(url, timeout=timeout, credentials=credentials or Credentials(), authorities=authorities)
        self._used_at: float | None = None
        self._blocked = False
        """Whether the newest answer holds for every object."""

    @property
    def idle_seconds(self) -> float:
        """How long the kept connection has not been used; 0 when none is kept."""
        return time.monotonic() - self._used_at if self._used_at is not None else 0.0

    def send(
        self,
        paths: Sequence[Path],
        *,
        wanted: Callable[[Path], bool] | None = None,
        offers: Offers = AS_THEY_ARE,
    ) -> Iterator[tuple[Path, Outcome]]:
        """As `Sender.send`. What a service answers to the first object and means for all, the others share untried."""
        verdict: Outcome | None = None
        for path in paths:
            if wanted is not None and not wanted(path):
                continue
            outcome = verdict or self._send(path, offers)
            if outcome is None:
                continue
            verdict = verdict or (outcome if self._blocked else None)
            yield path, outcome

    def echo(self) -> float:
        """Seconds for a search and its answer.

        Raises:
            AssociationFailed, SettingsError: it did not work; the message says what to change, and on which side.
        """
        started = time.monotonic()
        try:
            answer = self._service.search()
        finally:
            self.close()
        if not 200 <= answer.code < 300:
            raise self._refusal(answer)
        if answer.code != 204 and answer.said is None and not answer.media_type.endswith("json"):
            raise self._no_service(answer)
        return time.monotonic() - started

    def holds(self, sought: Sought) -> bool:
        """Whether the service finds this instance by QIDO-RS.

        Raises:
            AssociationFailed: it did not answer the question.
        """
        try:
            answer = self._service.find(sought)
        except SettingsError as error:
            raise AssociationFailed(str(error), permanent=True) from None
        self._used_at = time.monotonic()
        if answer.code in NOTHING_FOUND:
            return False
        if not 200 <= answer.code < 300:
            raise self._refusal(answer)
        return bool(_first(answer.said or {}, SOP_INSTANCE_UID) == sought.sop_instance_uid)

    def close(self) -> None:
        """Close the kept connection, if there is one."""
        self._service.close()
        self._used_at = None

    def _send(self, path: Path, offers: Offers) -> Outcome | None:
        self._blocked = False
        forms = forms_of(offers, path)
        if isinstance(forms, Outcome):
            return forms

        def store(file: Path, form: Pair) -> Outcome:
            outcome = self._store(file)
            if outcome.kind in ("stored", "warning"):
                offers.told({form: True})
            return outcome

        return send_first_taken(offers, path, forms, store)

    def _store(self, path: Path) -> Outcome:
        try:
            uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
            seconds = path.stat().st_size / SLOWEST
        except (OSError, AttributeError) as error:
            return unreadable(error)
        kept = self._used_at is not None
        try:
            answer = self._exchange(path, seconds, again=kept)
        except (AssociationFailed, SettingsError) as error:
            self.close()
            self._blocked = True
            return Outcome(None, str(error), "permanent" if getattr(error, "permanent", False) else "retry")
        except OSError as error:
            return unreadable(error)
        self._used_at = time.monotonic()
        return self._meaning(answer, uid)

    def _exchange(self, path: Path, seconds: float, *, again: bool) -> Answer:
        try:
            return self._service.store(path, seconds=seconds)
        except AssociationFailed as error:
            if not again or error.permanent:
                raise
        # The service may have ended the connection while it was kept
        return self._service.store(path, seconds=seconds)

    def _meaning(self, answer: Answer, uid: str) -> Outcome:
        """What an answer says of one instance (PS3.18 10.5.3 and Annex I)."""
        good = 200 <= answer.code < 300
        if answer.said is not None and (good or answer.code == 409):
            for item in _items(answer.said, FAILED_SOP_SEQUENCE):
                if _first(item, REFERENCED_SOP_INSTANCE_UID) == uid:
                    return self._failed(_first(item, FAILURE_REASON))
            for item in _items(answer.said, REFERENCED_SOP_SEQUENCE):
                if _first(item, REFERENCED_SOP_INSTANCE_UID) == uid:
                    warning = _first(item, WARNING_REASON)
                    return classify(warning) if isinstance(warning, int) else Outcome(0x0000, "", "stored")
        if not good:
            self._blocked = answer.code not in ABOUT_ONE
            return Outcome(None, str(self._refusal(answer)), self._kind(answer.code))
        if answer.media_type and answer.said is None:
            return Outcome(None, str(self._no_service(answer)), "permanent")
        words = f"{self._service} answers {answer.code} and does not name the object as stored"
        # All were stored, says 200; 202 says that some were not
        named = answer.code == 202 or _items(answer.said or {}, REFERENCED_SOP_SEQUENCE)
        return Outcome(None, words, "permanent") if named else Outcome(0x0000, words, "warning")

    def _failed(self, reason: Any) -> Outcome:
        words = f"{self._service} names the object as failed"
        if not isinstance(reason, int):
            return Outcome(None, f"{words}, without a reason", "permanent")
        if reason == SYNTAX_NOT_SUPPORTED:
            return Outcome(SOP_CLASS_NOT_SUPPORTED, f"{words}: 0x{reason:04X}, transfer syntax not supported", "retry")
        outcome = classify(reason)
        if outcome.kind in ("stored", "warning") and reason != DUPLICATE:
            return Outcome(reason, f"{words}, with reason 0x{reason:04X}", "permanent")
        return outcome

    def _refusal(self, answer: Answer) -> AssociationFailed:
        """What an answer refuses, with what to change."""
        said = f"{self._service} answers {answer.code} ({answer.words})"
        advice = _CODES[answer.code][1] if answer.code in _CODES else ""
        if answer.code == 401 and self._service.credentials:
            advice = "correct the user, password or token in this peer's settings here"
        return AssociationFailed(said, advice=advice, permanent=self._kind(answer.code) == "permanent")

    def _kind(self, code: int) -> Kind:
        if code in _CODES:
            return _CODES[code][0]
        return "retry" if code >= 500 else "permanent"

    def _no_service(self, answer: Answer) -> AssociationFailed:
        said = f"{self._service} answers with {answer.media_type or 'nothing'}, not as a DICOMweb service"
        return AssociationFailed(said, advice="correct url in this peer's settings here", permanent=True)


def _items(said: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return [value for value in values(said, tag) if isinstance(value, dict)]


def _first(item: dict[str, Any], tag: str) -> Any:
    return next(iter(values(item, tag)), None)
