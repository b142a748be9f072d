"""What the header of a DICOM image says of its patient and view, for training.

Reads up to the pixels, never the pixels themselves. `models.header` reads the values that the node needs too.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from models.decode import PARSER_ERRORS
from models.header import HEADER_KEYWORDS, of_dataset
from training.errors import SourceError
from training.sources.table import SEXES, view

KEYWORDS = ("PatientID", "PatientSex", "AccessionNumber", "Manufacturer")


@dataclass(frozen=True)
class Described:
    """One DICOM file; strings are "" when absent. `rows` is 0 in an object without pixels."""

    path: Path
    sop_instance_uid: str
    accession_number: str
    patient: str
    age: float | None
    sex: str
    view: str
    rows: int
    columns: int
    manufacturer: str


def described(path: Path) -> Described:
    """Read a header.

    Raises:
        SourceError: the file is missing or no DICOM file (PS3.10), or its header cannot be parsed.
    """
    # Odd values are ordinary in files from hospitals, and none of them is written again
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            ds = dcmread(path, stop_before_pixels=True, specific_tags=[*HEADER_KEYWORDS, *KEYWORDS])
            return _of(path, ds)
        except InvalidDicomError:
            raise SourceError(f"{path}: is no DICOM file (PS3.10)") from None
        except (OSError, *PARSER_ERRORS) as error:
            raise SourceError(f"{path}: its header cannot be read: {error}") from None


def _of(path: Path, ds: Dataset) -> Described:
    said = of_dataset(ds)
    return Described(
        path,
        sop_instance_uid=said.sop_instance_uid,
        accession_number=_text(ds, "AccessionNumber"),
        patient=_text(ds, "PatientID"),
        age=said.age_years,
        sex=SEXES.get(_text(ds, "PatientSex").upper(), ""),
        view=view(said.view_position),
        rows=said.rows,
        columns=said.columns,
        manufacturer=_text(ds, "Manufacturer"),
    )


def _text(ds: Dataset, keyword: str) -> str:
    return str(ds.get(keyword) or "").strip()


def is_dicom(path: Path) -> bool:
    """Whether a file has the prefix of PS3.10 7.1."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
