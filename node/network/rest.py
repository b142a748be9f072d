"""An Orthanc that is asked for studies through its own REST, for servers without the plug-in for DICOMweb.

`/tools/find` is a POST, which servers that can only be read may refuse: then all studies are listed page by page, and
chosen here. Orthanc knows a study by an id of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

from node.errors import Refused
from node.network.matching import is_wanted, questions
from node.network.parts import DICOM
from node.network.source import Fetched, Found, Take, Wanted
from node.network.taking import Room
from node.network.webget import FOR_EVERYTHING, GONE, PAGE, Reader, pages, whole_number

JSON = "application/json"
REQUESTED = ("ModalitiesInStudy", "NumberOfStudyRelatedInstances")
"""What Orthanc tells of a study since its version 1.11, when it is asked."""
NO_POST = frozenset({403, 404, 405, 501})
REQUESTS = (
    "GET /studies",
    "POST /tools/find",
    "GET /studies/{id}/series",
    "GET /studies/{id}/statistics",
    "GET /studies/{id}/instances",
    "GET /instances/{id}/file",
)
"""All that is ever asked."""


def echo(web: Reader) -> float:
    """Seconds for a question and its answer.

    Raises:
        AssociationFailed: it did not work; the message says what to change, and on which side.
    """
    started = time.monotonic()
    try:
        web.ask("/studies", accept=JSON, params=[("since", "0"), ("limit", "1")])
    finally:
        web.close()
    return time.monotonic() - started


class RestSource:
    """A `Source` that speaks Orthanc's REST."""

    def __init__(self, web: Reader, room: Room) -> None:
        self._web = web
        self._room = room
        self._ids: dict[str, str] = {}
        """Orthanc's ids of studies that were told, by Study Instance UID."""

    def find(self, wanted: Wanted) -> Iterator[Found]:
        """As `Source.find`. Modalities are asked for where studies are chosen by them, if they were not told."""
        seen: set[str] = set()
        for item in self._studies(wanted):
            found, patient_id = _found(item), _tags(item, of="Patient").get("PatientID", "")
            if found.study_instance_uid in seen or not is_wanted(wanted, found, patient_id):
                continue
            if wanted.modalities and not found.modalities:
                found = replace(found, modalities=self._modalities(_id(item)) or ("",))
                if not is_wanted(wanted, found, patient_id):
                    continue
            seen.add(found.study_instance_uid)
            self._ids[found.study_instance_uid] = _id(item)
            yield found

    def count(self, study_instance_uid: str) -> int | None:
        """As `Source.count`."""
        said = self._of_study(study_instance_uid, "/statistics")
        return whole_number(said.get("CountInstances")) if isinstance(said, dict) else 0

    def fetch(self, study_instance_uid: str, take: Take) -> Fetched:
        """As `Source.fetch`; only what was not taken before is asked for.

        Raises:
            SpoolError: a file cannot be written.
        """
        taking = self._room.begin(study_instance_uid, take)
        try:
            listed = self._of_study(study_instance_uid, "/instances")
        except Refused as error:
            if error.code in FOR_EVERYTHING:
                raise
            taking.fail("", str(error))
            return self._room.end(study_instance_uid, taking)
        if not listed:
            self._room.end(study_instance_uid, taking)
            return Fetched(0, 0, f"{self._web} has no such study")
        paths = {
            _tags(item).get("SOPInstanceUID", ""): f"/instances/{quote(_id(item), safe='')}/file"
            for item in _items(listed)
        }
        taking.one_by_one(self._web, paths, accept=DICOM)
        return self._room.end(study_instance_uid, taking)

    def close(self) -> None:
        self._web.close()

    def _of_study(self, study_instance_uid: str, path: str) -> Any:
        """What Orthanc says of a study; None where it has no such study."""
        if study_instance_uid not in self._ids:
            deque(self.find(Wanted(study_instance_uids=(study_instance_uid,))), maxlen=0)
        orthanc_id = self._ids.get(study_instance_uid)
        if orthanc_id is None:
            return None
        try:
            return self._web.ask(f"/studies/{quote(orthanc_id, safe='')}{path}", accept=JSON)
        except Refused as error:
            if error.code not in GONE:
                raise
            del self._ids[study_instance_uid]
            return None

    def _modalities(self, orthanc_id: str) -> tuple[str, ...]:
        said = self._web.ask(f"/studies/{quote(orthanc_id, safe='')}/series", accept=JSON)
        return tuple(dict.fromkeys(filter(None, (_tags(item).get("Modality", "") for item in _items(said)))))

    def _studies(self, wanted: Wanted) -> Iterator[dict[str, Any]]:
        """What may be wanted: as the service finds it, or all that it has."""
        try:
            for question in questions(wanted):
                yield from pages(partial(self._matching, question), _id)
            return
        except Refused as error:
            if error.code not in NO_POST:
                raise
        yield from pages(self._all, _id)

    def _matching(self, question: Mapping[str, str], at: int) -> list[dict[str, Any]]:
        asked = {"Level": "Study", "Query": dict(question), "Expand": True, "RequestedTags": list(REQUESTED)}
        return _items(self._web.listed("/tools/find", accept=JSON, sent=asked | {"Since": at, "Limit": PAGE}))

    def _all(self, at: int) -> list[dict[str, Any]]:
        params = [("since", str(at)), ("limit", str(PAGE)), ("expand", ""), ("requestedTags", ";".join(REQUESTED))]
        return _items(self._web.listed("/studies", accept=JSON, params=params))


def _items(said: Any) -> list[dict[str, Any]]:
    """Orthanc's resources in an answer; each has its id there."""
    return [item for item in said if isinstance(item, dict) and "ID" in item] if isinstance(said, list) else []


def _id(item: dict[str, Any]) -> str:
    return str(item["ID"])


def _tags(item: dict[str, Any], of: str = "") -> dict[str, str]:
    found = item.get(f"{of}MainDicomTags")
    return {keyword: str(value).strip() for keyword, value in found.items()} if isinstance(found, dict) else {}


def _found(item: dict[str, Any]) -> Found:
    tags = _tags(item)
    told = item.get("RequestedTags")
    told = told if isinstance(told, dict) else {}
    return Found(
        study_instance_uid=tags.get("StudyInstanceUID", ""),
        study_date=tags.get("StudyDate", ""),
        accession_number=tags.get("AccessionNumber", ""),
        modalities=tuple(filter(None, str(told.get("ModalitiesInStudy", "")).split("\\"))),
        instances=whole_number(told.get("NumberOfStudyRelatedInstances")),
    )
