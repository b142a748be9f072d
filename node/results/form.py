"""A result in the form that a destination takes: another SR class with the same content, another transfer syntax.

The same result in the same form is the same bytes at every time. What a class does not allow is never left out: then
there is no such form.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

from node.domain import Pair
from node.errors import ResultError
from node.results import uids

SR_CLASSES = (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)
"""From what IHE AI Results asks for to what old systems know."""
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
CLASSES: Mapping[str, tuple[UID, ...]] = {
    "sr": SR_CLASSES,
    "sc": (SecondaryCaptureImageStorage,),
    "gsps": (GrayscaleSoftcopyPresentationStateStorage,),
    "kos": (KeyObjectSelectionDocumentStorage,),
    "pdf": (EncapsulatedPDFStorage,),
}
"""The SOP classes of each kind of result, most wanted first."""

_VALUES = frozenset("TEXT CODE NUM DATETIME DATE TIME UIDREF PNAME".split())
_OBJECTS = frozenset("IMAGE WAVEFORM COMPOSITE".split())
_PLACES = frozenset("SCOORD TCOORD".split())
# PS3.3 Tables A.35.2-1 and A.35.2-2: which value types of an Enhanced SR may stand in which relationship.
_ENHANCED: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "CONTAINS": (frozenset({"CONTAINER"}), _VALUES | _OBJECTS | _PLACES | {"CONTAINER"}),
    "HAS OBS CONTEXT": (frozenset({"CONTAINER"}), _VALUES | {"COMPOSITE"}),
    "HAS ACQ CONTEXT": (_OBJECTS | {"CONTAINER"}, _VALUES | {"CONTAINER"}),
    "HAS CONCEPT MOD": (_VALUES | _OBJECTS | _PLACES | {"CONTAINER"}, frozenset({"TEXT", "CODE"})),
    "HAS PROPERTIES": (frozenset({"TEXT", "CODE", "NUM"}), _VALUES | _OBJECTS | _PLACES),
    "INFERRED FROM": (frozenset({"TEXT", "CODE", "NUM"}), _VALUES | _OBJECTS | _PLACES),
    "SELECTED FROM": (_PLACES, frozenset({"IMAGE", "WAVEFORM", "SCOORD"})),
}
# Value types that only the Comprehensive 3D SR has (PS3.3 Table A.35.13-1).
_ONLY_3D = frozenset({"SCOORD3D", "TABLE"})


def pairs(sop_class_uid: str) -> tuple[Pair, ...]:
    """The forms of a result of this class, most wanted first: SOP Class UID and Transfer Syntax UID of each.

    The class counts more than the transfer syntax: ours hold no private attributes, so that Implicit VR loses nothing.
    """
    classes = SR_CLASSES if sop_class_uid in SR_CLASSES else (sop_class_uid,)
    return tuple((str(one), str(syntax)) for one in classes for syntax in SYNTAXES)


def instance_uid(sop_instance_uid: str, *, original_class: str, sop_class_uid: str) -> str:
    """The SOP Instance UID of a result as one of its forms."""
    same = sop_class_uid == original_class
    return sop_instance_uid if same else uids.form_uid(sop_instance_uid, sop_class_uid)


def make(path: Path, sop_class_uid: str, transfer_syntax_uid: str) -> bytes:
    """The Part 10 bytes of a stored result in another form.

    Raises:
        ResultError: the content is not allowed in that class.
        OSError: the stored file cannot be read.
    """
    # As in `sr.build`: identifiers that came malformed are passed on as they came.
    with config.disable_value_validation():
        ds = dcmread(path)
        if ds.SOPClassUID != sop_class_uid:
            _tell_as(ds, sop_class_uid)
        ds.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
        buffer = io.BytesIO()
        implicit = transfer_syntax_uid == ImplicitVRLittleEndian
        ds.save_as(buffer, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def _tell_as(ds: Dataset, sop_class_uid: str) -> None:
    """Make it an object of another SR class, as are those that it follows."""
    if wrong := unfit(ds, sop_class_uid):
        raise ResultError(f"the report cannot be told as {UID(sop_class_uid).name}: {wrong}")
    original = str(ds.SOPClassUID)
    for reference in _predecessors(ds):
        if reference.ReferencedSOPClassUID == original:
            reference.ReferencedSOPClassUID = UID(sop_class_uid)
            reference.ReferencedSOPInstanceUID = uids.form_uid(str(reference.ReferencedSOPInstanceUID), sop_class_uid)
    ds.SOPInstanceUID = uids.form_uid(str(ds.SOPInstanceUID), sop_class_uid)
    ds.SOPClassUID = UID(sop_class_uid)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID


def _predecessors(ds: Dataset) -> Iterator[Dataset]:
    for study in ds.get("PredecessorDocumentsSequence", []):
        for series in study.ReferencedSeriesSequence:
            yield from series.ReferencedSOPSequence


def unfit(ds: Dataset, sop_class_uid: str) -> str:
    """The first content item that this SR class does not allow, in words; empty when all are allowed."""
    if ds.SOPClassUID not in SR_CLASSES or sop_class_uid not in SR_CLASSES:
        return f"{UID(ds.SOPClassUID).name} has no other form"
    return next(_unfit(ds, sop_class_uid), "")


def _unfit(item: Dataset, sop_class_uid: str) -> Iterator[str]:
    for child in item.get("ContentSequence", []):
        relation = str(child.RelationshipType)
        source, target = str(item.ValueType), str(child.get("ValueType", ""))
        if sop_class_uid != Comprehensive3DSRStorage and target in _ONLY_3D:
            yield f"it has no value type {target}"
        elif sop_class_uid == EnhancedSRStorage:
            # PS3.3 A.35.2.3.2: relationships are by value only.
            if "ReferencedContentItemIdentifier" in child:
                yield "it has no relationships by reference"
            sources, targets = _ENHANCED.get(relation, (frozenset(), frozenset()))
            if source not in sources or target not in targets:
                yield f"{source} {relation} {target} is not in it"
        yield from _unfit(child, sop_class_uid)
