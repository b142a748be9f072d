"""What a result is about: the source's header made fit to be inherited, and the records that a builder is handed.

Only the attributes that a result inherits or quotes are read; pixel data, overlays, icons and private attributes never
enter. Identifiers are never changed and nothing is invented: what is missing stays empty.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import config, dcmread
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.errors import ResultError
from node.results.repair import UIDS, UNREADABLE, repaired

if TYPE_CHECKING:
    from models.codes import Code
    from models.findings import Reading
    from models.pixels import Frame

# PS3.3 C.7.1.1, C.7.2.1, C.7.2.2: what every object of one study has in common.
PATIENT = (
    "PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence PatientBirthDate "
    "PatientBirthTime PatientSex QualityControlSubject OtherPatientNames OtherPatientIDsSequence "
    "EthnicGroupCodeSequence PatientSpeciesDescription PatientSpeciesCodeSequence PatientBreedDescription "
    "PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole "
    "ResponsibleOrganization PatientComments PatientIdentityRemoved DeidentificationMethod "
    "DeidentificationMethodCodeSequence"
).split()
STUDY = (
    "StudyInstanceUID StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName "
    "ConsultingPhysicianName StudyID StudyDescription ProcedureCodeSequence PhysiciansOfRecord "
    "NameOfPhysiciansReadingStudy ReferencedStudySequence ReasonForPerformedProcedureCodeSequence "
    "AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight MedicalAlerts "
    "Allergies SmokingStatus AdditionalPatientHistory PregnancyStatus PatientSexNeutered AdmissionID "
    "IssuerOfAdmissionIDSequence ServiceEpisodeID IssuerOfServiceEpisodeIDSequence"
).split()
# What a result says of the image and of the device that made it.
IMAGE = (
    "SOPClassUID SOPInstanceUID SeriesInstanceUID Modality SeriesNumber InstanceNumber ImageType BodyPartExamined "
    "ViewPosition Laterality ImageLaterality PatientOrientation Rows Columns NumberOfFrames PhotometricInterpretation "
    "ImagerPixelSpacing PixelSpacing PixelAspectRatio BurnedInAnnotation LossyImageCompression "
    "LossyImageCompressionRatio LossyImageCompressionMethod AcquisitionDate AcquisitionTime ContentDate ContentTime "
    "TimezoneOffsetFromUTC RequestAttributesSequence RequestedProcedureDescription Manufacturer ManufacturerModelName "
    "DeviceSerialNumber SoftwareVersions StationName InstitutionName"
).split()
# How the image is shown: what a presentation state of it has to repeat (PS3.3 C.11.1, C.11.2).
DISPLAY = (
    "PixelRepresentation ModalityLUTSequence RescaleIntercept RescaleSlope RescaleType VOILUTSequence WindowCenter "
    "WindowWidth VOILUTFunction"
).split()
# PS3.3: type 2 in the Patient and General Study modules, so every result carries them, empty when unknown.
TYPE_2 = (
    "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime AccessionNumber ReferringPhysicianName "
    "StudyID"
).split()

# PS3.3 C.12.1.1.2: the sets without code extensions. Any other declaration is written again in UTF-8.
SINGLE_SETS = frozenset({f"ISO_IR {n}" for n in (100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166, 192)})
UTF_8 = "ISO_IR 192"
# Storage classes of one frame; some senders put several into them all the same (CR, DX, MG, IO, CT, MR, US, SC, PET).
SINGLE_FRAME = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "2", "4", "6.1", "7", "128")
)


@dataclass(frozen=True)
class Device:
    """The node itself: who makes the results."""

    ae_title: str
    organisation: str
    serial: str
    version: str


@dataclass(frozen=True)
class Model:
    """The bundle that was run, and how it was set."""

    name: str
    version: str
    digest: str
    manufacturer: str
    settings_digest: str
    family: str
    body_part: Code
    audit_note: str
    """What a reader has to know of the audit; shown in every result unless empty."""


@dataclass(frozen=True)
class Evidence:
    """One image, an instance or a frame of one, and what was made of it."""

    source: Dataset
    digest: str
    reading: Reading
    frame: Frame | None
    number: int = 1
    """Which frame of the instance."""

    @property
    def has_frames(self) -> bool:
        """Whether it is one of several frames, so that the instance alone does not say which image is meant."""
        return int(self.source.get("NumberOfFrames") or 1) > 1

    @property
    def frame_number(self) -> int | None:
        """The frame as a reference names it. PS3.3 C.17.4: only a multi-frame image is referenced with frames."""
        return self.number if self.has_frames and self.source.SOPClassUID not in SINGLE_FRAME else None

    @property
    def name(self) -> str:
        """What tells it from every other image: the SOP Instance UID, and the frame where there are several."""
        uid = str(self.source.SOPInstanceUID)
        return f"{uid}#{self.number}" if self.has_frames else uid


@dataclass(frozen=True)
class Predecessor:
    """A Structured Report that the new one replaces."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Subject:
    """All that one job's results are made from; equal subjects give equal bytes."""

    device: Device
    model: Model
    images: tuple[Evidence, ...]
    revision: int
    when: datetime
    """Aware. Dates and times are written in its own time zone, or in the source's where the source names one."""
    route: str
    shadow: bool
    missing: tuple[str, ...] = ()
    choice: str = ""
    """Which images of the series were read, in a sentence; empty where all of the study that match were."""
    series_instance_uid: str = ""
    """The one series that the job is about; empty where it is about the study."""
    predecessors: tuple[Predecessor, ...] = ()

    @property
    def source(self) -> Dataset:
        """The header that patient and study are inherited from: the first image's."""
        if not self.images:
            raise ResultError("a result needs at least one image")
        return self.images[0].source

    @property
    def about_uid(self) -> str:
        """What the job as a whole is about: the series, or the study."""
        return self.series_instance_uid or str(self.source.StudyInstanceUID)


