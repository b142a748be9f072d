"""Films to send: a picture of pydicom's, stamped out under as many SOP Instance UIDs as a benchmark asks for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

CT, DX = "CT_small.dcm", "RG1_UNCR.dcm"
SEED = 20260104
FIRST = 10**20


def made(folder: Path, source: str, count: int, side: int = 0, *, compress: str = "") -> list[Path]:
    """One study. `side` gives it square random pixels; `compress` a slope, in this transfer syntax."""
    folder.mkdir(exist_ok=True)
    ds = dcmread(str(get_testdata_file(source, download=False)))
    ds.StudyInstanceUID = generate_uid()
    uid = ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"2.25.{FIRST}"
    if side:
        ds.Rows = ds.Columns = side
        noise = np.random.default_rng(SEED).integers(0, 1000, (side, side), np.int16)
        slope = (np.add.outer(np.arange(side), np.arange(side)) % 1000).astype(np.int16)
        ds.PixelData = (slope if compress else noise).tobytes()
    if compress:
        ds.compress(compress, generate_instance_uid=False)
    out = BytesIO()
    dcmwrite(out, ds, enforce_file_format=True)
    before, middle, after = out.getvalue().split(uid.encode())
    found = []
    for number in range(count):
        # As long as the first one, so that no length before it changes
        stamp = f"2.25.{FIRST + number}".encode()
        found.append(folder / f"{number}.dcm")
        found[-1].write_bytes(stamp.join((before, middle, after)))
    return found
