"""C-FIND at STUDY level and below (PS3.4 C.4.1): which studies a peer has, and what is in one of them.

Study Root, hierarchical: each level is asked for by the unique keys of those above it. What a peer may ignore is looked
at here again. Answers hold names of patients: none of them is logged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from node.errors import PeerError
from node.network.link import Link, Target, open_link
from node.network.query import MODEL, PAIRS, PENDING
from node.network.source import Found, Wanted
from node.network.statuses import classify

log = logging.getLogger(__name__)
Kept = TypeVar("Kept")

MOST_ANSWERS = 100_000
SILENCE_SECONDS = 120.0
"""How long a peer may think about its next answer."""
UID = re.compile(r"[0-9.]{1,64}")
STUDY_KEYS = (
    "StudyInstanceUID",
    "StudyDate",
    "AccessionNumber",
    "PatientID",
    "ModalitiesInStudy",
    "SOPClassesInStudy",
    "NumberOfStudyRelatedInstances",
)
SERIES_KEYS = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")
IMAGE_KEYS = ("SOPInstanceUID", "SOPClassUID")
LEVELS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("STUDY", (), STUDY_KEYS),
    ("SERIES", ("StudyInstanceUID",), SERIES_KEYS),
    ("IMAGE", ("StudyInstanceUID", "SeriesInstanceUID"), IMAGE_KEYS),
)
"""What is asked for at each level, below what the levels above give."""


@dataclass(frozen=True)
class _Series:
    uid: str
    modality: str
    instances: int | None


class Finder:
    """Asks one peer, over one association that is held until `close`. Used by one thread at a time."""

    def __init__(self, target: Target, *, silence: float = SILENCE_SECONDS) -> None:
        self._target = target
        self._silence = silence
        self._link: Link | None = None

    def studies(self, wanted: Wanted) -> Iterator[Found]:
        """The studies that match, each once. A query is read to its end before the first of its answers is given.

        Raises:
            PeerError: the peer does not answer, or with too many studies.
        """
        told: set[str] = set()
        for question in _questions(wanted):
            for found, patient_id in self._told("STUDY", STUDY_KEYS, question, _found):
                uid = found.study_instance_uid
                if not UID.fullmatch(uid):
                    log.warning("find.no-uid peer=%r", self._target.called_ae_title)
                elif uid not in told and _matches(found, patient_id, wanted) and self._has_modality(found, wanted):
                    told.add(uid)
                    yield found

    def count(self, study_instance_uid: str) -> int | None:
        """How many instances the peer has of a study; where it counts none itself, by asking for each."""
        study = self._study(study_instance_uid)
        if study is None:
            return 0
        told = _number(study, "NumberOfStudyRelatedInstances")
        if told is not None:
            return told
        series = self._series(study_instance_uid)
        counts = [s.instances or len(self._images(study_instance_uid, s.uid)) for s in series]
        return sum(counts) or None

    def sop_classes(self, study_instance_uid: str) -> tuple[str, ...]:
        """The SOP classes of a study's instances; empty where the peer does not tell."""
        study = self._study(study_instance_uid)
        told = _texts(study, "SOPClassesInStudy") if study else []
        if study and not told:
            for series in self._series(study_instance_uid):
                told += [_text(image, "SOPClassUID") for image in self._images(study_instance_uid, series.uid)]
        return tuple(dict.fromkeys(uid for uid in told if UID.fullmatch(uid)))

    def close(self) -> None:
        if self._link:
            self._link.close()
            self._link = None

    def _study(self, uid: str) -> Dataset | None:
        answers = self._asked("STUDY", STUDY_KEYS, {"StudyInstanceUID": uid})
        return next((a for a in answers if _text(a, "StudyInstanceUID") == uid), None)

    def _series(self, study: str) -> list[_Series]:
        answers = self._asked("SERIES", SERIES_KEYS, {"StudyInstanceUID": study})
        told = [
            _Series(_text(a, "SeriesInstanceUID"), _text(a, "Modality"), _number(a, "NumberOfSeriesRelatedInstances"))
            for a in answers
        ]
        return [series for series in told if UID.fullmatch(series.uid)]

    def _images(self, study: str, series: str) -> list[Dataset]:
        return self._asked("IMAGE", IMAGE_KEYS, {"StudyInstanceUID": study, "SeriesInstanceUID": series})

    def _has_modality(self, found: Found, wanted: Wanted) -> bool:
        if not wanted.modalities:
            return True
        # PS3.4 Table C.6-5: Modalities in Study is optional, so a peer may neither match by it nor tell it
        told = found.modalities or [series.modality for series in self._series(found.study_instance_uid)]
        return bool(set(wanted.modalities) & set(told))

    def _asked(self, level: str, keys: tuple[str, ...], given: dict[str, str]) -> list[Dataset]:
        return self._told(level, keys, given, lambda answer: answer)

    def _told(
        self, level: str, keys: tuple[str, ...], given: dict[str, str], kept: Callable[[Dataset], Kept]
    ) -> list[Kept]:
        """All matches, of each what is `kept`: a hundred thousand data sets would be half a gigabyte."""
        ds = Dataset()
        ds.QueryRetrieveLevel = level
        for keyword in keys:
            setattr(ds, keyword, None)
        for keyword, value in given.items():
            setattr(ds, keyword, value)
        link, reused = self._link, True
        if link is None or not link.alive:
            self.close()
            link, reused = open_link(self._target, PAIRS), False
            self._link = link
        try:
            return self._answered(link, ds, kept)
        except PeerError:
            if not reused or link.alive:
                raise
        # It had ended the association while that was held
        self.close()
        self._link = link = open_link(self._target, PAIRS)
        return self._answered(link, ds, kept)

    def _answered(self, link: Link, ds: Dataset, kept: Callable[[Dataset], Kept]) -> list[Kept]:
        finished = False
        try:
            with link.while_it_speaks(self._silence):
                found = _answers(link, ds, kept)
            finished = True
        except (RuntimeError, ValueError, OSError) as error:
            raise PeerError(f"{self._target}: {error}") from None
        finally:
            if not finished and link.alive:
                link.assoc.abort()
        return found


