"""Series of slices and enhanced multi-frame objects, small and valid, for tests of what is read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from house import make_image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, generate_uid

AXIAL = [1, 0, 0, 0, 1, 0]
STUDY = {"Modality": "CT", "BodyPartExamined": None, "ViewPosition": None, "SOPClassUID": CTImageStorage}


def series(
    folder: Path, count: int, *, study: str, number: int = 1, spacing: float = 2.5, **changed: Any
) -> list[Path]:
    """`count` axial slices from the feet up, with instance numbers from 1; a callable gives each its own value,
    None leaves an attribute out."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = generate_uid()
    made = []
    for i in range(count):
        attributes = {
            "StudyInstanceUID": study,
            "SeriesInstanceUID": uid,
            "SeriesNumber": number,
            "InstanceNumber": i + 1,
            "ImageOrientationPatient": AXIAL,
            "ImagePositionPatient": [0, 0, spacing * i],
            **STUDY,
            **changed,
        }
        given = {k: v(i) if callable(v) else v for k, v in attributes.items() if v is not None or k in STUDY}
        made.append(make_image(folder / f"{number}-{i}.dcm", **given))
    return made


def _macro(item: Dataset, sequence: str, **values: Any) -> None:
    inner = Dataset()
    for keyword, value in values.items():
        setattr(inner, keyword, value)
    setattr(item, sequence, [inner])


def enhanced(path: Path, count: int, *, study: str, order: list[int] | None = None, **changed: Any) -> Path:
    """An Enhanced CT of `count` frames. Frame i lies at place `order[i]`, its pixels run from `10 i` to `10 i + 5`;
    they are rescaled by -1000 and shown from -1000 to -1000 + `10 count`, as its functional groups say."""
    stored = np.uint16(10 * np.arange(count)[:, None, None] + np.arange(6)[None, None, :] + np.zeros((1, 8, 1)))
    values = {"StudyInstanceUID": study, "SeriesNumber": 7, "InstanceNumber": 1}
    make_image(path, pixels=stored[0], **(values | STUDY | {"SOPClassUID": EnhancedCTImageStorage} | changed))
    ds = dcmread(path)
    ds.NumberOfFrames = count
    ds.PixelData = stored.tobytes()
    shared = Dataset()
    _macro(shared, "PlaneOrientationSequence", ImageOrientationPatient=AXIAL)
    _macro(shared, "PixelValueTransformationSequence", RescaleSlope=1, RescaleIntercept=-1000, RescaleType="HU")
    _macro(shared, "FrameVOILUTSequence", WindowCenter=-1000 + 5 * count + 0.5, WindowWidth=10 * count + 1)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = []
    for place in order or range(count):
        item = Dataset()
        _macro(item, "PlanePositionSequence", ImagePositionPatient=[0, 0, 2.5 * place])
        ds.PerFrameFunctionalGroupsSequence.append(item)
    ds.save_as(path, enforce_file_format=True)
    return path
