"""Studies of small files on a server of ours that speaks DICOMweb or Orthanc's REST, as well or as oddly as told."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from web_made import DICOM_JSON, Reply, Request

from node.network.incoming import Status
from node.network.source import Arrived

BOUNDARY = "b-o+u'n_d"


def object_of(study: str, size: int = 500, uid: str = "") -> bytes:
    """A Part 10 file whose bytes hold what looks like a boundary."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = SecondaryCaptureImageStorage, uid or generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.1"
    ds.PatientName = "Canary^Yellow"
    ds.EncapsulatedDocument = (f"\r\n--{BOUNDARY}x\r\n--b\r\n".encode() * (size // 16))[: size - size % 2]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def uid_of(data: bytes) -> str:
    return str(dcmread(io.BytesIO(data)).SOPInstanceUID)


def message(*objects: bytes, boundary: str = BOUNDARY, end: str = "--", before: bytes = b"") -> bytes:
    parts = [b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (boundary.encode(), data) for data in objects]
    return before + b"".join(parts) + f"--{boundary}{end}\r\n".encode()


def multipart(*objects: bytes, code: int = 200, **more: Any) -> Reply:
    return Reply(code, message(*objects), f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"', **more)


def attribute(vr: str, *values: object) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


@dataclass
class Shelf:
    """What a server has: for each study what QIDO-RS tells of it, and its objects by SOP Instance UID."""

    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    objects: dict[str, dict[str, bytes]] = field(default_factory=dict)
    most: int = 1000
    """Studies or instances in one answer."""

    def add(self, study: str, *objects: bytes, date: str = "20200102", accession: str = "", **more: object) -> None:
        self.objects[study] = {uid_of(data): data for data in objects}
        self.told[study] = {
            "0020000D": attribute("UI", study),
            "00080020": attribute("DA", date),
            "00080050": attribute("SH", accession) if accession else {"vr": "SH"},
            "00080061": attribute("CS", *str(more.get("modalities", "CR")).split("\\")),
            "00100020": attribute("LO", more.get("patient", "P1")),
            "00201208": attribute("IS", more.get("count", len(objects))),
        }

    def __call__(self, request: Request) -> Reply:
        """As a good DICOMweb service answers, which ignores all keys but limit, offset and the UID."""
        where = urlsplit(request.path)
        asked = {key: values[-1] for key, values in parse_qs(where.query).items()}
        path = [unquote(step) for step in where.path.removeprefix("/dicom-web/").split("/")]
        if path == ["studies"]:
            wanted = asked.get("StudyInstanceUID")
            return self._page([told for uid, told in self.told.items() if wanted in (None, uid)], asked)
        objects = self.objects.get(path[1])
        if objects is None:
            return Reply(404)
        if path[2:] == ["instances"]:
            listed = [
                {"00080018": attribute("UI", uid), "0020000E": attribute("UI", f"{path[1]}.1")} for uid in objects
            ]
            return self._page(listed, asked)
        if len(path) == 2:
            return multipart(*objects.values())
        return multipart(objects[path[5]]) if path[5] in objects else Reply(404)

    def _page(self, items: list[Any], asked: dict[str, str]) -> Reply:
        start, length = int(asked["offset"]), min(int(asked["limit"]), self.most)
        page = items[start : start + length]
        return Reply(200, json.dumps(page).encode(), DICOM_JSON) if page else Reply(204, b"", "")


class Taken:
    """A `take` that keeps what it is given, or answers what it is told to."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.calls = 0
        self.status = Status(0x0000)

    def __call__(self, arrived: Arrived) -> Status:
        self.calls += 1
        if self.status.code == 0x0000:
            self.data[arrived.sop_instance_uid] = arrived.path.read_bytes()
            assert arrived.path.stat().st_mode & 0o777 == 0o600
        return self.status
