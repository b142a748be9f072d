"""Makes one foreign header fit to be written again, value by value, and never invents a value.

What cannot be put right is emptied or left out. An identifier is never cut short, since another value would point at
another patient or order: PatientID stays as it came, right or wrong; AccessionNumber is kept whole or emptied.
Nothing here reads files.
"""

from __future__ import annotations

import re
import struct
from datetime import date
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VM
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName, format_number_as_ds, validate_value

EXACT = frozenset({"PatientID"})
WHOLE_OR_EMPTY = frozenset({"AccessionNumber"})
UIDS = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"})

# PS3.5 Table 6.2-1: characters per value.
LIMITS = {"AE": 16, "LO": 64, "LT": 10240, "SH": 16, "ST": 1024, "UC": 10240, "UT": 10240}
# Numbers of a fixed size and bytes: what was read of them is valid, and a look-up table holds 65536.
BINARY = frozenset({"US", "SS", "OB", "OW"})
PARAGRAPHS = frozenset({"LT", "ST", "UT"})
# A foreign value may be anything, so a conversion may raise any of these; each means "not readable". OSError too:
# pydicom raises it for a sequence that ends early, here always one in memory.
UNREADABLE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    EOFError,
    OSError,
    struct.error,
    BytesLengthException,
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_CONTROL_IN_PARAGRAPH = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]+")
_DATE = re.compile(r"(\d{4})([-./]?)(\d{2})\2(\d{2})")
_TIME = re.compile(r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,6})\d*)?)?)?")


def repaired(ds: Dataset) -> Dataset:
    """A copy of the readable, public elements of a decoded header, with every value valid for its VR."""
    out = Dataset()
    for tag in sorted(ds.keys()):
        if tag.is_private or tag.element == 0 or tag == 0x00080005:
            continue
        try:
            elem = ds[tag]
            value = _value(elem)
        except UNREADABLE:
            continue
        if value is not None:
            out.add(DataElement(tag, elem.VR, value, validation_mode=config.IGNORE))
    return out


def _value(elem: DataElement) -> Any:
    """The element's value put right; None when nothing of it can be kept."""
    if elem.VR == "SQ":
        items = [item for item in map(repaired, elem.value) if _complete(item, elem.keyword)]
        return items or None
    if elem.is_empty:
        return ""
    if elem.keyword in EXACT | UIDS:
        return elem.value
    if elem.keyword in WHOLE_OR_EMPTY:
        return elem.value if elem.value == text(str(elem.value), elem.VR) else ""
    values = list(elem.value) if isinstance(elem.value, MultiValue) else [elem.value]
    if elem.VR == "PN":
        return person_name(" ".join(str(v) for v in values))
    if len(values) > 1 and dictionary_VM(elem.tag) == "1":
        if elem.VR not in LIMITS:
            return None
        # A backslash inside a single-valued text only looks like several values.
        values = [" ".join(str(v) for v in values)]
    if elem.VR in BINARY:
        return elem.value
    kept = [_single(elem.VR, v) for v in values]
    if None in kept:
        return None
    return kept if len(kept) > 1 else kept[0]


def _single(vr: str, value: Any) -> Any:
    if vr in LIMITS:
        return text(str(value), vr)
    if vr == "DA":
        return normal_date(str(value))
    if vr == "TM":
        return normal_time(str(value))
    if vr == "CS":
        value = str(value).strip().upper()
    if vr == "DS":
        # More than 16 characters are common where software printed a double.
        value = format_number_as_ds(float(value)) if len(str(value)) > 16 else str(value)
    if vr == "IS":
        value = str(int(value))
    validate_value(vr, value, config.RAISE)
    return value


def _complete(item: Dataset, keyword: str) -> bool:
    """Whether an item can stand: PS3.3 8.8 asks for three values of a code, C.17-3 and 10-11 for two of a reference."""
    if keyword.endswith("CodeSequence"):
        coded = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
        schemed = item.get("CodingSchemeDesignator") or item.get("URNCodeValue")
        return bool(coded and schemed and item.get("CodeMeaning"))
    if keyword.startswith("Referenced"):
        return bool(item.get("ReferencedSOPClassUID") and item.get("ReferencedSOPInstanceUID"))
    return len(item) > 0


def text(value: str, vr: str = "LO") -> str:
    """A text without what its VR forbids: control characters, backslash, too many characters."""
    if vr in PARAGRAPHS:
        return _CONTROL_IN_PARAGRAPH.sub(" ", value).rstrip()[: LIMITS[vr]]
    return _CONTROL.sub(" ", value).replace("\\", " ").strip()[: LIMITS[vr]].strip()


def person_name(value: str) -> PersonName:
    """A name of at most three component groups, five components and 64 characters each (PS3.5 6.2.1)."""
    groups = []
    for group in value.split("=")[:3]:
        clean = _CONTROL.sub(" ", group).replace("\\", " ").strip()
        parts = clean.split("^")
        if len(parts) > 5:
            clean = "^".join([*parts[:4], " ".join(parts[4:])])
        groups.append(clean[:64].strip())
    return PersonName("=".join(groups).rstrip("="))


def normal_date(value: str) -> str:
    """YYYYMMDD of a date, also of the forms 2026-03-01, 2026/03/01 and the retired 2026.03.01; else empty."""
    match = _DATE.fullmatch(value.strip())
    if not match:
        return ""
    year, _, month, day = match.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return ""
    return year + month + day


def normal_time(value: str) -> str:
    """HHMMSS.FFFFFF, as far as given, of a time, also with colons as the retired ACR-NEMA form has it; else empty."""
    match = _TIME.fullmatch(value.strip())
    if not match:
        return ""
    hours, minutes, seconds, fraction = match.groups()
    # PS3.5 Table 6.2-1 allows second 60 for a leap second.
    if int(hours) > 23 or int(minutes or 0) > 59 or int(seconds or 0) > 60:
        return ""
    return hours + (minutes or "") + (seconds or "") + (f".{fraction}" if fraction else "")
