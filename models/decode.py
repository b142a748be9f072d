"""From a DICOM file to stored pixel values: every check that must come before a decoder runs, then the decoder.

Sizes are checked from headers before anything is decoded, missing bytes are never padded, and the transfer syntax
is looked at before the data set is read, so that a deflated file is not inflated. Knows nothing of display.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from models import codestream
from models.header import HEADER_KEYWORDS, number
from models.refusal import NotAnalysable

NATIVE = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
JPEG = frozenset(
    {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless}
)
JPEG_2000 = frozenset({JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K})
READABLE = NATIVE | JPEG | JPEG_2000 | {RLELossless}
"""Deflated syntaxes are absent on purpose: a small file may inflate without bound before anything can be checked."""

DISPLAY_KEYWORDS = (
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PlanarConfiguration",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
)

# what pydicom and the codecs raise on broken bytes; anything else is a fault of ours and must surface
PARSER_ERRORS = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    EOFError,
    struct.error,
    BytesLengthException,
)


def read_dataset(path: Path, *, pixels: bool, budget_bytes: int) -> Dataset:
    """The data set of a DICOM file, with or without Pixel Data.

    Raises:
        NotAnalysable: no DICOM file, a transfer syntax without decoder, or a file larger than the budget.
        OSError: the file cannot be opened.
    """
    if pixels:
        check_size(path, budget_bytes)
    try:
        syntax = read_file_meta_info(path).get("TransferSyntaxUID")
        if syntax not in READABLE:
            name = UID(str(syntax)).name if syntax else "not stated"
            raise NotAnalysable("unsupported", f"The transfer syntax ({name}) cannot be decoded.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of odd values; those that matter are checked here
            return _settled(dcmread(path, stop_before_pixels=not pixels))
    except (InvalidDicomError, *PARSER_ERRORS) as error:
        raise NotAnalysable("not_dicom", "The file cannot be read as DICOM.") from error


def _settled(ds: Dataset) -> Dataset:
    """The data set with the attributes that we use converted; one whose value cannot be read counts as absent.

    pydicom converts at first use, which would otherwise raise far from here.
    """
    for keyword in (*HEADER_KEYWORDS, *DISPLAY_KEYWORDS):
        try:
            ds.get(keyword)
        except PARSER_ERRORS:
            del ds[keyword]
    return ds


def check_size(path: Path, budget_bytes: int) -> None:
    """Refuse a file that would have to be read whole and does not fit.

    Raises:
        NotAnalysable: it is larger than the budget.
    """
    if path.stat().st_size > budget_bytes:
        raise NotAnalysable("too_large", f"The file is larger than {_mib(budget_bytes)}, the limit set for images.")


def is_native(ds: Dataset) -> bool:
    return ds.file_meta.TransferSyntaxUID in NATIVE


def native_size(ds: Dataset) -> int:
    """Bytes of one frame that is not compressed."""
    size: int = ds.Rows * ds.Columns * number(ds, "SamplesPerPixel", 1) * (ds.BitsAllocated // 8)
    return size * 2 // 3 if str(ds.get("PhotometricInterpretation", "")) == "YBR_FULL_422" else size


def check_header(ds: Dataset, *, budget_bytes: int) -> None:
    """Refuse by header alone what must not reach a decoder.

    Raises:
        NotAnalysable: no pixels described, an unusual sample format, or a frame larger than the budget.
    """
    rows, columns = number(ds, "Rows"), number(ds, "Columns")
    if rows < 1 or columns < 1:
        raise NotAnalysable("no_pixels", "The object holds no image (Rows and Columns are absent).")
    allocated, stored = number(ds, "BitsAllocated"), number(ds, "BitsStored")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise NotAnalysable("unsupported", f"Pixels of {allocated} bits ({stored} stored) are not supported.")
    if number(ds, "SamplesPerPixel", 1) not in (1, 3):
        raise NotAnalysable("unsupported", "The number of samples per pixel is neither one nor three.")
    # four bytes: the least that a pixel takes on its way to the model
    if rows * columns * number(ds, "SamplesPerPixel", 1) * 4 > budget_bytes:
        raise NotAnalysable(
            "too_large", f"The image ({columns} x {rows}) needs more than {_mib(budget_bytes)}, the limit set."
        )


def stored_values(ds: Dataset, index: int, *, budget_bytes: int) -> NDArray[np.generic]:
    """The stored values of one frame: (rows, columns) or (rows, columns, 3), as integers, unused bits removed.

    Colour comes as RGB. `ds` went through `check_header`.

    Raises:
        NotAnalysable: no Pixel Data, too few bytes, or bytes that do not decode.
    """
    if not ds.get("PixelData"):
        raise NotAnalysable("no_pixels", "The object holds no pixel data.")
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in ds:  # it could point the decoder at other bytes than those checked; items alone give the frames
            del ds[keyword]
    native = is_native(ds)
    if native:
        check_native(ds, len(ds.PixelData))
    else:
        _check_encapsulated(ds, index, budget_bytes)
    shift = _unused_low_bits(ds) if native else 0
    ds.BitsStored += shift  # pydicom would mask them away at the wrong end
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # header and codestream disagree about bits: the codestream is right
            array = pixel_array(ds, index=index)
    except BaseException as error:
        # the RLE decoder is Rust: a panic of it is bounded and safe, yet no Exception, and would end the process
        if not isinstance(error, PARSER_ERRORS) and type(error).__name__ != "PanicException":
            raise
        raise NotAnalysable("undecodable", "The pixel data cannot be decoded; the file may be damaged.") from error
    finally:
        ds.BitsStored -= shift
    return array >> shift if shift else array


def _unused_low_bits(ds: Dataset) -> int:
    """Bits below the stored ones, when High Bit is not Bits Stored - 1 (PS3.5 8.1.1)."""
    high = number(ds, "HighBit", number(ds, "BitsStored") - 1)
    shift = high + 1 - number(ds, "BitsStored")
    return shift if shift > 0 and high < number(ds, "BitsAllocated") else 0


def check_native(ds: Dataset, there: int) -> None:
    """Refuse pixel data of which fewer bytes are there than the header describes, or so many that it must be wrong.

    Raises:
        NotAnalysable: they end early, or hold more images than the header says.
    """
    needed = native_size(ds) * (number(ds, "NumberOfFrames", 1) or 1)
    if there < needed:
        raise NotAnalysable("truncated", f"The pixel data ends early: {there} of {needed} bytes are there.")
    if there >= 2 * needed:  # a few bytes more are common padding
        raise NotAnalysable("undecodable", f"The header describes {needed} bytes of pixel data, and {there} are there.")


def _check_encapsulated(ds: Dataset, index: int, budget: int) -> None:
    syntax = ds.file_meta.TransferSyntaxUID
    try:
        frame = get_frame(ds.PixelData, index, number_of_frames=number(ds, "NumberOfFrames", 1) or 1)
    except PARSER_ERRORS as error:
        raise NotAnalysable("truncated", "The compressed pixel data is broken off or not delimited.") from error
    if syntax == RLELossless:  # its decoder writes into Rows x Columns and stops at their end
        return
    try:
        size = codestream.jpeg_size(frame) if syntax in JPEG else codestream.jpeg2000_size(frame)
    except codestream.BadCodestream as error:
        raise NotAnalysable("undecodable", f"The compressed image cannot be decoded: {error}.") from error
    if size.bytes > budget:
        raise NotAnalysable("too_large", f"The compressed image declares {size.columns} x {size.rows} pixels.")
    if (size.rows, size.columns) != (ds.Rows, ds.Columns):
        raise NotAnalysable(
            "undecodable",
            f"The header says {ds.Columns} x {ds.Rows} pixels, the compressed image {size.columns} x {size.rows}.",
        )
    if not codestream.is_complete(frame):
        raise NotAnalysable("truncated", "The compressed image is broken off before its end marker.")


def _mib(count: int) -> str:
    return f"{count / 1024**2:.0f} MiB"
