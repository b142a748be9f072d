"""One frame out of a file that may hold thousands: the others are never read.

What comes out is a data set with one frame, for `models.decode` to check and decode like any other.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame

from models.decode import (
    PARSER_ERRORS,
    check_header,
    check_native,
    check_size,
    is_native,
    native_size,
    read_dataset,
)
from models.enhanced import of_frame
from models.header import number
from models.refusal import NotAnalysable

PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True)
class Opened:
    """A file's header, and where its pixel data begin."""

    path: Path
    head: Dataset
    start: int

    def alone(self, index: int) -> Dataset:
        """The data set with the frame at `index` (from 0) as its only one.

        Raises:
            NotAnalysable: compressed pixel data whose frames cannot be told apart.
            OSError: the file cannot be read.
        """
        single = of_frame(self.head, index)
        single.add_new("NumberOfFrames", "IS", 1)  # a new element: the old one is the header's too
        with self.path.open("rb") as file:
            file.seek(self.start)
            single.PixelData = self._native(file, index) if is_native(self.head) else self._compressed(file, index)
        return single

    def _native(self, file: BinaryIO, index: int) -> bytes:
        size = native_size(self.head)
        file.seek(index * size, os.SEEK_CUR)
        data = file.read(size)
        return data + b"\0" * (len(data) % 2)

    def _compressed(self, file: BinaryIO, index: int) -> bytes:
        frames = number(self.head, "NumberOfFrames", 1) or 1
        try:
            return encapsulate([get_frame(file, index, number_of_frames=frames)])
        except PARSER_ERRORS as error:
            raise NotAnalysable("truncated", "The compressed pixel data is broken off or not delimited.") from error


def opened(path: Path, *, budget_bytes: int) -> Opened:
    """Read the header of a file, check it, and find the pixel data.

    Raises:
        NotAnalysable: what the header alone forbids, no pixel data, native ones that end early, or compressed ones
            that are larger than the budget.
        OSError: the file cannot be read.
    """
    head = read_dataset(path, pixels=False, budget_bytes=budget_bytes)
    check_header(head, budget_bytes=budget_bytes)
    if not is_native(head):  # how long one frame of them is shows only when it is read
        check_size(path, budget_bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(path, defer_size=0, specific_tags=[PIXEL_DATA])
    except PARSER_ERRORS as error:
        raise NotAnalysable("not_dicom", "The file cannot be read as DICOM.") from error
    # `values` does not load what is deferred
    found = next((element for element in ds.values() if element.tag == PIXEL_DATA), None)
    if not isinstance(found, RawDataElement) or not found.length:
        raise NotAnalysable("no_pixels", "The object holds no pixel data.")
    if is_native(head):
        check_native(head, min(found.length, path.stat().st_size - found.value_tell))
    return Opened(path, head, found.value_tell)
