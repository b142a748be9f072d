"""What a received file says of itself: whose image it is and of what, or why it cannot be taken.

Reads attributes only, never pixels; nothing that a peer sent becomes part of a log line here.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from node.domain import Received
from node.network.incoming import Status
from node.pipeline.header import read_attributes
from node.storage.spool import digest_of

IDENTIFICATION = (
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPClassUID",
    "AccessionNumber",
    "StudyDate",
    "Modality",
    "Laterality",
    "ImageLaterality",
    "ViewPosition",
    "BodyPartExamined",
)
"""What says whose image this is and of what. Two data sets of one UID that differ here are never taken for the same."""

READ = frozenset(
    tag_for_keyword(keyword) or 0
    for keyword in (*IDENTIFICATION, "SpecificCharacterSet", "SOPInstanceUID", "Rows", "Columns", "DeviceUID")
)

# PS3.5 9.1, without its ban on leading zeros, which real devices break
UID = re.compile(r"[0-9]+(\.[0-9]+)*")

# PS3.4 Table B.2-1
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Unidentified(Exception):
    """The data set does not say what it is, or says something else than the command did."""

    def __init__(self, code: int, comment: str) -> None:
        super().__init__(comment)
        self.status = Status(code, comment)


def identify(path: Path, *, sop_class_uid: str = "", sop_instance_uid: str = "", digest: str = "") -> Received:
    """Read what a Part 10 file says of itself, and hold it against the command set where one is given.

    `digest`: what `digest_of` would give, where the listener has computed it on the way.

    Raises:
        Unidentified: with the DIMSE status of PS3.4 B.2.3.
        OSError: the file cannot be read.
    """
    ds = read_header(path)
    for keyword, said in (("SOPClassUID", sop_class_uid), ("SOPInstanceUID", sop_instance_uid)):
        found = str(ds.get(keyword) or "")
        if said and found != said:
            raise Unidentified(DOES_NOT_MATCH, f"{keyword} of data set and command differ")
    uids = {k: str(ds.get(k) or "") for k in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    for keyword, uid in uids.items():
        if not uid:
            raise Unidentified(DOES_NOT_MATCH, f"{keyword} is missing")
        if len(uid) > 64 or not UID.fullmatch(uid):
            raise Unidentified(DOES_NOT_MATCH, f"{keyword} is not a UID")
    stat = path.stat()
    identification = {k: _said(ds, k) for k in IDENTIFICATION}
    return Received(
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        transfer_syntax_uid=str(ds.file_meta.get("TransferSyntaxUID", "")),
        digest=digest or digest_of(path),
        size=stat.st_size,
        path=path,
        modality=identification["Modality"][:16],
        is_image=bool(ds.get("Rows")) and bool(ds.get("Columns")),
        patient_id=identification["PatientID"],
        accession_number=identification["AccessionNumber"],
        identification={k: v for k, v in identification.items() if v},
        received_at=stat.st_mtime,
        device_uid=_said(ds, "DeviceUID"),
    )


def read_header(path: Path) -> Dataset:
    """The identifying attributes of a Part 10 file, with its File Meta Information.

    Raises:
        Unidentified: it cannot be parsed.
        OSError: it cannot be read.
    """
    try:
        ds = read_attributes(path, READ)
        for element in ds:  # what cannot be read shows here, not where it is asked for
            str(element.value)
    except OSError:
        raise
    except Exception as error:  # whatever a hostile data set makes the parser do, it is one refused instance
        raise Unidentified(CANNOT_UNDERSTAND, f"not a DICOM data set: {type(error).__name__}") from None
    return ds


def _said(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return "" if value is None else str(value).strip().rstrip("\0^=")
