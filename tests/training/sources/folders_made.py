"""Tiny data folders: empty files under real names, tables, and DICOM headers without pixels."""

from __future__ import annotations

from pathlib import Path

from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def nih_row(name: str, labels: str, *, age: str = "58", sex: str = "M", view: str = "PA") -> str:
    return f"{name},{labels},0,{int(name[:8])},{age},{sex},{view},2682,2749,0.143,0.143,"


def write_dicom(path: Path, uid: str, **values: object) -> Path:
    """A header of 100 rows and 200 columns; `values` are attributes by keyword, None leaves one out."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = uid
    given = {"SOPInstanceUID": uid, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Rows": 100, "Columns": 200} | values
    # Real headers hold ages such as "51", which the Standard does not allow
    with config.disable_value_validation():
        for keyword, value in given.items():
            if value is not None:
                setattr(ds, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path
