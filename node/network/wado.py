"""A DICOMweb service that is asked for studies: QIDO-RS (PS3.18 10.6) to find them, WADO-RS (10.4) to bring them.

A study comes in one message, as its objects are stored. Where the service refuses that, or the message breaks off, what
arrived stays and the rest is asked for one by one; so too when a study is fetched again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from node.errors import AssociationFailed, BrokenMessage, Refused
from node.network.dicomweb import DICOM_JSON, values
from node.network.matching import is_wanted, questions
from node.network.source import Fetched, Found, Take, Wanted
from node.network.taking import Room, Taking
from node.network.webget import FOR_EVERYTHING, GONE, PAGE, Reader, pages, whole_number

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'  # PS3.18 8.7.3.5.2

# DICOM JSON (PS3.18 F): attributes by tag
SOP_INSTANCE_UID = "00080018"
STUDY_DATE = "00080020"
ACCESSION_NUMBER = "00080050"
MODALITIES_IN_STUDY = "00080061"
PATIENT_ID = "00100020"
STUDY_INSTANCE_UID = "0020000D"
SERIES_INSTANCE_UID = "0020000E"
STUDY_RELATED_INSTANCES = "00201208"
STUDY_FIELDS = ("ModalitiesInStudy", "NumberOfStudyRelatedInstances")
HOW = ("fuzzymatching", "limit", "offset")
"""What each search says besides what it looks for."""


class WadoSource:
    """A `Source` that speaks DICOMweb."""

    def __init__(self, web: Reader, room: Room) -> None:
        self._web = web
        self._room = room

    def find(self, wanted: Wanted) -> Iterator[Found]:
        """As `Source.find`. Each value is asked for by itself: few services take lists."""
        seen: set[str] = set()
        for question in questions(wanted):
            for item in self._pages("/studies", question, STUDY_FIELDS, STUDY_INSTANCE_UID):
                found = _found(item)
                if found.study_instance_uid in seen or not is_wanted(wanted, found, _text(item, PATIENT_ID)):
                    continue
                seen.add(found.study_instance_uid)
                yield found

    def count(self, study_instance_uid: str) -> int | None:
        """As `Source.count`: Number of Study Related Instances."""
        question = {"StudyInstanceUID": study_instance_uid}
        for item in self._asked("/studies", question, STUDY_FIELDS, 0):
            found = _found(item)
            if found.study_instance_uid == study_instance_uid:
                return found.instances
        return 0

    def fetch(self, study_instance_uid: str, take: Take) -> Fetched:
        """As `Source.fetch`; only what was not taken before is asked for.

        Raises:
            SpoolError: a file cannot be written.
        """
        taking = self._room.begin(study_instance_uid, take)
        gone = False
        if not taking.kept:
            whole, gone = self._whole(study_instance_uid, taking)
            if whole or taking.full:
                return self._room.end(study_instance_uid, taking)
        try:
            paths = self._paths(study_instance_uid)
        except Refused as error:
            if error.code in FOR_EVERYTHING:
                raise
            taking.fail("", str(error))
            return self._room.end(study_instance_uid, taking)
        taking.one_by_one(self._web, paths, accept=AS_STORED)
        if not paths and not gone:
            taking.fail("", f"the study did not come whole, and {self._web} lists no instances of it")
        fetched = self._room.end(study_instance_uid, taking)
        return fetched if paths or not gone else Fetched(0, 0, f"{self._web} has no such study")

    def close(self) -> None:
        self._web.close()

    def _whole(self, study_instance_uid: str, taking: Taking) -> tuple[bool, bool]:
        """Ask for the study as one message: whether nothing of it is left to ask for, and whether there is none."""
        begun = False
        try:
            with self._web.stream(f"/studies/{_quoted(study_instance_uid)}", accept=AS_STORED) as body:
                begun = True
                taking.body(body)
                # 206: some objects could not be given as they are stored (PS3.18 Table 10.4.3-1)
                return body.code != 206 and taking.complete and bool(taking.kept), False
        except Refused as error:
            if error.code in FOR_EVERYTHING:
                raise
            return False, error.code in GONE
        except BrokenMessage:
            return False, False
        except AssociationFailed:
            if not begun:
                raise
            return False, False

    def _paths(self, study_instance_uid: str) -> dict[str, str]:
        """Where each instance of a study is that the service lists, by SOP Instance UID."""
        study = f"/studies/{_quoted(study_instance_uid)}"
        try:
            items = list(self._pages(f"{study}/instances", {}, (), SOP_INSTANCE_UID))
        except Refused as error:
            if error.code in GONE:
                return {}
            raise
        return {
            (uid := _text(item, SOP_INSTANCE_UID)): (
                f"{study}/series/{_quoted(_text(item, SERIES_INSTANCE_UID))}/instances/{_quoted(uid)}"
            )
            for item in items
        }

    def _pages(
        self, path: str, question: Mapping[str, str], fields: tuple[str, ...], key: str
    ) -> Iterator[dict[str, Any]]:
        for item in pages(partial(self._asked, path, question, fields), partial(_text, tag=key)):
            if not _text(item, key):
                raise AssociationFailed(f"{self._web} answers with an item that has no UID", permanent=True)
            yield item

    def _asked(self, path: str, question: Mapping[str, str], fields: tuple[str, ...], at: int) -> list[dict[str, Any]]:
        params = [*question.items(), *(("includefield", field) for field in fields)]
        params += [("fuzzymatching", "false"), ("limit", str(PAGE)), ("offset", str(at))]
        return self._web.listed(path, accept=DICOM_JSON, params=params)


def _found(item: dict[str, Any]) -> Found:
    return Found(
        study_instance_uid=_text(item, STUDY_INSTANCE_UID),
        study_date=_text(item, STUDY_DATE),
        accession_number=_text(item, ACCESSION_NUMBER),
        modalities=tuple(str(value) for value in values(item, MODALITIES_IN_STUDY) if value),
        instances=whole_number(next(iter(values(item, STUDY_RELATED_INSTANCES)), None)),
    )


def _quoted(uid: str) -> str:
    return quote(uid, safe="")


def _text(item: dict[str, Any], tag: str) -> str:
    value = next(iter(values(item, tag)), None)
    return "" if value is None else str(value).strip()