def _answers(link: Link, ds: Dataset, kept: Callable[[Dataset], Kept]) -> list[Kept]:
    """All matches of one question, of each what is `kept`.

    Raises:
        PeerError: there was no answer, or another one than success.
    """
    found: list[Kept] = []
    status: int | None = None
    message = link.next_message()
    answers: Any = link.assoc.send_c_find(ds, MODEL, msg_id=message)
    for answer, match in answers:
        status = answer.get("Status")
        if status not in PENDING:
            break
        if match is None:
            log.warning("find.unreadable peer=%r", link.target.called_ae_title)
            continue
        found.append(kept(match))
        if len(found) > MOST_ANSWERS:
            with suppress(RuntimeError):  # it may just have gone
                link.assoc.send_c_cancel(message, query_model=MODEL)
            raise PeerError(f"{link.target} answers with more than {MOST_ANSWERS} matches: ask for fewer, by dates")
    if status is None:
        raise PeerError(f"{link.target} {link.lost()} to the C-FIND")
    if status != 0x0000:
        raise PeerError(f"{link.target}: the C-FIND was {classify(status).error}")
    return found


def _questions(wanted: Wanted) -> Iterator[dict[str, str]]:
    """One question for each value of the narrowest key: of lists of values not every peer makes the same."""
    dates = {"StudyDate": f"{wanted.since}-{wanted.until}"} if wanted.since or wanted.until else {}
    for keyword, values in (
        ("StudyInstanceUID", wanted.study_instance_uids),
        ("AccessionNumber", wanted.accession_numbers),
        ("PatientID", wanted.patient_ids),
        ("ModalitiesInStudy", wanted.modalities),
    ):
        if values:
            yield from ({keyword: value, **dates} for value in values)
            return
    yield dates


def _matches(found: Found, patient_id: str, wanted: Wanted) -> bool:
    """Whether a peer matched by what it was asked for: everything but modalities, which it need not tell."""
    date = found.study_date.replace(".", "")
    if (wanted.since or wanted.until) and not (wanted.since or "0") <= date <= (wanted.until or "99999999"):
        return False
    return all(
        not values or said in values
        for said, values in (
            (found.study_instance_uid, wanted.study_instance_uids),
            (found.accession_number, wanted.accession_numbers),
            (patient_id, wanted.patient_ids),
        )
    )


def _found(answer: Dataset) -> tuple[Found, str]:
    """A study, and its Patient ID."""
    found = Found(
        study_instance_uid=_text(answer, "StudyInstanceUID"),
        study_date=_text(answer, "StudyDate"),
        accession_number=_text(answer, "AccessionNumber"),
        modalities=tuple(_texts(answer, "ModalitiesInStudy")),
        instances=_number(answer, "NumberOfStudyRelatedInstances"),
    )
    return found, _text(answer, "PatientID")


def _texts(ds: Dataset, keyword: str) -> list[str]:
    try:
        value = ds.get(keyword)
    except Exception:  # whatever a malformed value makes pydicom raise, it says nothing
        return []
    many = list(value) if isinstance(value, MultiValue | list) else [value]
    return [text for one in many if one is not None and (text := str(one).strip(" \0"))]


def _text(ds: Dataset, keyword: str) -> str:
    return next(iter(_texts(ds, keyword)), "")


def _number(ds: Dataset, keyword: str) -> int | None:
    text = _text(ds, keyword)
    return int(text) if text.isdecimal() else None
