"""The synthetic study of a test: drawn here, of a patient that does not exist, and marked as quality control.

Each image is made so that a route takes it; nothing of it comes from a person.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from config.settings import Conditions
from node.pipeline.ourselves import PATIENT_NAME
from node.results.uids import IMPLEMENTATION_CLASS_UID
from node.storage.trials import PATIENT_ID

SIDE = 512
BITS = 12
WORDS = "OVERREAD TEST"
CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "CT": CTImageStorage,
    "MR": MRImageStorage,
}


def make_study(folder: Path, wanted: Iterable[Conditions], *, now: float) -> tuple[str, list[Path]]:
    """One image for each route's conditions.

    Returns:
        The Study Instance UID, and the files.
    """
    study, at = generate_uid(prefix=None), datetime.fromtimestamp(now, UTC).astimezone()
    paths = []
    for number, when in enumerate(wanted, start=1):
        ds = _image(when, study, number, at)
        paths.append(folder / f"{number}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return str(study), paths


def _image(when: Conditions, study: str, number: int, at: datetime) -> Dataset:
    ds = Dataset()
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition, ds.PatientOrientation = "CR", "CHEST", "PA", ""
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = f"{at:%Y%m%d}"
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = f"{at:%H%M%S}"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "TEST", "", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.Manufacturer = number, 1, "Overread"
    ds.StudyDescription = "Overread test, synthetic, research use only"
    ds.SeriesDescription, ds.ImageType = "Synthetic test image", ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation, ds.LossyImageCompression, ds.PresentationIntentType = "NO", "00", "FOR PRESENTATION"
    ds.PixelSpacing = [0.5, 0.5]
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    _satisfy(ds, when)
    _identify(ds, study)
    ds.Rows = ds.Columns = SIDE
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, BITS, BITS - 1
    ds.PixelData = _pixels().tobytes()
    return ds


def _identify(ds: Dataset, study: str) -> None:
    """Whose it is, whatever a route wanted: nobody's (PS3.3 C.7.1.1, C.7.6.1)."""
    ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = PATIENT_ID, PATIENT_NAME, "", "O"
    ds.QualityControlSubject = ds.QualityControlImage = "YES"
    ds.SOPClassUID = UID(CLASSES.get(ds.Modality, SecondaryCaptureImageStorage))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(study), generate_uid(prefix=None)
    ds.SOPInstanceUID = generate_uid(prefix=None)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)


def _satisfy(ds: Dataset, when: Conditions) -> None:
    """Give attributes the first value that a route allows; what cannot have it is left, and the route says so."""
    for keyword, allowed in when.items():
        with contextlib.suppress(Exception):  # whatever pydicom raises of a value that its VR does not hold
            alone = Dataset()
            setattr(alone, keyword, allowed[0])
            # a role has pydicom look at values only when it writes them
            alone.save_as(io.BytesIO(), implicit_vr=False, little_endian=True)
            ds.update(alone)


def _pixels() -> NDArray[np.uint16]:
    """Rings on a ramp, and words: like no part of any body."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    radius = np.hypot(rows - SIDE / 2, columns - SIDE / 2)
    picture = columns / SIDE * 0.5 + (np.sin(radius / 12) > 0) * 0.3
    words = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(words).text((SIDE // 2, SIDE // 2), WORDS, fill=255, font=ImageFont.load_default(48), anchor="mm")
    picture[np.asarray(words) > 128] = 1.0
    return np.asarray(picture.clip(0, 1) * (2**BITS - 1), dtype="<u2")
