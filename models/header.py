"""What the header of an image says about it, as far as a model's applicability depends on it.

Holds no identification of the patient: age is the only personal value, and it is needed to refuse children.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime

from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

LOSSY_SYNTAXES = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless})
YEARS_PER = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}
"""Age units (PS3.5 Table 6.2-1, AS). Bare digits are not conformant, yet common: years."""

LONGEST = 64
"""Characters of a value that are looked at (PS3.5 6.2: LO has 64); a file may hold any number."""

HEADER_KEYWORDS = (
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientAge",
    "PatientBirthDate",
    "StudyDate",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PresentationIntentType",
    "BurnedInAnnotation",
    "LossyImageCompression",
)


@dataclass(frozen=True)
class Header:
    """Upper-cased strings, "" when absent; `age_years` in years or None."""

    sop_instance_uid: str = ""
    sop_class_uid: str = ""
    modality: str = ""
    body_part: str = ""
    view_position: str = ""
    age_years: float | None = None
    rows: int = 0
    columns: int = 0
    frames: int = 1
    photometric: str = ""
    presentation_intent: str = ""
    burned_in: str = ""
    lossy: bool = False


def of_dataset(ds: Dataset) -> Header:
    """The header of a DICOM data set; attributes with unusable values count as absent."""
    syntax = getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", "")
    age = age_in_years(_text(ds, "PatientAge"))
    return Header(
        sop_instance_uid=_text(ds, "SOPInstanceUID"),
        sop_class_uid=_text(ds, "SOPClassUID"),
        modality=_text(ds, "Modality"),
        body_part=_text(ds, "BodyPartExamined") or _meaning(ds, "AnatomicRegionSequence"),
        view_position=_text(ds, "ViewPosition") or _meaning(ds, "ViewCodeSequence"),
        age_years=_age_by_dates(ds) if age is None else age,
        rows=number(ds, "Rows"),
        columns=number(ds, "Columns"),
        frames=number(ds, "NumberOfFrames", 1) or 1,
        photometric=_text(ds, "PhotometricInterpretation"),
        presentation_intent=_text(ds, "PresentationIntentType"),
        burned_in=_text(ds, "BurnedInAnnotation"),
        lossy=_text(ds, "LossyImageCompression") == "01" or syntax in LOSSY_SYNTAXES,
    )


def age_in_years(text: str) -> float | None:
    """An AS value ("062Y", "18M", "003W", "010D") in years; None when it is empty or makes no sense."""
    match = re.fullmatch(r"\s*(\d{1,3})\s*([DWMY]?)\s*", text.upper())
    return int(match[1]) * YEARS_PER[match[2]] if match else None


def number(ds: Dataset, keyword: str, absent: int = 0) -> int:
    """An integer attribute; `absent` when it is missing, empty or no number."""
    value = ds.get(keyword)
    try:
        return absent if value is None or value == "" else int(value)
    except (TypeError, ValueError):
        return absent


def _age_by_dates(ds: Dataset) -> float | None:
    born, taken = _date(ds, "PatientBirthDate"), _date(ds, "StudyDate")
    return (taken - born).days / 365.25 if born and taken and taken >= born else None


def _date(ds: Dataset, keyword: str) -> date | None:
    try:
        return datetime.strptime(str(ds.get(keyword) or ""), "%Y%m%d").date()
    except ValueError:
        return None


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return "" if value is None else str(value).strip().upper()[:LONGEST]


def _meaning(ds: Dataset, keyword: str) -> str:
    items = ds.get(keyword)
    return _text(items[0], "CodeMeaning") if items else ""
