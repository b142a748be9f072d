"""The Secondary Capture: what a viewer shows of a result, since many viewers show nothing of a Structured Report.

An overlay for a flagged image or one text card for a job; which of them is made is not decided here. Patient attributes
are in the header, as in every object of the study, and never in the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from models.findings import Presence
from node.errors import ResultError
from node.results import header, picture
from node.results.evidence import Evidence, Subject
from node.results.library import orientation
from node.results.picture import Bar, Line
from node.results.summary import (
    PRESENCE,
    analysed_images,
    below,
    between,
    by_label,
    cautions,
    figure,
    flagged,
    highest,
    limit,
    model_name,
    model_notes,
    most_certain,
    names,
    nothing,
    place,
    presence_of,
)

if TYPE_CHECKING:
    from models.findings import Finding

OVERLAY = header.Kind("sc", "sc", "overlay", SecondaryCaptureImageStorage, "OT", 9002)
CARD = header.Kind("card", "sc", "overlay", SecondaryCaptureImageStorage, "OT", 9002)
REASONS_SHOWN = 8
GAP = Line("", scale=0.4)
COLOURS = {
    Presence.PRESENT: picture.RED,
    Presence.ABSENT: picture.BLUE,
    Presence.UNDETERMINED: picture.AMBER,
}


def overlay(subject: Subject, image: Evidence, *, ordinal: int) -> Dataset:
    """The image, and below it its present findings, their per cents and the model's name.

    One heat map, that of the most certain finding: several on one film could not be told apart.

    Args:
        subject: the job that the image belongs to.
        image: analysed, with its frame.
        ordinal: InstanceNumber, 1 or more.

    Raises:
        ResultError: the image has no frame.
    """
    if image.frame is None:
        raise ResultError("an overlay needs the image's pixels")
    findings = image.reading.findings
    shown = most_certain(findings)
    heat = image.reading.saliency.get(shown.label) if shown else None
    pixels = picture.overlay(image.frame.pixels, heat, caption=overlay_lines(subject, image))
    with config.disable_value_validation():
        ds = _secondary_capture(subject, OVERLAY, [image], pixels=pixels, ordinal=ordinal)
        named = f"class activation map of {shown.finding.meaning}" if shown else ""
        drawn = f"{named} over the image" if heat is not None else "the image with text, no heat map"
        ds.DerivationDescription = f"{model_name(subject)}: {drawn}; resized to 8 bit. {header.RESEARCH_ONLY}"
        ds.SourceImageSequence = [_source_item(image)]
        if heat is not None:
            ds.DerivationCodeSequence = [header.coded(codes.cid217.ClassActivation)]
        toward = orientation(image.source)
        # Type 2C: empty rather than invented; the film was neither turned nor mirrored.
        ds.PatientOrientation = toward or ""
        return header.finish(ds)


def card(subject: Subject, *, ordinal: int) -> Dataset:
    """A card of text that says what the job found, or why nothing was analysed, for all of its images.

    Args:
        subject: the job.
        ordinal: InstanceNumber, 1 or more.
    """
    headline, lines, bars, notes, footer = _card(subject)
    pixels = picture.card(headline, lines=lines, bars=bars, notes=notes, footer=footer)
    with config.disable_value_validation():
        ds = _secondary_capture(subject, CARD, subject.images, pixels=pixels, ordinal=ordinal)
        # The card speaks of the images; its pixels do not derive from theirs.
        ds.ReferencedImageSequence = header.references(subject.images)
        ds.PatientOrientation = ""
        return header.finish(ds)


def overlay_words(subject: Subject, image: Evidence) -> list[str]:
    """Every text that is burned into the overlay of an image."""
    return [line.text for line in overlay_lines(subject, image)]


def card_words(subject: Subject) -> list[str]:
    """Every text that is drawn on the card of a job."""
    headline, lines, bars, notes, footer = _card(subject)
    drawn = [word for bar in bars for word in (bar.name, bar.figure, bar.word)]
    return [headline.text, *(line.text for line in (*lines, *notes)), *drawn, footer.text]


def _card(subject: Subject) -> tuple[Line, list[Line], list[Bar], list[Line], Line]:
    footer = Line(header.RESEARCH_ONLY, picture.YELLOW)
    return _headline(subject), _model_lines(subject), _bars(subject), _card_notes(subject), footer


def overlay_lines(subject: Subject, image: Evidence) -> list[Line]:
    """What stands below the film: everything that was found, so that an overlay leaves nothing unsaid."""
    findings = image.reading.findings
    found = flagged(findings)
    shown = most_certain(findings)
    drawn = shown if shown and shown.label in image.reading.saliency else None
    name = names(findings)
    top = [Line(f"{name[f.label]} {figure(f)}  ({limit(f)})", picture.WHITE) for f in found]
    return [
        *(top or [Line(nothing(len(findings)).capitalize())]),
        *_model_lines(subject),
        *(Line(text, picture.AMBER, 0.8) for text in cautions(found)),
        *(Line(text, picture.AMBER, 0.8) for text in between(findings)),
        *(Line(text, picture.GREY, 0.8) for text in below(findings)),
        Line(_caption(subject, image, shown=drawn), picture.GREY, 0.8),
        Line(header.RESEARCH_ONLY, picture.YELLOW),
    ]


def _model_lines(subject: Subject) -> list[Line]:
    notes = (Line(note, picture.AMBER, 0.9) for note in model_notes(subject))
    return [Line(model_name(subject), picture.GREY, 0.9), *notes]


def _caption(subject: Subject, image: Evidence, *, shown: Finding | None) -> str:
    text = "Nothing else was looked for. "
    if shown is None:
        text += "No heat map for this model."
    else:
        text += f"Colour: where the model looked for {shown.finding.meaning}, not its outline."
    return f"{text} {place(subject, image)}".rstrip()


def _headline(subject: Subject) -> Line:
    analysed = analysed_images(subject)
    if not analysed:
        return Line("Not analysed", picture.AMBER)
    found = [presence_of(f) for image in analysed for f in image.reading.findings]
    if Presence.PRESENT in found:
        # A card may also stand in for an overlay; it never says less than was found.
        return Line("Analysed: above threshold", picture.RED)
    return Line(f"Analysed: {nothing(len(by_label(analysed)))}")


def _bars(subject: Subject) -> list[Bar]:
    bars = []
    found = [highest(pairs) for pairs in by_label(subject.images).values()]
    name = names([finding for _, finding, _ in found])
    for _, finding, presence in found:
        value = None if math.isnan(finding.score) else finding.score
        word = PRESENCE[presence].meaning
        bars.append(Bar(name[finding.label], value, finding.threshold, figure(finding), word, COLOURS[presence]))
    return bars


def _card_notes(subject: Subject) -> list[Line]:
    images = subject.images
    analysed = analysed_images(subject)
    lines = [Line(subject.choice, picture.GREY, 0.85)] if subject.choice else []
    if len(analysed) > 1:
        lines.append(Line(f"Each figure is the highest of the {len(analysed)} images analysed.", picture.GREY, 0.85))
    if analysed:
        lines.append(
            Line("White mark: threshold of the model. Below it a finding can still be there.", picture.GREY, 0.85)
        )
    findings = [f for image in analysed for f in image.reading.findings]
    lines += [Line(text, picture.AMBER, 0.85) for text in cautions(findings)]
    silent = [(i, image) for i, image in enumerate(images, 1) if image.reading.status != "analysed"]
    if silent and analysed:
        lines += [GAP, Line(f"Not analysed: {len(silent)} of {len(images)} images", picture.AMBER)]
    for i, image in silent[:REASONS_SHOWN]:
        place = f"Image {i}: " if len(images) > 1 else ""
        lines.append(Line(f"{place}{image.reading.reason.rstrip('.') or 'no reason was recorded'}."))
    if len(silent) > REASONS_SHOWN:
        lines.append(Line(f"and {len(silent) - REASONS_SHOWN} more: see the report.", picture.GREY))
    if not analysed:
        lines += [GAP, Line("This says nothing about what the images show.", picture.GREY, 0.85)]
    if subject.missing:
        lines.append(Line(f"{len(subject.missing)} instances were not available any more.", picture.AMBER))
    return lines


def _secondary_capture(
    subject: Subject, kind: header.Kind, about: Iterable[Evidence], *, pixels: NDArray[np.uint8], ordinal: int
) -> Dataset:
    """SC Equipment, General Image, Image Pixel and SC Image Modules (PS3.3 A.8.1) around 8 bit RGB pixels."""
    images = tuple(about)
    ds = header.start(subject, kind, about=images, instance_number=ordinal, ordinal=ordinal)
    when = header.local(subject)
    ds.ConversionType = "WSD"
    ds.SecondaryCaptureDeviceManufacturer = header.PRODUCT
    ds.SecondaryCaptureDeviceManufacturerModelName = header.PRODUCT
    ds.SecondaryCaptureDeviceSoftwareVersions = list(ds.SoftwareVersions)
    ds.DateOfSecondaryCapture = when.strftime("%Y%m%d")
    ds.TimeOfSecondaryCapture = when.strftime("%H%M%S")
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ImageComments = header.RESEARCH_ONLY
    header.body_part(ds, [image.source for image in images])
    _burned_in(ds, images if kind is OVERLAY else ())
    ds.RecognizableVisualFeatures = "NO"
    _lossy(ds, images[0] if kind is OVERLAY else None)
    _pixels(ds, pixels)
    return ds


def _source_item(image: Evidence) -> Dataset:
    (item,) = header.references([image])
    item.PurposeOfReferenceCodeSequence = [header.coded(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _burned_in(ds: Dataset, copied: Sequence[Evidence]) -> None:
    """What we burn in identifies nobody; what a copied source has burned in is still there, and may be unknown."""
    said = {str(image.source.get("BurnedInAnnotation", "")) for image in copied}
    if "YES" in said:
        ds.BurnedInAnnotation = "YES"
    elif said <= {"NO"}:
        ds.BurnedInAnnotation = "NO"


def _lossy(ds: Dataset, copied: Evidence | None) -> None:
    """PS3.3 C.7.6.1.1.5: an image that was ever compressed with loss says so for ever; unknown stays unknown."""
    if copied is None:
        ds.LossyImageCompression = "00"
        return
    source = copied.source
    lossy = source.get("LossyImageCompression") == "01" or (copied.frame is not None and copied.frame.header.lossy)
    if not lossy and source.get("LossyImageCompression") != "00":
        return
    ds.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy and source.get(keyword):
            ds.add(source[keyword])


def _pixels(ds: Dataset, pixels: NDArray[np.uint8]) -> None:
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    data = pixels.tobytes()
    # PS3.5 8.1.1: a value has an even number of bytes.
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB"
