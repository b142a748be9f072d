"""Images that are odd in one way each, made from a plain one: what is odd and still an image, and what is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless

TOP = 4095
"""The plain film has 12 bits."""
CENTRE, WIDTH = 2048, 3600


def plain() -> np.ndarray[Any, np.dtype[np.uint16]]:
    """A film with contrast everywhere, and nothing of it outside of its window."""
    y, x = np.mgrid[0:64, 0:48]
    return np.asarray(np.rint(2048 + 1200 * np.sin(x / 9) * np.cos(y / 11)), np.uint16)


def grey(stored: Any, **attributes: Any) -> Callable[[Dataset], None]:
    """Give a data set these stored values, and attributes; a value of None leaves one out."""

    def change(ds: Dataset) -> None:
        ds.Rows, ds.Columns = stored.shape[-2:]
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
        ds.WindowCenter, ds.WindowWidth = CENTRE, WIDTH
        ds.PixelData = stored.tobytes()
        for keyword, value in attributes.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)

    return change


def table(first: int, entries: Any, keyword: str = "ModalityLUTSequence") -> dict[str, list[Dataset]]:
    """A look-up table of 16 bits."""
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, 16]
    item.ModalityLUTType = "US"
    item.add_new("LUTData", "OW", np.asarray(entries, np.uint16).tobytes())
    return {keyword: [item]}


def encapsulated(ds: Dataset, *, fragments: int = 3) -> None:
    """JPEG 2000 in several fragments behind an empty Basic Offset Table, and a smaller icon that is not the image."""
    icon = Dataset()
    icon.Rows = icon.Columns = 4
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.BitsAllocated, icon.BitsStored, icon.HighBit, icon.PixelRepresentation = 8, 8, 7, 0
    icon.add_new("PixelData", "OB", bytes(16))
    grey(plain())(ds)
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = encapsulate([frame], fragments_per_frame=fragments, has_bot=False)
    ds.IconImageSequence = [icon]


def nested(ds: Dataset, *, depth: int = 60) -> None:
    """Private attributes: two megabytes in one, and sequences within sequences in another."""
    block = ds.private_block(0x0099, "ACME", create=True)
    block.add_new(1, "OB", b"\x5a" * 2_000_000)
    inner = Dataset()
    inner.PatientName = "Somebody^Else"
    for _ in range(depth):
        outer = Dataset()
        outer.private_block(0x0099, "ACME", create=True).add_new(2, "SQ", [inner])
        inner = outer
    block.add_new(2, "SQ", [inner])
    grey(plain())(ds)


SAME: dict[str, Callable[[Dataset], None]] = {
    "MONOCHROME1": grey(TOP - plain(), PhotometricInterpretation="MONOCHROME1", WindowCenter=TOP + 1 - CENTRE),
    "signed": grey((plain().astype(np.int16) - 2048), PixelRepresentation=1, RescaleIntercept=2048, RescaleSlope=1),
    "rescaled": grey(plain(), RescaleSlope=2, RescaleIntercept=-100, WindowCenter=3996.5, WindowWidth=7199),
    "modality table": grey(TOP - plain(), **table(0, np.arange(TOP, -1, -1))),
    "junk above the stored bits": grey(plain() | np.uint16(0xA000)),
    "bits below the stored ones": grey(plain() << 4, HighBit=15),
    "several windows": grey(plain(), WindowCenter=[CENTRE, 1], WindowWidth=[WIDTH, 2]),
    "several fragments and an icon": encapsulated,
    "huge and deep private attributes": nested,
    "no patient": grey(plain(), PatientID=None, PatientName=None, PatientBirthDate=None, PatientSex=None),
}
"""Odd, and the same picture as the plain film."""


def overlay(ds: Dataset) -> None:
    """A retired overlay in bit 15 of the pixels (PS3.3 C.9.2 of 2004)."""
    grey(plain() | np.uint16(0x8000))(ds)
    for element, vr, value in ((0x10, "US", 64), (0x11, "US", 48), (0x40, "CS", "G"), (0x100, "US", 16)):
        ds.add_new((0x6000, element), vr, value)
    ds.add_new((0x6000, 0x50), "SS", [1, 1])
    ds.add_new((0x6000, 0x102), "US", 15)


SAME["an overlay in the pixels"] = overlay

EXTREMES: dict[str, Callable[[Dataset], None]] = {
    "no window": grey(plain(), WindowCenter=None, WindowWidth=None),
    "a VOI table": grey(plain(), **table(0, 16 * np.arange(TOP + 1), "VOILUTSequence")),
    "a window of width 0": grey(plain(), WindowWidth=0),
    "a window beside the values": grey(plain(), WindowCenter=60000, WindowWidth=2),
}
"""Without a window that can be used, or with a table in its place: the darkest and the brightest value are black and
white."""


def padded(ds: Dataset) -> None:
    """A border far brighter than the film that says of itself that it is padding."""
    wide = np.full((80, 60), TOP, np.uint16)
    wide[8:72, 6:54] = plain()
    grey(wide, WindowCenter=None, WindowWidth=None)(ds)
    ds.add_new("PixelPaddingValue", "US", TOP)


def odd(path: Path, change: Callable[[Dataset], None]) -> Path:
    """Change a file in place."""
    ds = dcmread(path)
    change(ds)
    ds.save_as(path, enforce_file_format=True)
    return path
