"""A PACS by pynetdicom's own server that is queried and retrieved from, and misbehaves as it is told.

Independent of our network room on purpose: what we ask is understood by somebody else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


class QueryScp:
    """Holds the files that it is given. `destination` is where it moves to (AE title, port); None knows nobody.

    `tells`: the optional keys that it answers. `gives(ds)`: the data set that it sends in place of one, or None for an
    abort of the association. `final`: a status in place of the last instance. `busy`: associations that
    it rejects from now on.
    """

    def __init__(
        self,
        *files: Path,
        get: bool = True,
        move: bool = True,
        destination: tuple[str, int] | None = None,
        port: int = 0,
        ae_title: str = "PACS",
    ) -> None:
        self.held: list[Dataset] = []
        self.tells = {"ModalitiesInStudy", "NumberOfStudyRelatedInstances", "SOPClassesInStudy"}
        self.gives: Callable[[Dataset], Dataset | None] = lambda ds: ds
        self.matches: Callable[[Dataset, Dataset], bool] | None = None
        self.final = 0
        self.found_status = 0
        self.busy = 0
        self.pause = 0.0
        self.sent: Counter[str] = Counter()
        self.asked: list[str] = []
        self.identifiers: list[Dataset] = []
        self.associations = 0
        self.destination = destination
        for file in files:
            self.hold(file)
        ae = AE(ae_title)
        ae.maximum_associations = 100
        ae.add_supported_context(Verification)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind, PLAIN)
        if get:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet, PLAIN)
            for context in AllStoragePresentationContexts:
                ae.add_supported_context(context.abstract_syntax, PLAIN, scu_role=True, scp_role=True)
        if move:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove, PLAIN)
        self._server: Any = ae.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._on_requested),
                (evt.EVT_C_FIND, self._on_find),
                (evt.EVT_C_GET, self._on_get),
                (evt.EVT_C_MOVE, self._on_move),
            ],
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def hold(self, file: Path) -> str:
        """Have one more file; its Study Instance UID."""
        ds = dcmread(file)
        self.held.append(ds)
        return str(ds.StudyInstanceUID)

    def stop(self) -> None:
        server, self._server = self._server, None
        if server:
            server.shutdown()

    def _on_requested(self, event: Any) -> None:
        self.associations += 1
        if self.busy:
            self.busy -= 1
            event.assoc.acse.send_reject(2, 3, 2)
            event.assoc.kill()

    def _chosen(self, asked: Dataset) -> list[Dataset]:
        uids = {k: asked.get(k, "") for k in ("StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber", "PatientID")}
        chosen = [ds for ds in self.held if all(not v or str(ds.get(k, "")) == v for k, v in uids.items())]
        first, _, last = str(asked.get("StudyDate") or "").partition("-")
        chosen = [ds for ds in chosen if (first or "0") <= ds.StudyDate <= (last or "9")]
        modality = asked.get("ModalitiesInStudy")
        if modality and "ModalitiesInStudy" in self.tells:
            chosen = [ds for ds in chosen if ds.Modality == modality]
        return chosen

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        level = LEVELS[asked.QueryRetrieveLevel]
        self.asked.append(asked.QueryRetrieveLevel)
        self.identifiers.append(asked)
        if self.found_status:
            yield self.found_status, None
            return
        groups: dict[str, list[Dataset]] = {}
        for ds in self._chosen(asked):
            groups.setdefault(str(ds[level].value), []).append(ds)
        for uid, members in groups.items():
            if event.is_cancelled:
                yield 0xFE00, None
                return
            found = Dataset()
            found.QueryRetrieveLevel = asked.QueryRetrieveLevel
            for element in asked:
                if element.keyword in members[0]:
                    found[element.keyword] = members[0][element.keyword]
            setattr(found, level, uid)
            if asked.QueryRetrieveLevel == "STUDY":
                facts = {
                    "ModalitiesInStudy": sorted({ds.Modality for ds in members}),
                    "NumberOfStudyRelatedInstances": len(members),
                    "SOPClassesInStudy": sorted({ds.SOPClassUID for ds in members}),
                }
                for keyword in self.tells & set(facts):
                    setattr(found, keyword, facts[keyword])
            yield 0xFF00, found

    def _on_get(self, event: Any) -> Iterator[Any]:
        yield from self._performed(event)

    def _on_move(self, event: Any) -> Iterator[Any]:
        if self.destination is None or event.move_destination != self.destination[0]:
            yield None, None  # pynetdicom answers 0xA801
            return
        contexts = [build_context(ds.SOPClassUID, PLAIN) for ds in self.held[:1]]
        yield "127.0.0.1", self.destination[1], {"ae_title": self.destination[0], "contexts": contexts}
        yield from self._performed(event)

    def _performed(self, event: Any) -> Iterator[Any]:
        chosen = self._chosen(event.identifier)
        yield len(chosen)
        for n, ds in enumerate(chosen):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            if self.final and n == len(chosen) - 1:
                failed = Dataset()
                failed.FailedSOPInstanceUIDList = [str(ds.SOPInstanceUID)]
                yield self.final, failed
                return
            given = self.gives(ds)
            if given is None:
                event.assoc.abort()
                return
            time.sleep(self.pause)
            self.sent[str(ds.SOPInstanceUID)] += 1
            yield 0xFF00, given
