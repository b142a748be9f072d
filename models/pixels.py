"""One way from a file to grey pixels in [0, 1], used by training and node alike.

DICOM, PNG and JPEG files come in; a Frame or the reason why there is none comes out. The same film as PNG, as 8, 12
or 16 bit DICOM, as MONOCHROME1 or 2 gives the same pixels up to rounding: what contrast is left to differ (offset
and scale) is taken out by the `stretch` step of `models.preprocess`. Never pads, never guesses missing pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom.dataset import Dataset

from models import decode, grey, header, multiframe
from models.header import Header
from models.refusal import NotAnalysable

__all__ = ["BUDGET_BYTES", "Frame", "Header", "NotAnalysable", "attempted", "decoded_equal", "read", "read_frames"]

BUDGET_BYTES = 512 * 1024**2
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


@dataclass(frozen=True)
class Frame:
    """One frame: float32 (rows, columns) in [0, 1], white is 1, and what its header says.

    `number` counts from 1; `frames_used` is how it was chosen: a bundle's policy, or "chosen" by number.
    """

    pixels: NDArray[np.float32]
    header: Header
    number: int = 1
    frames_used: str = "single"


def read(path: Path, *, frames: str = "single", budget_bytes: int = BUDGET_BYTES) -> Frame:
    """Read one frame of a DICOM, PNG or JPEG file.

    `frames`: "single" refuses more than one frame, "first" and "middle" choose one.

    Raises:
        NotAnalysable: with a code and a sentence.
        OSError: the file cannot be opened.
    """
    if frames not in ("single", "first", "middle"):
        raise ValueError(f"frames = {frames!r}: not a policy (have: single, first, middle)")
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        frame = _read_dicom(path, frames, budget_bytes)
    elif start.startswith((PNG, JPEG)):
        frame = _read_picture(path, budget_bytes)
    else:
        raise NotAnalysable("not_dicom", "The file is neither DICOM nor a PNG or JPEG picture.")
    return _finite(frame)


def read_frames(
    path: Path, numbers: Sequence[int], *, budget_bytes: int = BUDGET_BYTES
) -> Iterator[Frame | NotAnalysable]:
    """The frames of a DICOM file with these numbers (from 1), each decoded when it is asked for.

    One that cannot be had is answered with its reason, and the next one has its turn.

    Raises:
        NotAnalysable: with a code and a sentence; the object as a whole cannot be read.
        OSError: the file cannot be opened.
    """
    file = multiframe.opened(path, budget_bytes=budget_bytes)
    count = header.of_dataset(file.head).frames
    for number in numbers:
        try:
            if not 1 <= number <= count:
                raise NotAnalysable("no_pixels", f"The object has no frame {number}; it holds {count}.")
            yield _finite(_frame(file, number - 1, "chosen", budget_bytes))
        except NotAnalysable as error:
            yield error


def attempted(path: Path, *, frames: str = "single") -> Frame | NotAnalysable:
    """The same, with the reason instead of an error where there is no frame."""
    try:
        return read(path, frames=frames)
    except NotAnalysable as error:
        return error
    except OSError as error:
        return NotAnalysable("unreadable", f"The file cannot be read: {error.strerror}")


def decoded_equal(a: Path, b: Path) -> bool:
    """Whether two DICOM files hold the same decoded stored values, shape and photometric interpretation.

    Recognises a re-encoding. `models.compare` asks this in a process of its own.

    Raises:
        NotAnalysable: one of them cannot be decoded, so nothing is known.
        OSError: a file cannot be opened.
    """
    first, second = (decode.read_dataset(p, pixels=True, budget_bytes=BUDGET_BYTES) for p in (a, b))
    for ds in (first, second):
        decode.check_header(ds, budget_bytes=BUDGET_BYTES)
    kinds = [header.of_dataset(ds) for ds in (first, second)]
    if kinds[0].photometric != kinds[1].photometric or kinds[0].frames != kinds[1].frames:
        return False
    return all(_same_frame(first, second, i) for i in range(kinds[0].frames))


def _same_frame(first: Dataset, second: Dataset, index: int) -> bool:
    a, b = (decode.stored_values(ds, index, budget_bytes=BUDGET_BYTES) for ds in (first, second))
    return np.array_equal(a, b)


def _read_dicom(path: Path, frames: str, budget_bytes: int) -> Frame:
    file = multiframe.opened(path, budget_bytes=budget_bytes)
    index = _frame_index(header.of_dataset(file.head).frames, frames)
    return _frame(file, index, frames, budget_bytes)


def _frame(file: multiframe.Opened, index: int, frames_used: str, budget_bytes: int) -> Frame:
    ds = file.alone(index)
    stored = decode.stored_values(ds, 0, budget_bytes=budget_bytes)
    about = replace(header.of_dataset(ds), frames=header.of_dataset(file.head).frames)
    return Frame(grey.of_dataset(stored, ds), about, index + 1, frames_used)


def _finite(frame: Frame) -> Frame:
    if not np.isfinite(frame.pixels).all():
        raise NotAnalysable("undecodable", "The image has pixels that are no finite number.")
    return frame


def _frame_index(count: int, policy: str) -> int:
    if count > 1 and policy == "single":
        raise NotAnalysable("multi_frame", f"The object holds {count} frames; only single images are analysed.")
    return count // 2 if policy == "middle" else 0


def _read_picture(path: Path, budget_bytes: int) -> Frame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the budget below is stricter
            with Image.open(path, formats=["PNG", "JPEG"]) as picture:
                if picture.width * picture.height * 4 * len(picture.getbands()) > budget_bytes:
                    raise NotAnalysable("too_large", f"The picture ({picture.width} x {picture.height}) is too large.")
                return Frame(_grey_of(picture), Header(rows=picture.height, columns=picture.width))
    except Image.DecompressionBombError as error:
        raise NotAnalysable("too_large", "The picture is too large.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        code = "truncated" if "truncated" in str(error) else "undecodable"
        raise NotAnalysable(code, "The picture cannot be decoded; the file may be damaged.") from error


def _grey_of(picture: Image.Image) -> NDArray[np.float32]:
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("P", "LA", "PA", "CMYK", "YCbCr"):
        picture = picture.convert("RGBA" if "A" in picture.mode or "transparency" in picture.info else "RGB")
    values: NDArray[Any] = np.asarray(picture)
    if values.ndim == 2:
        return grey.spread(values, None)
    if values.shape[2] == 4 and int(values[..., 3].min()) < 255:
        raise NotAnalysable("unsupported", "The picture is partly transparent.")
    return grey.of_rgb(values)
