"""What every result has in common: patient and study from the source, series, equipment and provenance from the node.

All modules are written here by hand, so nothing depends on the clock or on chance. The objects' own content (a report's
tree, a picture's pixels) belongs to their modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.results import uids
from node.results.evidence import PATIENT, STUDY, TYPE_2, UTF_8, Evidence, Subject, encodable
from node.results.repair import text

PRODUCT = "Overread"
RESEARCH_ONLY = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"
NAME_LENGTH = 32


@dataclass(frozen=True)
class Kind:
    """One sort of result object; `name` goes into its instances' UIDs, `series` into that of their series."""

    name: str
    series: str
    title: str
    sop_class_uid: UID
    modality: str
    series_number: int


def start(subject: Subject, kind: Kind, *, about: Iterable[Evidence], instance_number: int, ordinal: int) -> Dataset:
    """A data set with file meta and every module that is not about content.

    Args:
        subject: the job.
        kind: what the object is.
        about: the images that its UID and its acquisition equipment come from.
        instance_number: InstanceNumber, 1 or more.
        ordinal: which of several objects of this kind; goes into the UID.
    """
    images = tuple(about)
    ds = Dataset()
    _inherit(ds, subject.source)
    model = subject.model
    ds.SOPClassUID = kind.sop_class_uid
    ds.SOPInstanceUID = uids.result_uid(
        kind=kind.name,
        inputs=[(str(image.source.SOPInstanceUID), image.digest) for image in images],
        bundle_digest=model.digest,
        settings_digest=model.settings_digest,
        version=subject.device.version,
        revision=subject.revision,
        ordinal=ordinal,
        route=subject.route,
        context=_context(subject),
    )
    # The same series over all revisions: so nothing that changes with a revision, such as SeriesDate, is in it.
    bundle_ref = f"{model.name}-{model.version}"
    ds.SeriesInstanceUID = uids.series_uid(str(ds.StudyInstanceUID), kind.series, bundle_ref, route=subject.route)
    ds.SeriesNumber = kind.series_number
    # By the model's name, as several may read the same study; cut so that the rest fits into 64 characters
    ds.SeriesDescription = text(f"AI {kind.title}, {model.name[:NAME_LENGTH]} - RESEARCH USE ONLY")
    ds.Modality = kind.modality
    ds.InstanceNumber = instance_number
    ds.ContentQualification = "RESEARCH"
    _equipment(ds, subject)
    _dates(ds, subject)
    ds.ContributingEquipmentSequence = [*_acquisition_equipment(images), _processing_equipment(subject)]
    return ds


def _context(subject: Subject) -> list[str]:
    """What a job's objects say beside what each is about: one name may never stand for two texts."""
    images = [f"{image.source.SOPInstanceUID} {image.digest}" for image in subject.images]
    before = [predecessor.sop_instance_uid for predecessor in subject.predecessors]
    return [subject.when.isoformat(), "images", *images, "missing", *subject.missing, "before", *before]


def finish(ds: Dataset) -> Dataset:
    """Choose the character set that holds every text and write the file meta information.

    Raises nothing: a text that the source's set cannot hold moves the whole object to UTF-8.
    """
    if not encodable(ds, ds.get("SpecificCharacterSet", "")) or (
        "SpecificCharacterSet" not in ds and _ours_is_wide(ds)
    ):
        ds.SpecificCharacterSet = UTF_8
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(uids.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = f"OVERREAD_{ds.SoftwareVersions[0].removeprefix(PRODUCT).strip()}"[:16]
    ds.file_meta = meta
    return ds


def _ours_is_wide(ds: Dataset) -> bool:
    """Whether a text of the node itself is not ASCII, which an undeclared character set cannot say."""
    ours = (ds.get("InstitutionName"), ds.SeriesDescription, *ds.SoftwareVersions, *_content_texts(ds))
    return not all(str(value or "").isascii() for value in ours)


def _content_texts(ds: Dataset) -> Iterable[str]:
    for item in ds.get("ContentSequence", []):
        yield str(item.get("TextValue", ""))
        yield from _content_texts(item)


def coded(code: DicomCode) -> Dataset:
    """A Code Sequence item (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def reference(ds: Dataset) -> Dataset:
    """An SOP Instance Reference (PS3.3 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = ds.SOPClassUID
    item.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    return item


def local(subject: Subject) -> datetime:
    """The moment of the result on the source's clock where the source names its time zone, else as it was given.

    PS3.3 C.12.1.1.8: one offset speaks for all dates and times of an object, and the inherited ones are the source's.
    """
    offset = _offset(subject.source)
    return subject.when if offset is None else subject.when.astimezone(offset)


def _offset(source: Dataset) -> timezone | None:
    value = str(source.get("TimezoneOffsetFromUTC", ""))
    if len(value) != 5 or value[0] not in "+-" or not value[1:].isdigit() or int(value[1:3]) > 14:
        return None
    delta = timedelta(hours=int(value[1:3]), minutes=int(value[3:5]))
    return timezone(delta if value[0] == "+" else -delta)


def _inherit(ds: Dataset, source: Dataset) -> None:
    for keyword in ("SpecificCharacterSet", *PATIENT, *STUDY):
        if keyword in source and (keyword in TYPE_2 or not source[keyword].is_empty):
            ds.add(source[keyword])


def _equipment(ds: Dataset, subject: Subject) -> None:
    device, model = subject.device, subject.model
    ds.Manufacturer = PRODUCT
    ds.ManufacturerModelName = PRODUCT
    if device.organisation:
        ds.InstitutionName = text(device.organisation)
    ds.StationName = text(device.ae_title, "SH")
    ds.DeviceSerialNumber = text(device.serial)
    ds.DeviceUID = uids.device_uid(device.serial)
    ds.SoftwareVersions = [text(f"{PRODUCT} {device.version}"), text(f"{model.name} {model.version}")]


def _dates(ds: Dataset, subject: Subject) -> None:
    when = local(subject)
    ds.InstanceCreationDate = ds.ContentDate = when.strftime("%Y%m%d")
    ds.InstanceCreationTime = ds.ContentTime = when.strftime("%H%M%S")
    if _offset(subject.source) is not None:
        ds.TimezoneOffsetFromUTC = subject.source.TimezoneOffsetFromUTC


def _acquisition_equipment(images: Iterable[Evidence]) -> list[Dataset]:
    """One item per device that made the images; a device without Manufacturer (type 1 here) cannot be named."""
    keywords = ("Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber")
    seen: dict[tuple[str, ...], Dataset] = {}
    for image in images:
        source = image.source
        key = tuple(str(source.get(k) or "") for k in keywords)
        if not key[0] or key in seen:
            continue
        item = Dataset()
        item.PurposeOfReferenceCodeSequence = [coded(codes.DCM.AcquisitionEquipment)]
        for keyword in (*keywords, "SoftwareVersions"):
            if source.get(keyword):
                item.add(source[keyword])
        seen[key] = item
    return list(seen.values())


def _processing_equipment(subject: Subject) -> Dataset:
    device, model = subject.device, subject.model
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [coded(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = PRODUCT
    item.ManufacturerModelName = PRODUCT
    item.StationName = text(device.ae_title, "SH")
    item.DeviceSerialNumber = text(device.serial)
    item.SoftwareVersions = [text(f"{PRODUCT} {device.version}"), text(f"{model.name} {model.version}")]
    item.ContributionDateTime = local(subject).strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = text(f"AI inference, {model.name} {model.version}. {RESEARCH_ONLY}", "ST")
    return item
