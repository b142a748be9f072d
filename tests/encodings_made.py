"""The same DICOM file in another transfer syntax, without loss, by those who also write such files elsewhere."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import imagecodecs
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, ImplicitVRLittleEndian


def by_pydicom(syntax: str) -> Callable[[Path, Path], None]:
    def encode(source: Path, target: Path) -> None:
        ds = dcmread(source)
        if syntax == ImplicitVRLittleEndian:
            ds.file_meta.TransferSyntaxUID = syntax
            ds.save_as(target, implicit_vr=True)
        else:
            ds.compress(syntax, generate_instance_uid=False)
            ds.save_as(target)

    return encode


def by_openjph(source: Path, target: Path) -> None:
    ds = dcmread(source)
    ds.PixelData = encapsulate([bytes(imagecodecs.htj2k_encode(ds.pixel_array, reversible=True))])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = HTJ2KLossless
    ds.save_as(target)


def by_dcmtk(source: Path, target: Path) -> None:
    subprocess.run(["dcmcjpeg", "+e1", str(source), str(target)], check=True, capture_output=True)
