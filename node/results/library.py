"""The Image Library of a report (TID 1600) and the procedure that it reports, from headers that may lack anything.

Written by hand because highdicom's library asks for attributes that most Computed Radiography images do not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from node.results.evidence import Evidence

CONTAINS = sr.RelationshipTypeValues.CONTAINS
CONTEXT = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
SOURCE = DicomCode("260753009", "SCT", "Source")
PIXELS = DicomCode("{pixels}", "UCUM", "Pixels")
# PS3.16 CID 29 Acquisition Modality, by code value.
MODALITIES = {code.value: code for code in (getattr(codes.cid29, name) for name in codes.cid29.dir())}
# PS3.16 CID 100: the procedure when the source names none.
PROCEDURES = {
    "CT": DicomCode("25045-6", "LN", "CT unspecified body region"),
    "MR": DicomCode("25056-3", "LN", "MRI unspecified body region"),
    "NM": DicomCode("49118-3", "LN", "NM unspecified body region"),
    "PT": DicomCode("44136-0", "LN", "PET unspecified body region"),
    **dict.fromkeys(("CR", "DX", "RG", "MG", "RF", "XA"), DicomCode("43468-8", "LN", "XR unspecified body region")),
}
IMAGING_PROCEDURE = DicomCode("363679005", "SCT", "Imaging procedure")


def procedure_reported(source: Dataset) -> DicomCode:
    """The procedure of the study as the source codes it, else the unspecific one of its modality."""
    requests = source.get("RequestAttributesSequence", [])
    sequences = [
        source.get("ProcedureCodeSequence", []),
        *(r.get("RequestedProcedureCodeSequence", []) for r in requests),
    ]
    for item in (item for sequence in sequences for item in sequence):
        if item.get("CodeValue"):
            return DicomCode(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
    return PROCEDURES.get(str(source.Modality) if "Modality" in source else "", IMAGING_PROCEDURE)


def image_library(images: Sequence[Evidence]) -> Any:
    """One group for each modality and date, and in it each image with what its header validly says."""
    library = sr.ContainerContentItem(name=codes.DCM.ImageLibrary, relationship_type=CONTAINS)
    groups: dict[tuple[str, str], Any] = {}
    frames: dict[str, list[int]] = {}
    sources = {str(image.source.SOPInstanceUID): image.source for image in images}
    for image in images:
        if image.frame_number is not None:
            frames.setdefault(str(image.source.SOPInstanceUID), []).append(image.frame_number)
    for uid, source in sources.items():
        key = (str(source.get("Modality", "")), str(source.StudyDate))
        if key not in groups:
            groups[key] = _group(*key)
        groups[key].ContentSequence.append(_entry(source, frames.get(uid, [])))
    library.ContentSequence = sr.ContentSequence(groups.values())
    return library


def _group(modality: str, study_date: str) -> Any:
    group = sr.ContainerContentItem(name=codes.DCM.ImageLibraryGroup, relationship_type=CONTAINS)
    items: list[Any] = []
    if modality in MODALITIES:
        name, value = codes.DCM.Modality, MODALITIES[modality]
        items.append(sr.CodeContentItem(name=name, value=value, relationship_type=CONTEXT))
    if study_date:
        items.append(sr.DateContentItem(name=codes.DCM.StudyDate, value=study_date, relationship_type=CONTEXT))
    group.ContentSequence = sr.ContentSequence(items)
    return group


def _entry(source: Dataset, frames: Sequence[int]) -> Any:
    entry = sr.ImageContentItem(
        name=SOURCE,
        referenced_sop_class_uid=source.SOPClassUID,
        referenced_sop_instance_uid=source.SOPInstanceUID,
        referenced_frame_numbers=list(frames) or None,
        relationship_type=CONTAINS,
    )
    descriptors = list(_descriptors(source))
    if descriptors:
        entry.ContentSequence = sr.ContentSequence(descriptors)
    return entry


def _descriptors(source: Dataset) -> Iterator[Any]:
    def number(name: DicomCode, value: float, unit: DicomCode) -> Any:
        return sr.NumContentItem(name=name, value=value, unit=unit, relationship_type=CONTEXT)

    rows, columns = source.get("Rows"), source.get("Columns")
    if isinstance(rows, int) and isinstance(columns, int) and rows > 0 and columns > 0:
        yield number(codes.DCM.PixelDataRows, rows, PIXELS)
        yield number(codes.DCM.PixelDataColumns, columns, PIXELS)
    toward = orientation(source)
    if toward:
        for name, value in zip(
            (codes.DCM.PatientOrientationRow, codes.DCM.PatientOrientationColumn), toward, strict=True
        ):
            yield sr.TextContentItem(name=name, value=value, relationship_type=CONTEXT)
    spacing: Sequence[Any] = source.get("ImagerPixelSpacing") or source.get("PixelSpacing") or []
    if len(spacing) == 2 and all(float(s) > 0 for s in spacing):
        yield number(codes.DCM.HorizontalPixelSpacing, float(spacing[1]), codes.UCUM.Millimeter)
        yield number(codes.DCM.VerticalPixelSpacing, float(spacing[0]), codes.UCUM.Millimeter)


def orientation(source: Dataset) -> list[str]:
    """The two values of Patient Orientation (0020,0020), or nothing when the source does not say both."""
    values = source.get("PatientOrientation") or ()
    found = [str(v) for v in values] if not isinstance(values, str) else []
    return found if len(found) == 2 and all(found) else []
