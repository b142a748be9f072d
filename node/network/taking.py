"""What becomes of a study's instances while they are fetched over the web, and what is still to be asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from node.errors import BrokenMessage, Refused
from node.network.incoming import OUT_OF_RESOURCES
from node.network.parts import files
from node.network.source import Arrived, Fetched, Take
from node.network.statuses import classify
from node.network.webget import FOR_EVERYTHING, Body, Reader

Held = Callable[[str], Collection[str]]
"""The SOP Instance UIDs of a study that need not be fetched: they are here."""

TOO_LONG = "an instance is longer than listener.instance_limit_mb allows"
NO_DICOM = "an object is no DICOM file"


def nothing(_study_instance_uid: str) -> Collection[str]:
    return ()


@dataclass(frozen=True)
class Room:
    """Where files are made, how many bytes an instance may have, and what is here already."""

    folder: Path
    limit: int
    held: Held = nothing
    unfinished: dict[str, set[str]] = field(default_factory=dict)
    """What was taken of studies that are not complete, by SOP Instance UID."""

    def begin(self, study_instance_uid: str, take: Take) -> Taking:
        """What is to be fetched of a study, for the first time or again."""
        kept = self.unfinished.setdefault(study_instance_uid, set(self.held(study_instance_uid)))
        return Taking(self, take, kept)

    def end(self, study_instance_uid: str, taking: Taking) -> Fetched:
        """What became of it."""
        if taking.complete:
            self.unfinished.pop(study_instance_uid, None)
        return taking.fetched()


class Taking:
    """One study's instances on their way to `take`; those that it took are added to `kept`."""

    def __init__(self, room: Room, take: Take, kept: set[str]) -> None:
        self.kept = kept
        self.full = False
        """Nothing more can be taken here now."""
        self._room = room
        self._take = take
        self._taken = 0
        self._failed: dict[str, str] = {}
        self._unnamed: list[str] = []
        """Why something failed of which is not known what it is."""

    def body(self, body: Body) -> None:
        """Take the files of one answer, as they arrive."""
        for path in files(body, folder=self._room.folder, limit=self._room.limit):
            self._file(path)
            if self.full:
                return

    def one_by_one(self, web: Reader, paths: Mapping[str, str], *, accept: str) -> None:
        """Ask for each instance that is not here yet, by its SOP Instance UID and the path under which it is there."""
        self._unnamed.clear()  # it will be met again, with its name
        for sop_instance_uid, path in paths.items():
            if not self._needs(sop_instance_uid):
                continue
            if self.full:
                self.fail(sop_instance_uid, f"not asked for: {classify(OUT_OF_RESOURCES).error} here")
                continue
            try:
                with web.stream(path, accept=accept) as body:
                    self.body(body)
                self._settle(sop_instance_uid)
            except Refused as error:
                if error.code in FOR_EVERYTHING:
                    raise
                self.fail(sop_instance_uid, str(error))
            except BrokenMessage as error:
                if self._needs(sop_instance_uid):
                    self.fail(sop_instance_uid, f"{web}: {error}")

    def fail(self, sop_instance_uid: str, reason: str) -> None:
        self._failed[sop_instance_uid] = reason

    @property
    def complete(self) -> bool:
        return not self._failed and not self._unnamed

    def fetched(self) -> Fetched:
        """What became of them, with each different reason once."""
        reasons = dict.fromkeys([*self._failed.values(), *self._unnamed])
        return Fetched(self._taken, len(self._failed) + len(self._unnamed), "; ".join(reasons))

    def _needs(self, sop_instance_uid: str) -> bool:
        return sop_instance_uid not in self.kept and sop_instance_uid not in self._failed

    def _settle(self, sop_instance_uid: str) -> None:
        """All that was to come for this instance has come."""
        if self._needs(sop_instance_uid):
            self.fail(sop_instance_uid, self._unnamed[0] if self._unnamed else "another instance came in its place")
        self._unnamed.clear()

    def _file(self, path: Path | None) -> None:
        if path is None:
            self._unnamed.append(TOO_LONG)
            return
        try:
            arrived = _arrived(path)
            if arrived is None:
                self._unnamed.append(NO_DICOM)
            elif self._needs(arrived.sop_instance_uid):
                self._offer(arrived)
        finally:
            path.unlink(missing_ok=True)  # unless it was renamed away

    def _offer(self, arrived: Arrived) -> None:
        status = self._take(arrived)
        if status.code == 0x0000:
            self._taken += 1
            self.kept.add(arrived.sop_instance_uid)
            return
        self.full = status.code == OUT_OF_RESOURCES
        self.fail(arrived.sop_instance_uid, f"not taken here: {status.comment or classify(status.code).error}")


def _arrived(path: Path) -> Arrived | None:
    """None: it is no Part 10 file."""
    try:
        meta = read_file_meta_info(path)
        sop_class, uid = str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID)
        return Arrived(sop_class, uid, str(meta.TransferSyntaxUID), path)
    except (InvalidDicomError, AttributeError, EOFError, ValueError, KeyError, NotImplementedError):
        return None
