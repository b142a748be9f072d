"""Films, data sets and bundle texts made for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def film(side: int = 64, bits: int = 12) -> NDArray[np.uint16]:
    """A smooth picture that uses all values of `bits`."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    grey = 0.5 + 0.25 * np.sin(5 * x + 1) + 0.25 * np.cos(4 * y * x)
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    return np.asarray(np.rint(grey * (2**bits - 1)), np.uint16)


def dataset(values: NDArray[Any], *, bits: int = 12, **attributes: Any) -> Dataset:
    """A DX image with these stored values; `attributes` are set last."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = DX
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.Modality = "DX"
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.SamplesPerPixel = 1
    ds.Rows, ds.Columns = values.shape[:2]
    ds.BitsAllocated = values.dtype.itemsize * 8
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    ds["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def spec(**changes: Any) -> dict[str, Any]:
    """bundle.json of a small valid bundle."""
    code = {"value": "8186001", "scheme": "SCT", "meaning": "Cardiomegaly"}
    content: dict[str, Any] = {
        "schema_version": 1,
        "name": "heart",
        "version": "1.2.0",
        "task": "binary",
        "accepts": {"modality": ["DX"], "min_age_years": 18},
        "preprocessing": [{"step": "resize", "arguments": {"height": 8, "width": 8}}],
        "input": {"height": 8, "width": 8, "channels": 1},
        "labels": [
            {
                "name": "Cardiomegaly",
                "finding": code,
                "site": code,
                "threshold": 0.5,
                "lower": 0.25,
                "operating_point": "test",
            }
        ],
        "calibration": {"method": "platt", "slope": [1.0], "intercept": [0.0]},
        "family": "test",
        "trained_by": "test",
        "intended_use": "tests",
        "not_for": "anything else",
        "licence": "Apache-2.0",
    }
    return content | changes


def seal(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n"
        for f in sorted(folder.iterdir())
        if f.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
