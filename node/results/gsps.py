"""The Grayscale Softcopy Presentation State: a flagged film as it was sent, with a line and words to take off.

It changes nothing of how the film is shown: same grey values, same area. The line is drawn where the map of the most
certain finding is at half of its height, which is where the Secondary Capture turns to colour; it is no outline.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import pr
from highdicom.color import CIELabColor
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from node.errors import ResultError
from node.results import header, uids
from node.results.contour import outlines
from node.results.evidence import Evidence, Subject
from node.results.repair import text
from node.results.summary import (
    below,
    between,
    cautions,
    figure,
    flagged,
    limit,
    model_name,
    model_notes,
    most_certain,
    names,
    place,
)

if TYPE_CHECKING:
    from models.findings import Finding

KIND = header.Kind("gsps", "gsps", "annotation", GrayscaleSoftcopyPresentationStateStorage, "PR", 9003)
# CT, MR (also in colour, and converted ones), PET, XA, XRF, X-ray 3D and breast tomosynthesis
ENHANCED = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in ("2.1", "2.2", "4.1", "4.3", "4.4", "12.1.1", "12.2.1", "13.1.1", "13.1.2", "13.1.3", "128.1", "130")
)
LAYER = "AI_RESEARCH"
HALF = 0.5
WIDTH = 72
"""Characters of a line of text; viewers do not break lines themselves."""
LONGEST = 1024
"""Characters of one text object (PS3.5 6.2, ST)."""
LINE_HEIGHT = 0.025
"""Of the film's rows: the height of the box that is asked for one line."""
YELLOW = CIELabColor(86.0, 0.0, 80.0)


def can_show(image: Evidence) -> bool:
    """Whether a grey presentation state is for this film: it is stored as grey, and its header says how it is shown.

    That of an enhanced object does not: there the functional groups of each frame do.
    """
    source = image.source
    if source.SOPClassUID in ENHANCED:
        return False
    grey = source.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    sized = int(source.get("Rows") or 0) > 0 and int(source.get("Columns") or 0) > 0
    return image.frame is not None and grey and sized


def build(subject: Subject, image: Evidence, *, ordinal: int) -> Dataset:
    """The presentation state of one film.

    Args:
        subject: the job that the image belongs to.
        image: analysed, and one that `can_show`.
        ordinal: InstanceNumber, 1 or more.

    Raises:
        ResultError: the image is not stored as grey.
    """
    if not can_show(image):
        raise ResultError("a presentation state needs a grey image with rows and columns")
    with config.disable_value_validation():
        ds = header.start(subject, KIND, about=[image], instance_number=ordinal, ordinal=ordinal)
        # Not of this object, which has a date of creation instead (PS3.3 A.33.1)
        del ds.ContentDate, ds.ContentTime
        _identification(ds, subject)
        header.body_part(ds, [image.source])
        _relationship(ds, image)
        _grey(ds, image.source)
        ds.DisplayedAreaSelectionSequence = [_whole(image.source)]
        layer = pr.GraphicLayer(LAYER, 1, description=f"AI, {header.RESEARCH_ONLY}", display_color=YELLOW)
        ds.GraphicLayerSequence = [layer]
        graphics = list(_graphics(image))
        ds.GraphicAnnotationSequence = [_annotation(image, _lines(subject, image, drawn=bool(graphics)), graphics)]
        return header.finish(ds)


def _identification(ds: Dataset, subject: Subject) -> None:
    """PS3.3 C.11.10; nobody made it by hand, so nobody's name is in it."""
    when = header.local(subject)
    ds.PresentationCreationDate, ds.PresentationCreationTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    ds.ContentLabel = LAYER
    ds.ContentDescription = text(f"{model_name(subject)} - {header.RESEARCH_ONLY}")
    ds.ContentCreatorName = ""


def _image(image: Evidence) -> Dataset:
    item = header.reference(image.source)
    if image.frame_number is not None:
        item.ReferencedFrameNumber = image.frame_number
    return item


def _relationship(ds: Dataset, image: Evidence) -> None:
    series = Dataset()
    series.SeriesInstanceUID = image.source.SeriesInstanceUID
    series.ReferencedImageSequence = [_image(image)]
    ds.ReferencedSeriesSequence = [series]


