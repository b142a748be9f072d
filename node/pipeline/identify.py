"""What a received file says of itself: whose image it is and of what, or why it cannot be taken.

Reads attributes only, never pixels; nothing that a peer sent becomes part of a log line here.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from node.domain import Received
from node.network.incoming import Status
from node.pipeline.header import Header, read_attributes
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

TAGS = {
    keyword: tag_for_keyword(keyword) or 0
    for keyword in (*IDENTIFICATION, "SpecificCharacterSet", "SOPInstanceUID", "Rows", "Columns", "DeviceUID")
}
READ = frozenset(TAGS.values())
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

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
    header = read_header(path)
    values = {keyword: header.values.get(tag, "") for keyword, tag in TAGS.items()}
    for keyword, commanded in (("SOPClassUID", sop_class_uid), ("SOPInstanceUID", sop_instance_uid)):
        if commanded and values[keyword] != commanded:
            raise Unidentified(DOES_NOT_MATCH, f"{keyword} of data set and command differ")
    for keyword in UIDS:
        uid = values[keyword]
        if not uid:
            raise Unidentified(DOES_NOT_MATCH, f"{keyword} is missing")
        if len(uid) > 64 or not UID.fullmatch(uid):
            raise Unidentified(DOES_NOT_MATCH, f"{keyword} is not a UID")
    stat = path.stat()
    said = {k: v for k, v in ((k, _stripped(values[k])) for k in IDENTIFICATION) if v}
    return Received(
        sop_instance_uid=values["SOPInstanceUID"],
        sop_class_uid=values["SOPClassUID"],
        study_instance_uid=values["StudyInstanceUID"],
        series_instance_uid=values["SeriesInstanceUID"],
        transfer_syntax_uid=header.transfer_syntax_uid,
        digest=digest or digest_of(path),
        size=stat.st_size,
        path=path,
        modality=said.get("Modality", "")[:16],
        is_image=all(values[k] not in ("", "0") for k in ("Rows", "Columns")),
        patient_id=said.get("PatientID", ""),
        accession_number=said.get("AccessionNumber", ""),
        identification=said,
        received_at=stat.st_mtime,
        device_uid=_stripped(values["DeviceUID"]),
    )


def read_header(path: Path) -> Header:
    """The identifying attributes of a Part 10 file.

    Raises:
        Unidentified: it cannot be parsed.
        OSError: it cannot be read.
    """
    try:
        return read_attributes(path, READ)
    except OSError:
        raise
    except Exception as error:  # whatever a hostile data set makes the parser do, it is one refused instance
        raise Unidentified(CANNOT_UNDERSTAND, f"not a DICOM data set: {type(error).__name__}") from None


def _stripped(value: str) -> str:
    return value.strip().rstrip("\0^=")
