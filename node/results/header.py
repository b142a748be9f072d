"""What every result has in common: patient and study from the source, series, equipment and provenance from the node.

All modules are written here by hand, so nothing depends on the clock or on chance. The objects' own content (a report's
tree, a picture's pixels) belongs to their modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.results import uids
from node.results.evidence import PATIENT, STUDY, TYPE_2, UTF_8, Evidence, Subject, encodable
from node.results.repair import text

PRODUCT = "Overread"
RESEARCH_ONLY = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"
NAME_LENGTH = 32
# What comes from the source: modules, the orders that it answers, the devices that made it.
INHERITED = frozenset({*PATIENT, *STUDY, "ReferencedRequestSequence", "ContributingEquipmentSequence"})
TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
# PS3.16 Annex L: body parts of which there is one; Laterality (0020,0060) may not be sent for them.
UNPAIRED = frozenset(
    (
        "ABDOMEN ABDOMENPELVIS AORTA BLADDER BRAIN CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS COCCYX COLON CSPINE "
        "CTSPINE DUODENUM ESOPHAGUS FACE GALLBLADDER HEAD HEADNECK HEART JAW LARYNX LIVER LSPINE LSSPINE MEDIASTINUM "
        "NECK NECKCHEST PANCREAS PELVIS PENIS PHARYNX PROSTATE RECTUM SCALP SKULL SPINE SPLEEN SSPINE STERNUM STOMACH "
        "THYMUS THYROID TLSPINE TRACHEA TSPINE UTERUS VAGINA VULVA WHOLEBODY"
    ).split()
)


@dataclass(frozen=True)
class Kind:
    """One sort of result object; `name` goes into its instances' UIDs, `series` into that of their series."""

    name: str
    series: str
    title: str
    sop_class_uid: UID
    modality: str
    series_number: int
    dated: bool = True
    """Whether it is another object when it is made at another time."""


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
        inputs=[*((image.name, image.digest) for image in images), *([(subject.choice, "")] if subject.choice else [])],
        bundle_digest=model.digest,
        settings_digest=model.settings_digest,
        version=subject.device.version,
        revision=subject.revision,
        ordinal=ordinal,
        route=subject.route,
        context=_context(subject) if kind.dated else (),
    )
    # The same series over all revisions: so nothing that changes with a revision, such as SeriesDate, is in it.
    bundle_ref = f"{model.name}-{model.version}"
    ds.SeriesInstanceUID = uids.series_uid(
        str(ds.StudyInstanceUID), kind.series, bundle_ref, route=subject.route, source=subject.series_instance_uid
    )
    ds.SeriesNumber = kind.series_number
    ds.SeriesDescription = text(f"AI {kind.title}, {_described(subject)} - RESEARCH USE ONLY")
    ds.Modality = kind.modality
    ds.InstanceNumber = instance_number
    ds.ContentQualification = "RESEARCH"
    _equipment(ds, subject)
    _dates(ds, subject)
    ds.ContributingEquipmentSequence = [*_acquisition_equipment(images), _processing_equipment(subject)]
    return ds


def _described(subject: Subject) -> str:
    """The model's name, as several may read the same study, and which series was read; at most `NAME_LENGTH`."""
    number = str(subject.source.get("SeriesNumber") or "")[:10]
    series = f", series {number}" if number and subject.series_instance_uid else ""
    return f"{subject.model.name[: NAME_LENGTH - len(series)]}{series}"


def _context(subject: Subject) -> list[str]:
    """What a job's objects say beside what each is about: one name may never stand for two texts."""
    images = [f"{image.name} {image.digest}" for image in subject.images]
    before = [predecessor.sop_instance_uid for predecessor in subject.predecessors]
    return [subject.when.isoformat(), "images", *images, "missing", *subject.missing, "before", *before]


def finish(ds: Dataset) -> Dataset:
    """Choose the character set that holds every text and write the file meta information.

    Raises nothing: a text that the source's set cannot hold moves the whole object to UTF-8.
    """
    if not encodable(ds, ds.get("SpecificCharacterSet", "")) or (
        # What stands there undeclared is Latin-1 at best: a text of ours that is not ASCII needs a declaration
        "SpecificCharacterSet" not in ds and not all(value.isascii() for _, value in our_texts(ds))
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


def our_texts(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Keyword and value of every text that the node wrote itself, at any depth; what is inherited or coded is not."""
    for elem in ds:
        if elem.keyword in INHERITED or elem.keyword == "CodeMeaning":
            continue
        if elem.VR == "SQ":
            for item in elem.value:
                yield from our_texts(item)
        elif elem.VR in TEXTS and not elem.is_empty:
            values = elem.value if isinstance(elem.value, MultiValue) else [elem.value]
            yield from ((elem.keyword, str(value)) for value in values)


def body_part(ds: Dataset, sources: Sequence[Dataset]) -> None:
    """The body part of these images, and the side of one that may be a paired one."""
    if sources[0].get("BodyPartExamined"):
        ds.BodyPartExamined = sources[0].BodyPartExamined
    if str(ds.get("BodyPartExamined", "")) not in UNPAIRED:
        # Type 2C: the sources' word, or empty.
        sides = {str(source.get("Laterality", "")) for source in sources}
        ds.Laterality = sides.pop() if len(sides) == 1 and sides <= {"L", "R"} else ""


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


def references(images: Iterable[Evidence]) -> list[Dataset]:
    """Image SOP Instance References (PS3.3 10-3): each instance once, with its frames where it has several."""
    items: dict[str, Dataset] = {}
    for image in images:
        item = items.setdefault(str(image.source.SOPInstanceUID), reference(image.source))
        if image.frame_number is not None:
            item.ReferencedFrameNumber = [*_frame_numbers(item), image.frame_number]
    return list(items.values())


def _frame_numbers(item: Dataset) -> list[int]:
    numbers = item.get("ReferencedFrameNumber") or []
    return [int(numbers)] if isinstance(numbers, int) else [int(n) for n in numbers]


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
            # A copy: what is changed in the one must not change in the other, or the self-check is blind to it
            ds.add(deepcopy(source[keyword]))


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
