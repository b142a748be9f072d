"""The withdrawal: a Key Object Selection by which the node takes its own objects of one job back.

Its title is "Rejected for Quality Reasons" (IHE RAD TF-1, Imaging Object Change Management), and whoever honours it
hides what it refers to: it refers to objects that this node made, never to an image that somebody sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import KeyObjectSelectionDocumentStorage, SecondaryCaptureImageStorage

from models.findings import Reading
from node.errors import ResultError
from node.results import header, kos
from node.results.evidence import PATIENT, STUDY, Device, Evidence, Model, Subject

# Not dated: a withdrawal that was cut off and is made again later is the same one
KIND = header.Kind("withdrawal", "withdrawal", "withdrawal", KeyObjectSelectionDocumentStorage, "KO", 9009, dated=False)
INHERITED = (*PATIENT, *STUDY, "SpecificCharacterSet", "TimezoneOffsetFromUTC", "RequestAttributesSequence")


@dataclass(frozen=True)
class Withdrawn:
    """An object of ours, as a destination may have it."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    digest: str


def subject_of(
    source: Dataset,
    objects: Sequence[Withdrawn],
    *,
    device: Device,
    model: Model,
    revision: int,
    route: str,
    when: datetime,
) -> Subject:
    """What a withdrawal is about: our own objects in the place of images, patient and study from `source`."""
    images = tuple(Evidence(_standing_for(one, source), one.digest, Reading("refused"), None) for one in objects)
    return Subject(device=device, model=model, images=images, revision=revision, when=when, route=route, shadow=False)


def build(subject: Subject, number: int = 1) -> Dataset:
    """The document, one of the job's withdrawals by its number, ready to be saved with `enforce_file_format=True`.

    Raises:
        ResultError: there is nothing to withdraw.
    """
    if not subject.images:
        raise ResultError("a withdrawal needs an object to take back")
    with config.disable_value_validation():
        ds = header.start(subject, KIND, about=subject.images, instance_number=max(1, subject.revision), ordinal=number)
        objects = [image.source for image in subject.images]
        kos.document(ds, subject, codes.DCM.RejectedForQualityReasons, objects, description=_description(subject))
        return header.finish(ds)


def _standing_for(one: Withdrawn, source: Dataset) -> Dataset:
    """A header that names one of our objects and its patient and study, and nothing else."""
    ds = Dataset()
    for keyword in INHERITED:
        if keyword in source:
            ds.add(source[keyword])
    ds.SOPClassUID, ds.SOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
    ds.SeriesInstanceUID = one.series_instance_uid
    if one.sop_class_uid == SecondaryCaptureImageStorage:
        # An image is referred to by another type of content item than a document is (PS3.16 TID 2010)
        ds.Rows = ds.Columns = 1
    return ds


def _description(subject: Subject) -> str:
    """PS3.16 (113012, DCM, "Key Object Description")."""
    model = f"{subject.model.name} {subject.model.version}"
    return f"Withdrawn: the results of {model} on this study must not be used. {header.RESEARCH_ONLY}."
