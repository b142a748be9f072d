"""The Structured Report: one Comprehensive 3D SR per job, the machine-readable truth of what was found, or why nothing.

It is never verified and never final: a machine wrote it. `as_text` reads the same tree back for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from node.results import content, header
from node.results.evidence import Subject
from node.results.summary import job_status
from node.results.text import as_text

__all__ = ["KIND", "as_text", "build"]

KIND = header.Kind("sr", "sr", "report", Comprehensive3DSRStorage, "SR", 9001)


def build(subject: Subject, *, visuals: Sequence[Dataset] = ()) -> Dataset:
    """The report of one job, ready to be saved with `enforce_file_format=True`.

    Args:
        subject: the job; the order of its images is the order of the groups.
        visuals: Secondary Captures of the same job; a present finding refers to its image's overlays.

    Raises:
        ResultError: no image, or a score that is not within 0 and 1.
    """
    # The only values that may still be malformed are identifiers, which are passed on as they came.
    with config.disable_value_validation():
        ds = header.start(subject, KIND, about=subject.images, instance_number=max(1, subject.revision), ordinal=1)
        for elem in content.tree(subject, visuals=visuals):
            ds.add(elem)
        _document(ds, subject)
        _evidence(ds, [image.source for image in subject.images], visuals)
        _private_schemes(ds, subject)
        return header.finish(ds)


def _document(ds: Dataset, subject: Subject) -> None:
    """SR Document General and Series Modules (PS3.3 C.17.1, C.17.2)."""
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    status = job_status(subject)
    if status != "analysed":
        ds.CompletionFlagDescription = content.STATUS[status].meaning
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    requests = _requests(subject.source)
    if requests:
        ds.ReferencedRequestSequence = requests
    if subject.predecessors:
        ds.PredecessorDocumentsSequence = _hierarchy(
            (p.study_instance_uid, p.series_instance_uid, p.sop_class_uid, p.sop_instance_uid)
            for p in subject.predecessors
        )


def _requests(source: Dataset) -> list[Dataset]:
    """The orders that the images answer (Table C.17-2, type 1C), so that the result finds its order."""
    given = list(source.get("RequestAttributesSequence", []))
    if not given and not source.AccessionNumber:
        return []
    items = []
    for request in given or [Dataset()]:
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
        items.append(item)
    return items


def _evidence(ds: Dataset, sources: Sequence[Dataset], visuals: Sequence[Dataset]) -> None:
    """Every object that the tree refers to (PS3.3 C.17.2.3)."""
    named = set(_referenced(ds))
    ds.CurrentRequestedProcedureEvidenceSequence = _hierarchy(
        (str(o.StudyInstanceUID), str(o.SeriesInstanceUID), str(o.SOPClassUID), str(o.SOPInstanceUID))
        for o in (*sources, *visuals)
        if str(o.SOPInstanceUID) in named
    )


def _referenced(item: Dataset) -> Iterable[str]:
    for reference in item.get("ReferencedSOPSequence", []):
        yield str(reference.ReferencedSOPInstanceUID)
    for child in item.get("ContentSequence", []):
        yield from _referenced(child)


def _hierarchy(objects: Iterable[tuple[str, str, str, str]]) -> list[Dataset]:
    """Hierarchical SOP Instance References (Table C.17-3) of (study, series, class, instance) UIDs."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for study, series, sop_class, instance in objects:
        studies.setdefault(study, {}).setdefault(series, {})[instance] = sop_class
    items = []
    for study, by_series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = [_series_item(series, found) for series, found in by_series.items()]
        items.append(item)
    return items


def _series_item(series: str, instances: dict[str, str]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series
    item.ReferencedSOPSequence = []
    for instance, sop_class in instances.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class
        reference.ReferencedSOPInstanceUID = instance
        item.ReferencedSOPSequence.append(reference)
    return item


def _private_schemes(ds: Dataset, subject: Subject) -> None:
    """Who is responsible for the codes that no public scheme has (PS3.3 C.12.1, designators that begin with 99)."""
    findings = [f for image in subject.images for f in image.reading.findings]
    used = [subject.model.body_part, *(code for f in findings for code in (f.finding, f.site))]
    private = sorted({code.scheme for code in used if code.scheme.startswith("99")})
    if private:
        ds.CodingSchemeIdentificationSequence = [_scheme(designator) for designator in private]


def _scheme(designator: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = designator
    item.CodingSchemeName = f"Private codes of {header.PRODUCT} and its models"
    item.CodingSchemeResponsibleOrganization = header.PRODUCT
    return item
