"""The Structured Report: one Comprehensive 3D SR per job, the machine-readable truth of what was found, or why nothing.

It is never verified and never final: a machine wrote it. `as_text` reads the same tree back for people.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from node.results import content, header
from node.results.evidence import Subject
from node.results.references import hierarchy, list_evidence, list_requests, named
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
        list_evidence(ds, map(named, (*(image.source for image in subject.images), *visuals)))
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
    list_requests(ds, subject.source)
    if subject.predecessors:
        ds.PredecessorDocumentsSequence = hierarchy(
            (p.study_instance_uid, p.series_instance_uid, p.sop_class_uid, p.sop_instance_uid)
            for p in subject.predecessors
        )


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
