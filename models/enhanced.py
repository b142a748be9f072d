"""Enhanced multi-frame objects: what they say of one frame, as a single image would say it (PS3.3 C.7.6.16).

Where a functional group says something of the frame it counts, otherwise the data set itself. Reads no pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from models.decode import PARSER_ERRORS

PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
GROUPS = (PER_FRAME, SHARED)
MACROS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "FrameAnatomySequence": ("AnatomicRegionSequence",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
}
"""Macros of the functional groups, and those of their attributes that single images carry themselves."""


def of_frame(ds: Dataset, index: int) -> Dataset:
    """The data set as it would be were the frame at `index` (from 0) its only one. A copy that shares its values.

    What cannot be read counts as absent.
    """
    groups = {tag_for_keyword(keyword) for keyword in GROUPS}
    single = Dataset({tag: ds.get_item(tag) for tag in list(ds.keys()) if tag not in groups})
    if hasattr(ds, "file_meta"):
        single.file_meta = ds.file_meta
    for item in (*_items(ds, SHARED, 0), *_items(ds, PER_FRAME, index)):  # PS3.3 C.7.6.16: a macro is in one of them
        for macro, keywords in MACROS.items():
            for values in _items(item, macro, 0):
                _copy(values, single, keywords)
    return single


def _items(ds: Dataset, keyword: str, index: int) -> Iterator[Dataset]:
    """The item at `index` of a sequence, if it is there."""
    try:
        sequence = ds.get(keyword)
        if isinstance(sequence, Sequence) and index < len(sequence):
            yield sequence[index]
    except PARSER_ERRORS:
        return


def _copy(values: Dataset, single: Dataset, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        try:
            if keyword in values:
                single.add(values[keyword])
        except PARSER_ERRORS:
            continue
