"""The patient names of the files that pydicom ships: one for each way of writing them (PS3.3 C.12.1.1.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom.data
from pydicom import dcmread

FILES = sorted((Path(pydicom.data.__file__).parent / "charset_files").glob("chr[!S]*.dcm"))
"""The two left out hold no name outside a sequence."""
IDS = [path.stem for path in FILES]


def attributes(path: Path) -> dict[str, Any]:
    """The character set and the name of one file, to give to an image."""
    ds = dcmread(path)
    return {"SpecificCharacterSet": ds.SpecificCharacterSet, "PatientName": ds.PatientName}
