"""The Key Object Selection: the flagged films and the pictures of them, marked as of interest (TID 2010).

It only ever points to what to look at. A document that takes objects back has another title and another reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from highdicom import ko
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.errors import ResultError
from node.results import content, header
from node.results.evidence import Evidence, Subject
from node.results.references import list_evidence, list_requests, named
from node.results.repair import text
from node.results.summary import figure, flagged, model_name, model_notes, names, place

KIND = header.Kind("kos", "kos", "key images", KeyObjectSelectionDocumentStorage, "KO", 9004)


def build(subject: Subject, images: Sequence[Evidence], *, visuals: Sequence[Dataset] = ()) -> Dataset:
    """The flagged images of one job as key objects.

    Args:
        subject: the job.
        images: those of its images that are flagged; at least one.
        visuals: the Secondary Captures of these images.

    Raises:
        ResultError: no image is flagged.
    """
    if not images:
        raise ResultError("a key object selection needs a flagged image")
    with config.disable_value_validation():
        ds = header.start(subject, KIND, about=subject.images, instance_number=max(1, subject.revision), ordinal=1)
        sources = {str(image.source.SOPInstanceUID): image.source for image in images}
        objects = [*sources.values(), *visuals]
        document(ds, subject, codes.DCM.OfInterest, objects, description=_description(subject, images))
        for item in ds.ContentSequence:
            _name_frames(item, images)
        return header.finish(ds)


def document(ds: Dataset, subject: Subject, title: DicomCode, objects: Sequence[Dataset], *, description: str) -> None:
    """Make a started data set a Key Object Selection Document (PS3.3 A.35.4) of these objects."""
    tree = ko.KeyObjectSelection(
        title, objects, observer_device_context=content.observer(subject), description=text(description, "UT")
    )
    for elem in tree[0]:
        ds.add(elem)
    ds.ReferencedPerformedProcedureStepSequence = []
    list_requests(ds, subject.source)
    list_evidence(ds, map(named, objects))


def _description(subject: Subject, images: Sequence[Evidence]) -> str:
    """PS3.16 (113012, DCM, "Key Object Description")."""
    lines = [f"Flagged by {model_name(subject)}. {header.RESEARCH_ONLY}. Not verified by a physician."]
    lines += [f"{note.rstrip('.')}." for note in model_notes(subject)]
    for image in images:
        name = names(image.reading.findings)
        said = ", ".join(f"{name[f.label]} {figure(f)}" for f in flagged(image.reading.findings))
        lines.append(f"{place(subject, image)} {said}.".strip())
    return "\r\n".join(lines)


def _name_frames(item: Any, images: Sequence[Evidence]) -> None:
    """Which frames of a multi-frame image are meant."""
    for reference in item.get("ReferencedSOPSequence", []):
        uid = reference.ReferencedSOPInstanceUID
        numbers = [
            image.frame_number
            for image in images
            if image.frame_number is not None and image.source.SOPInstanceUID == uid
        ]
        if numbers:
            reference.ReferencedFrameNumber = numbers
