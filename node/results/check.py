"""The self-check: an object is read back and held against what it must be, before it may leave.

It sees the bytes that would be sent. What it finds is said by keyword and never by value, as patient data must not get
into reasons. It changes nothing; who keeps the object decides what becomes of it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom import config, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import PersonName, validate_value

from node.results import uids
from node.results.evidence import PATIENT, STUDY, TYPE_2, Subject
from node.results.header import RESEARCH_ONLY, our_texts
from node.results.identifying import found
from node.results.repair import EXACT, LIMITS, PARAGRAPHS, UNREADABLE

LARGEST = 64 * 1024**2
"""Bytes; ten times the largest that any kind makes of one image."""
# PS3.3: of the mandatory modules of each class, what has to have a value (type 1) and what has to be there (type 2).
ALWAYS_TYPE_1 = "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality InstanceNumber SeriesNumber"
_DOCUMENT_1 = (
    "ContentDate ContentTime ValueType ConceptNameCodeSequence ContinuityOfContent ContentSequence "
    "CurrentRequestedProcedureEvidenceSequence"
)
TYPE_1 = {
    Comprehensive3DSRStorage: f"{_DOCUMENT_1} CompletionFlag VerificationFlag",
    KeyObjectSelectionDocumentStorage: _DOCUMENT_1,
    SecondaryCaptureImageStorage: (
        "ConversionType SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit "
        "PixelRepresentation PixelData"
    ),
    GrayscaleSoftcopyPresentationStateStorage: (
        "ContentLabel PresentationCreationDate PresentationCreationTime ReferencedSeriesSequence "
        "DisplayedAreaSelectionSequence PresentationLUTShape GraphicAnnotationSequence GraphicLayerSequence"
    ),
    EncapsulatedPDFStorage: (
        "ConversionType BurnedInAnnotation MIMETypeOfEncapsulatedDocument EncapsulatedDocument SourceInstanceSequence"
    ),
}
ALSO_TYPE_2 = {
    Comprehensive3DSRStorage: "ReferencedPerformedProcedureStepSequence Manufacturer PerformedProcedureCodeSequence",
    KeyObjectSelectionDocumentStorage: "ReferencedPerformedProcedureStepSequence Manufacturer",
    SecondaryCaptureImageStorage: "PatientOrientation",
    GrayscaleSoftcopyPresentationStateStorage: "Manufacturer ContentDescription ContentCreatorName",
    EncapsulatedPDFStorage: (
        "Manufacturer ContentDate ContentTime AcquisitionDateTime ConceptNameCodeSequence DocumentTitle"
    ),
}
# Not of this job: what the study's module inherits, and the documents that are replaced.
ELSEWHERE = frozenset({"ReferencedStudySequence", "PredecessorDocumentsSequence", "ReferencedRequestSequence"})
EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"


@dataclass(frozen=True)
class Draft:
    """An object that is about to be kept, and the words that are drawn in its pixels or on its pages."""

    ds: Dataset
    words: Sequence[str] = ()

    def texts(self) -> list[str]:
        return [*(value for _, value in our_texts(self.ds)), *self.words]


@dataclass
class _Seen:
    """What one walk through an object comes across: objects by their SOP Class and Instance UIDs."""

    foreign: set[str]
    """UIDs that came with the images."""
    wrong: list[str] = field(default_factory=list)
    listed: set[tuple[str, str]] = field(default_factory=set)
    """By the evidence."""
    named: set[tuple[str, str]] = field(default_factory=set)
    """Anywhere else."""


def problems(
    data: bytes,
    draft: Draft,
    subject: Subject,
    *,
    fresh: bool,
    ours: Sequence[Dataset] = (),
    anybodys: Callable[[], Iterable[str]],
) -> list[str]:
    """What is wrong with an object of this job; nothing when it may be sent.

    Args:
        data: the Part 10 file as it would be sent.
        draft: what it was made from.
        subject: the job.
        fresh: whether the bytes were just written from the draft, and must be equal to it.
        ours: the sound objects of this job that were made before.
        anybodys: the words of the same object of a patient of whom nothing is known (`identifying.anybody`).
    """
    if len(data) > LARGEST:
        return [f"it has {len(data)} bytes, at most {LARGEST} are sane"]
    # A warning would quote the value that it is about
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            ds = dcmread(io.BytesIO(data))
            return [
                *_meta(ds),
                *_attributes(ds),
                *_identity(ds, subject, ours),
                *_contents(ds, subject, ours),
                *(_differences(ds, draft.ds) if fresh else ()),
                *_words(ds, draft, subject, anybodys),
            ]
        except (*UNREADABLE, InvalidDicomError) as error:
            return [f"it cannot be read back ({type(error).__name__})"]


def _meta(ds: Dataset) -> Iterator[str]:
    """PS3.10 7.1."""
    meta = ds.file_meta
    wanted = {
        "MediaStorageSOPClassUID": ds.get("SOPClassUID"),
        "MediaStorageSOPInstanceUID": ds.get("SOPInstanceUID"),
        "TransferSyntaxUID": ExplicitVRLittleEndian,
        "ImplementationClassUID": uids.IMPLEMENTATION_CLASS_UID,
    }
    for keyword, value in wanted.items():
        if meta.get(keyword) != value:
            yield f"the file's {keyword} is not the object's"


def _attributes(ds: Dataset) -> Iterator[str]:
    if ds.get("SOPClassUID") not in TYPE_1:
        yield "SOPClassUID is of no class that is made here"
        return
    for keyword in (*ALWAYS_TYPE_1.split(), *TYPE_1[ds.SOPClassUID].split()):
        if keyword not in ds or ds[keyword].is_empty:
            yield f"{keyword} has no value"
    for keyword in (*TYPE_2, *ALSO_TYPE_2[ds.SOPClassUID].split()):
        if keyword not in ds:
            yield f"{keyword} is missing"


def _identity(ds: Dataset, subject: Subject, ours: Sequence[Dataset]) -> Iterator[str]:
    """It is of the source's patient and study, and it is nobody else's."""
    source = subject.source
    if any(image.source.StudyInstanceUID != source.StudyInstanceUID for image in subject.images):
        yield "the images of the job are of several studies"
    for keyword in (*PATIENT, *STUDY):
        inherited = keyword in source and (keyword in TYPE_2 or not source[keyword].is_empty)
        if (keyword in ds) != inherited or (inherited and not _same(ds[keyword], source[keyword])):
            yield f"{keyword} is not the source's"
    taken = {str(other.SOPInstanceUID) for other in (*(image.source for image in subject.images), *ours)}
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uid = str(ds.get(keyword, ""))
        if not uid.startswith("2.25.") or uid in taken:
            yield f"{keyword} is none of our own"
    if ds.get("DeviceUID") != uids.device_uid(subject.device.serial):
        yield "DeviceUID is not this node's"


def _contents(ds: Dataset, subject: Subject, ours: Sequence[Dataset]) -> Iterator[str]:
    """Every element is public and valid, and what is referred to is there."""
    sources = [image.source for image in subject.images]
    seen = _Seen(foreign={str(elem.value) for source in sources for elem in source.iterall() if elem.VR == "UI"})
    _walk(ds, seen, into=seen.named)
    yield from dict.fromkeys(seen.wrong)
    known = {(str(o.SOPClassUID), str(o.SOPInstanceUID)) for o in (*sources, *ours)}
    if (seen.named | seen.listed) - known:
        yield "it refers to an object that is not of this job"
    if not seen.named:
        yield "it refers to no object of this job"
    if EVIDENCE in ds and seen.named != seen.listed:
        yield f"{EVIDENCE} does not list what the document refers to"


def _walk(ds: Dataset, seen: _Seen, *, into: set[tuple[str, str]]) -> None:
    for elem in ds:
        if elem.tag.is_private:
            seen.wrong.append("it has a private element")
        elif elem.VR == "SQ":
            if elem.keyword not in ELSEWHERE:
                for item in elem.value:
                    _walk(item, seen, into=seen.listed if elem.keyword == EVIDENCE else into)
        elif elem.keyword == "ReferencedSOPInstanceUID":
            into.add((str(ds.get("ReferencedSOPClassUID", "")), str(elem.value)))
        elif elem.keyword not in EXACT and not all(_valid(elem.VR, value, seen.foreign) for value in _values(elem)):
            seen.wrong.append(f"{elem.keyword} has a value that its VR does not allow")


def _valid(vr: str, value: object, foreign: set[str]) -> bool:
    """By PS3.5 Table 6.2-1; a UID that came with the images is passed on as it is."""
    if vr == "UI" and str(value) in foreign:
        return True
    if not isinstance(value, (str, PersonName)) or vr in PARAGRAPHS:
        return vr not in LIMITS or len(str(value)) <= LIMITS[vr]
    try:
        validate_value(vr, value, config.RAISE)
    except ValueError:
        return False
    return True


def _values(elem: DataElement) -> Sequence[object]:
    if elem.is_empty:
        return ()
    return elem.value if isinstance(elem.value, (MultiValue, list)) else (elem.value,)


def _differences(ds: Dataset, built: Dataset) -> Iterator[str]:
    """What was read back is what was built."""
    for tag in sorted({*ds.keys(), *built.keys()}):
        if tag not in ds or tag not in built or not _same(ds[tag], built[tag]):
            yield f"{keyword_for_tag(tag) or 'a private element'} is not read back as it was written"


def _same(elem: DataElement, other: DataElement) -> bool:
    if elem.VR == "SQ":
        pairs = zip(elem.value, other.value, strict=False)
        return len(elem.value) == len(other.value) and not any(any(_differences(a, b)) for a, b in pairs)
    if elem.VR in ("FL", "FD"):
        mine, others = (np.asarray(_values(e), np.float32) for e in (elem, other))
        return np.array_equal(mine, others)
    read, written = _values(elem), _values(other)
    return list(read) == list(written) or [str(v) for v in read] == [str(v) for v in written]


def _words(ds: Dataset, draft: Draft, subject: Subject, anybodys: Callable[[], Iterable[str]]) -> Iterator[str]:
    """What people read: for what it is, and not of whom."""
    said = [(keyword, value) for keyword, value in our_texts(ds) if keyword != "SeriesDescription"]
    texts = [*(value for _, value in said), *draft.words]
    if "RESEARCH USE ONLY" not in ds.get("SeriesDescription", "") or not any(RESEARCH_ONLY in text for text in texts):
        yield "it does not say RESEARCH USE ONLY"
    for keyword in found([*texts, ds.get("SeriesDescription", "")], subject, anybodys=anybodys):
        yield f"its words hold the {keyword}"
