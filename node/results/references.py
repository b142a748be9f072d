"""References between objects: what a document refers to, in the forms in which the Standard wants it listed.

Shared by all documents with a content tree. Knows UIDs only, never files or rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom.dataset import Dataset

Named = tuple[str, str, str, str]
"""Study, Series, SOP Class and SOP Instance UID of an object."""


def named(ds: Dataset) -> Named:
    return str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID), str(ds.SOPClassUID), str(ds.SOPInstanceUID)


def hierarchy(objects: Iterable[Named]) -> list[Dataset]:
    """Hierarchical SOP Instance References (PS3.3 Table C.17-3)."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for study, series, sop_class, instance in objects:
        studies.setdefault(study, {}).setdefault(series, {})[instance] = sop_class
    items = []
    for study, by_series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = [_series(series, found) for series, found in by_series.items()]
        items.append(item)
    return items


def _series(series: str, instances: dict[str, str]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series
    item.ReferencedSOPSequence = []
    for instance, sop_class in instances.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class
        reference.ReferencedSOPInstanceUID = instance
        item.ReferencedSOPSequence.append(reference)
    return item


def referenced(item: Dataset) -> Iterable[str]:
    """The SOP Instance UIDs that a content tree refers to."""
    for reference in item.get("ReferencedSOPSequence", []):
        yield str(reference.ReferencedSOPInstanceUID)
    for child in item.get("ContentSequence", []):
        yield from referenced(child)


def list_evidence(ds: Dataset, objects: Iterable[Named]) -> None:
    """Give a document its evidence: those of the objects that its tree refers to (PS3.3 C.17.2.3)."""
    wanted = set(referenced(ds))
    ds.CurrentRequestedProcedureEvidenceSequence = hierarchy(o for o in objects if o[3] in wanted)


def list_requests(ds: Dataset, source: Dataset) -> None:
    """The orders that the images answer (PS3.3 Table C.17-2, type 1C), so that a document finds its order."""
    given: Sequence[Dataset] = list(source.get("RequestAttributesSequence", []))
    if not given and not source.AccessionNumber:
        return
    ds.ReferencedRequestSequence = [_request(request, source) for request in given or [Dataset()]]


def _request(request: Dataset, source: Dataset) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = request.get("StudyInstanceUID") or source.StudyInstanceUID
    item.ReferencedStudySequence = []
    item.AccessionNumber = request.get("AccessionNumber") or source.AccessionNumber
    item.PlacerOrderNumberImagingServiceRequest = ""
    item.FillerOrderNumberImagingServiceRequest = ""
    item.RequestedProcedureID = request.get("RequestedProcedureID", "")
    wanted = request.get("RequestedProcedureDescription") or source.get("RequestedProcedureDescription", "")
    item.RequestedProcedureDescription = wanted
    item.RequestedProcedureCodeSequence = list(request.get("RequestedProcedureCodeSequence", []))
    return item