def read_evidence(path: Path) -> Dataset:
    """The header of a DICOM file, without pixel data, made fit to be inherited by a result.

    Type 2 attributes are completed empty, malformed values repaired or emptied, names of multi-valued character sets
    kept and written in UTF-8. PatientID stays as it is, also when it is not valid.

    Raises:
        ResultError: the file has no readable header, or Study, Series, SOP Instance or SOP Class UID is missing.
        OSError: the file cannot be opened.
    """
    # pydicom's warnings quote the values that they complain about, and those are patient data; each such value is
    # put right or dropped below.
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        raw = _read(path)
        ds = repaired(raw)
        _declare(ds, raw)
    missing = [k for k in sorted(UIDS) if not isinstance(ds.get(k), str) or not ds.get(k)]
    if missing:
        raise ResultError(f"the source has no {', '.join(missing)}")
    for keyword in TYPE_2:
        if keyword not in ds:
            setattr(ds, keyword, "")
    # PS3.3 C.7.1.1: M, F, O are enumerated values; anything else is unknown to a reader.
    if ds.PatientSex not in ("M", "F", "O", ""):
        ds.PatientSex = ""
    # Type 1C there: the claim that the identity was removed needs the method.
    if not ds.get("DeidentificationMethod") and not ds.get("DeidentificationMethodCodeSequence"):
        ds.pop("PatientIdentityRemoved", None)
    return ds


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*PATIENT, *STUDY, *IMAGE, *DISPLAY])
    except (InvalidDicomError, *UNREADABLE) as error:
        # pydicom raises OSError for a header that ends early; one with a number is the disk's.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ResultError(f"the source's header cannot be read ({type(error).__name__})") from None


def _declare(ds: Dataset, raw: Dataset) -> None:
    """Give the repaired header its character set: the source's where it stands alone, else UTF-8."""
    try:
        declared = raw.get("SpecificCharacterSet")
    except UNREADABLE:
        declared = UTF_8
    if not declared:
        return
    ds.SpecificCharacterSet = (
        declared if isinstance(declared, str) and declared in SINGLE_SETS and encodable(ds, declared) else UTF_8
    )


def encodable(ds: Dataset, character_set: str) -> bool:
    """Whether every text of a data set can be written in a single-valued character set ("" is the default one)."""
    # The default repertoire is ASCII; pydicom reads and writes undeclared bytes as Latin-1, which keeps them.
    encoding = convert_encodings(character_set)[0]
    try:
        for elem in ds.iterall():
            if elem.VR != "SQ" and not elem.is_empty and not isinstance(elem.value, bytes):
                str(elem.value).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
