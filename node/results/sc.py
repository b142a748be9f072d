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
    by_label,
    cautions,
    figure,
    highest,
    limit,
    most_certain,
    nothing,
    presence_of,
)

if TYPE_CHECKING:
    from models.findings import Finding

NAMED = 8
"""So many findings below their thresholds at most are named on an overlay."""
OVERLAY = header.Kind("sc", "sc", "overlay", SecondaryCaptureImageStorage, "OT", 9002)
CARD = header.Kind("card", "sc", "overlay", SecondaryCaptureImageStorage, "OT", 9002)
REASONS_SHOWN = 8
# PS3.16 Annex L: body parts of which there is one; Laterality (0020,0060) may not be sent for them.
UNPAIRED = frozenset(
    (
        "ABDOMEN ABDOMENPELVIS AORTA BLADDER BRAIN CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS COCCYX COLON CSPINE "
        "CTSPINE DUODENUM ESOPHAGUS FACE GALLBLADDER HEAD HEADNECK HEART JAW LARYNX LIVER LSPINE LSSPINE MEDIASTINUM "
        "NECK NECKCHEST PANCREAS PELVIS PENIS PHARYNX PROSTATE RECTUM SCALP SKULL SPINE SPLEEN SSPINE STERNUM STOMACH "
        "THYMUS THYROID TLSPINE TRACHEA TSPINE UTERUS VAGINA VULVA WHOLEBODY"
    ).split()
)
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
    flagged = sorted((f for f in findings if presence_of(f) is Presence.PRESENT), key=lambda f: -f.score)
    shown = most_certain(findings)
    heat = image.reading.saliency.get(shown.label) if shown else None
    found = [Line(f"{f.finding.meaning} {figure(f)}  ({limit(f)})", picture.WHITE) for f in flagged]
    caption = [
        *(found or [Line(nothing(len(findings)).capitalize())]),
        *_model_lines(subject),
        *(Line(text, picture.AMBER, 0.8) for text in cautions(flagged)),
        *_others(findings),
        Line(_caption(subject, image, shown=shown if heat is not None else None), picture.GREY, 0.8),
        Line(header.RESEARCH_ONLY, picture.YELLOW),
    ]
    pixels = picture.overlay(image.frame.pixels, heat, caption=caption)
    with config.disable_value_validation():
        ds = _secondary_capture(subject, OVERLAY, [image], pixels=pixels, ordinal=ordinal)
        named = f"class activation map of {shown.finding.meaning}" if shown else ""
        drawn = f"{named} over the image" if heat is not None else "the image with text, no heat map"
        ds.DerivationDescription = f"{_model(subject)}: {drawn}; resized to 8 bit. {header.RESEARCH_ONLY}"
        ds.SourceImageSequence = [_source_item(image.source)]
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
    pixels = picture.card(
        _headline(subject),
        lines=_model_lines(subject),
        bars=_bars(subject),
        notes=_card_notes(subject),
        footer=Line(header.RESEARCH_ONLY, picture.YELLOW),
    )
    with config.disable_value_validation():
        ds = _secondary_capture(subject, CARD, subject.images, pixels=pixels, ordinal=ordinal)
        # The card speaks of the images; its pixels do not derive from theirs.
        ds.ReferencedImageSequence = [header.reference(image.source) for image in subject.images]
        ds.PatientOrientation = ""
        return header.finish(ds)


def _model(subject: Subject) -> str:
    return f"{subject.model.name} {subject.model.version}"


def _model_lines(subject: Subject) -> list[Line]:
    notes = [subject.model.audit_note, "Shadow route: not delivered." if subject.shadow else ""]
    return [Line(_model(subject), picture.GREY, 0.9), *(Line(note, picture.AMBER, 0.9) for note in notes if note)]


def _others(findings: Sequence[Finding]) -> list[Line]:
    """The findings that are not present, so that an overlay leaves none unsaid."""
    between = [f for f in findings if presence_of(f) is Presence.UNDETERMINED]
    below = [f.finding.meaning for f in findings if presence_of(f) is Presence.ABSENT]
    lines = []
    if between:
        said = ", ".join(f"{f.finding.meaning} {figure(f)}" for f in between)
        lines.append(Line(f"Undetermined: {said}.", picture.AMBER, 0.8))
    if below:
        said = ", ".join(below) if len(below) <= NAMED else f"{len(below)} others"
        lines.append(Line(f"Below threshold: {said}.", picture.GREY, 0.8))
    return lines


def _caption(subject: Subject, image: Evidence, *, shown: Finding | None) -> str:
    text = "Nothing else was looked for. "
    if shown is None:
        text += "No heat map for this model."
    else:
        text += f"Colour: where the model looked for {shown.finding.meaning}, not its outline."
    if len(subject.images) > 1:
        place = next(i for i, other in enumerate(subject.images, 1) if other is image)
        text += f" Image {place} of {len(subject.images)}."
    return text


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
    for pairs in by_label(subject.images).values():
        _, finding, presence = highest(pairs)
        value = None if math.isnan(finding.score) else finding.score
        word = PRESENCE[presence].meaning
        name = finding.finding.meaning
        bars.append(Bar(name, value, finding.threshold, figure(finding), word, COLOURS[presence]))
    return bars


def _card_notes(subject: Subject) -> list[Line]:
    images = subject.images
    analysed = analysed_images(subject)
    lines = []
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
    if subject.source.get("BodyPartExamined"):
        ds.BodyPartExamined = subject.source.BodyPartExamined
    if str(ds.get("BodyPartExamined", "")) not in UNPAIRED:
        # Type 2C where the body part is, or may be, a paired one: the source's word, or empty.
        sides = {str(image.source.get("Laterality", "")) for image in images}
        ds.Laterality = sides.pop() if len(sides) == 1 and sides <= {"L", "R"} else ""
    _burned_in(ds, images if kind is OVERLAY else ())
    ds.RecognizableVisualFeatures = "NO"
    _lossy(ds, images[0] if kind is OVERLAY else None)
    _pixels(ds, pixels)
    return ds


def _source_item(source: Dataset) -> Dataset:
    item = header.reference(source)
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