def _grey(ds: Dataset, source: Dataset) -> None:
    """The source's own grey: a presentation state replaces what the image says (PS3.4 N.2), so it has to repeat it."""
    if source.get("ModalityLUTSequence"):
        ds.ModalityLUTSequence = source.ModalityLUTSequence
    elif _number(source, "RescaleSlope") and _number(source, "RescaleIntercept") is not None:
        ds.RescaleIntercept, ds.RescaleSlope = _first(source.RescaleIntercept), _first(source.RescaleSlope)
        # Type 1 beside the two; US is "unspecified" (PS3.3 C.11.1.1.2)
        ds.RescaleType = source.get("RescaleType") or "US"
    voi = Dataset()
    # The first of several, as it was read by the model
    if source.get("VOILUTSequence"):
        voi.VOILUTSequence = [source.VOILUTSequence[0]]
    elif (_number(source, "WindowWidth") or 0) >= 1 and _number(source, "WindowCenter") is not None:
        voi.WindowCenter, voi.WindowWidth = _first(source.WindowCenter), _first(source.WindowWidth)
        if source.get("VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID"):
            voi.VOILUTFunction = source.VOILUTFunction
    if len(voi):
        ds.SoftcopyVOILUTSequence = [voi]
    # PS3.3 C.11.6.1.2: white is at the other end there
    ds.PresentationLUTShape = "INVERSE" if source.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"


def _first(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) else value[0]


def _number(source: Dataset, keyword: str) -> float | None:
    """The first value of a decimal attribute, if it has one that is finite."""
    value = source.get(keyword)
    try:
        found = float(_first(value))
    except (TypeError, ValueError, IndexError):
        return None
    return found if math.isfinite(found) else None


def _whole(source: Dataset) -> Dataset:
    """The whole film, as large as the window is (PS3.3 C.10.4)."""
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [int(source.Columns), int(source.Rows)]
    item.PresentationSizeMode = "SCALE TO FIT"
    item.PresentationPixelAspectRatio = _aspect(source)
    return item


def _aspect(source: Dataset) -> list[int]:
    """Height and width of a pixel, as whole numbers."""
    pair: Sequence[Any] = ()
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        pair = pair or source.get(keyword) or ()
    try:
        high, wide = (Fraction(str(value)) for value in pair)
    except ValueError:
        return [1, 1]
    if high <= 0 or wide <= 0:
        return [1, 1]
    ratio = (high / wide).limit_denominator(1000)
    return [ratio.numerator, ratio.denominator] if ratio else [1, 1]


def _lines(subject: Subject, image: Evidence, *, drawn: bool) -> list[str]:
    """Everything that was found, by which model, and what the line is."""
    findings = image.reading.findings
    found = flagged(findings)
    name = names(findings)
    shown = _shown(image)
    line = "No line is drawn."
    if shown and drawn:
        line = f"Line: where the model looked for {shown.finding.meaning}, not its outline."
    said = [
        *(f"{name[f.label]} {figure(f)} ({limit(f)})" for f in found),
        header.RESEARCH_ONLY,
        f"AI: {model_name(subject)}",
        *model_notes(subject),
        *cautions(found),
        *between(findings),
        *below(findings),
        f"Nothing else was looked for. {line} {place(subject, image)}",
    ]
    return [part for one in said for part in textwrap.wrap(text(one, "UT"), WIDTH)]


def _shown(image: Evidence) -> Finding | None:
    """The finding whose map there is to draw."""
    shown = most_certain(image.reading.findings)
    return shown if shown and shown.label in image.reading.saliency else None


def _annotation(image: Evidence, lines: Sequence[str], graphics: Sequence[Any]) -> Dataset:
    """PS3.3 C.10.5; coordinates are pixels of the film, its upper left corner is 0\\0."""
    rows, columns = int(image.source.Rows), int(image.source.Columns)
    item = Dataset()
    item.ReferencedImageSequence = [_image(image)]
    item.GraphicLayer = LAYER
    item.TextObjectSequence = list(_texts(lines, rows, columns))
    if graphics:
        item.GraphicObjectSequence = list(graphics)
    return item


def _texts(lines: Sequence[str], rows: int, columns: int) -> Iterator[Any]:
    """At the upper left, in as few objects as their length allows."""
    top = 0.01
    for chunk in _chunks(lines):
        bottom = min(top + LINE_HEIGHT * len(chunk), 1.0)
        box = (0.01 * columns, top * rows, 0.99 * columns, bottom * rows)
        value = "\r\n".join(chunk)
        yield pr.TextObject(value, units="PIXEL", bounding_box=box, text_justification="LEFT")
        top = min(bottom, 1 - LINE_HEIGHT)


def _chunks(lines: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    for line in lines:
        if chunk and len("\r\n".join([*chunk, line]).encode()) > LONGEST:
            yield chunk
            chunk = []
        chunk.append(line)
    yield chunk


def _graphics(image: Evidence) -> Iterator[Any]:
    shown = _shown(image)
    if shown is None:
        return
    rows, columns = int(image.source.Rows), int(image.source.Columns)
    uid = uids.tracking_uid(str(image.source.SOPInstanceUID), shown.label)
    for loop in outlines(image.reading.saliency[shown.label], level=HALF):
        points = np.round(loop * np.array([columns, rows], np.float32), 1)
        yield pr.GraphicObject("POLYLINE", points, units="PIXEL", tracking_id=text(shown.label), tracking_uid=uid)
