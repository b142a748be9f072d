"""From stored values to what a person would see: grey in [0, 1], white is 1, whatever the encoding was.

The order is the Standard's (PS3.4 N.2): modality transformation, VOI transformation, then the inversion that
MONOCHROME1 asks for. Knows no files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from models.decode import PARSER_ERRORS
from models.refusal import NotAnalysable

COLOUR_TOLERANCE = 4 / 255
"""Largest difference between red, green and blue, as a part of the range, that is still grey: lossy compression
of a grey film stored as RGB leaves this much."""

FLOAT32_MAX = float(np.finfo(np.float32).max)

Floats = NDArray[np.float32]


def of_dataset(stored: NDArray[Any], ds: Dataset) -> Floats:
    """Grey in [0, 1] of one frame, float32 (rows, columns), in the sense of MONOCHROME2.

    The first VOI LUT or window is used. Without a usable one (absent, width not above 1, or one that leaves no
    contrast) the smallest and the largest value become 0 and 1. Pixel Padding Value (Range) takes no part in that
    and becomes 0.

    Raises:
        NotAnalysable: colour, a damaged look-up table, or a rescaling out of range.
    """
    if stored.ndim == 3:
        return of_rgb(stored)
    photometric = str(ds.get("PhotometricInterpretation", "")).strip().upper()
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise NotAnalysable("colour", f"The image is stored as {photometric or 'an unknown kind'}, not as grey.")
    padding = _padding(stored, ds)
    values = _modality(stored, ds)
    grey = _displayed(values, ds)
    if grey is None or _flat(grey, padding):
        grey = spread(values, padding)
    if photometric == "MONOCHROME1":
        grey = 1 - grey
    if padding is not None:
        grey[padding] = 0
    return grey


def of_rgb(rgb: NDArray[Any]) -> Floats:
    """Grey of an RGB picture whose channels agree.

    Raises:
        NotAnalysable: they do not: a coloured picture is no radiograph, and annotations in colour hide pixels.
    """
    channels = rgb[..., :3].astype(np.float32)
    width = float(channels.max() - channels.min())
    if width and float((channels.max(axis=2) - channels.min(axis=2)).max()) > COLOUR_TOLERANCE * width:
        raise NotAnalysable("colour", "The image is in colour; only grey radiographs are analysed.")
    return spread(channels.mean(axis=2), None)


def spread(values: NDArray[Any], padding: NDArray[np.bool_] | None) -> Floats:
    """The smallest value becomes 0, the largest 1; an image without contrast becomes 0 throughout."""
    counted = values if padding is None else values[~padding]
    if not counted.size:
        return np.zeros(values.shape, np.float32)
    low, high = float(counted.min()), float(counted.max())
    if not np.isfinite(high - low) or high <= low:
        return np.zeros(values.shape, np.float32)
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)


def _padding(stored: NDArray[Any], ds: Dataset) -> NDArray[np.bool_] | None:
    # PS3.3 C.7.5.1.1.2: padding is stated in stored values, before any transformation
    value = ds.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = ds.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    mask: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _modality(stored: NDArray[Any], ds: Dataset) -> NDArray[Any]:
    if ds.get("ModalityLUTSequence"):
        return _looked_up(stored, ds, "ModalityLUTSequence")
    slope, intercept = _decimal(ds, "RescaleSlope", 1), _decimal(ds, "RescaleIntercept", 0)
    if slope == 0 or (slope, intercept) == (1, 0):  # a slope of 0 is not allowed and would erase the image
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if not np.isfinite(values).all():
        raise NotAnalysable("undecodable", "The rescale slope or intercept takes the values out of range.")
    return values


def _looked_up(values: NDArray[Any], ds: Dataset, keyword: str) -> NDArray[np.uint16]:
    """Integers through the first table of a sequence; values outside take its first or last entry (PS3.3 C.11.1.1)."""
    try:
        item = ds[keyword].value[0]
        count, first, bits = item.LUTDescriptor
        count = count or 2**16
        entries = _entries(item, count, bits, little=ds.file_meta.TransferSyntaxUID.is_little_endian)
        found: NDArray[np.uint16] = entries[np.clip(values.astype(np.int64) - first, 0, count - 1)]
        return found
    except PARSER_ERRORS as error:
        raise NotAnalysable("undecodable", "A look-up table in the header is damaged.") from error


def _entries(item: Dataset, count: int, bits: int, *, little: bool) -> NDArray[np.uint16]:
    data = item.LUTData
    if isinstance(data, bytes):
        words = np.frombuffer(data, "<u2" if little else ">u2").astype("<u2")
    else:
        words = np.atleast_1d(np.asarray(data, "<u2"))
    if bits == 8 and len(words) == (count + 1) // 2 < count:  # PS3.3 C.11.1.1.1: two entries of 8 bits in a word
        words = words.view(np.uint8).astype("<u2")
    if bits not in (8, *range(10, 17)) or len(words) < count:
        raise ValueError(f"a table of {len(words)} words for {count} entries of {bits} bits")
    return words[:count]


def _displayed(values: NDArray[Any], ds: Dataset) -> Floats | None:
    """The first VOI transformation, scaled to [0, 1]; None when there is no usable one."""
    if ds.get("VOILUTSequence"):
        whole = values if np.issubdtype(values.dtype, np.integer) else np.rint(values).astype(np.int32)
        return spread(_looked_up(whole, ds, "VOILUTSequence"), None)
    centre, width = _decimal(ds, "WindowCenter", None), _decimal(ds, "WindowWidth", None)
    if centre is None or width is None or width <= 1:
        return None
    if abs(centre) + width > FLOAT32_MAX:
        return None
    function = str(ds.get("VOILUTFunction") or "LINEAR").strip().upper()
    x = values.astype(np.float32)
    if function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -80, 80))), np.float32)
    if function == "LINEAR":  # PS3.3 C.11.2.1.2.1; LINEAR_EXACT is C.11.2.1.3.2
        centre, width = centre - 0.5, width - 1
    x -= np.float32(centre - width / 2)
    x *= np.float32(1 / width)
    return np.clip(x, 0, 1, out=x)


def _flat(grey: Floats, padding: NDArray[np.bool_] | None) -> bool:
    counted = grey if padding is None else grey[~padding]
    return not counted.size or float(counted.max()) <= float(counted.min())


def _decimal(ds: Dataset, keyword: str, absent: float | None) -> Any:
    """The first value of a decimal attribute; `absent` when it is missing or not finite in float32."""
    value = ds.get(keyword)
    if isinstance(value, (list, tuple)) or hasattr(value, "append"):
        value = value[0] if len(value) else None
    try:
        found = float(value) if value is not None else None
    except (TypeError, ValueError):
        return absent
    return found if found is not None and abs(found) <= FLOAT32_MAX else absent
