"""The Encapsulated PDF: the job's report as pages for people, with the pictures that there are.

It says what the Structured Report says, in its words. The patient stands in the DICOM header and never on a page. The
pages use only the fonts that every reader of PDF has; `page.py` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydicom import config
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import EncapsulatedPDFStorage

from models.findings import Presence
from node.results import header
from node.results.evidence import Evidence, Subject
from node.results.page import AMBER, BLUE, GREY, RED, Pages, Row
from node.results.repair import text
from node.results.summary import (
    PRESENCE,
    analysed_images,
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
    presence_of,
)
from node.results.text import moment

if TYPE_CHECKING:
    from models.findings import Finding

KIND = header.Kind("pdf", "pdf", "document", EncapsulatedPDFStorage, "DOC", 9005)
TITLE = DicomCode("18748-4", "LN", "Diagnostic imaging study")
PDF_TYPE = "application/pdf"
COLOURS = {Presence.PRESENT: RED, Presence.ABSENT: BLUE, Presence.UNDETERMINED: AMBER}


def build(subject: Subject, *, visuals: Sequence[Dataset] = ()) -> Dataset:
    """The document of one job.

    Args:
        subject: the job.
        visuals: Secondary Captures of the same job; those that derive from an image are shown beside its findings.

    Raises:
        ResultError: no image.
    """
    return typeset(subject, visuals=visuals)[0]


def typeset(subject: Subject, *, visuals: Sequence[Dataset] = ()) -> tuple[Dataset, list[str]]:
    """The same, and every text on its pages."""
    with config.disable_value_validation():
        ds = header.start(subject, KIND, about=subject.images, instance_number=max(1, subject.revision), ordinal=1)
        shown = _by_image(subject, visuals)
        page = _drawn(subject, shown, when=moment(ds))
        _document(ds, subject, page.to_bytes())
        _sources(ds, subject, [visual for found in shown.values() for visual in found])
        return header.finish(ds), page.said


def _by_image(subject: Subject, visuals: Sequence[Dataset]) -> dict[int, list[Dataset]]:
    """The overlays of each image, by its place: of several frames of one object each has its own, in their order."""
    left = [visual for visual in visuals if visual.get("SourceImageSequence")]
    shown: dict[int, list[Dataset]] = {}
    for place, image in enumerate(subject.images):
        uid = image.source.SOPInstanceUID
        found = next((v for v in left if v.SourceImageSequence[0].ReferencedSOPInstanceUID == uid), None)
        if found is not None and flagged(image.reading.findings):
            shown[place] = [found]
            left.remove(found)
    return shown


def _document(ds: Dataset, subject: Subject, data: bytes) -> None:
    """Encapsulated Document Series and Encapsulated Document Modules (PS3.3 C.24.1, C.24.2)."""
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = ""
    ds.RecognizableVisualFeatures = "NO"
    ds.DocumentTitle = text(f"AI result of {model_name(subject)} - {header.RESEARCH_ONLY}", "ST")
    ds.ConceptNameCodeSequence = [header.coded(TITLE)]
    ds.VerificationFlag = "UNVERIFIED"
    ds.MIMETypeOfEncapsulatedDocument = PDF_TYPE
    ds.EncapsulatedDocumentLength = len(data)
    # PS3.5 8.1.1: a value has an even number of bytes; the length above is that of the document.
    ds.EncapsulatedDocument = data + b"\0" * (len(data) % 2)


def _sources(ds: Dataset, subject: Subject, pictures: Sequence[Dataset]) -> None:
    said = {str(picture.get("BurnedInAnnotation", "")) for picture in pictures}
    # Type 1 here: our words name nobody, and a picture whose film does not say so may show a name
    ds.BurnedInAnnotation = "NO" if said <= {"NO"} else "YES"
    sources = {str(image.source.SOPInstanceUID): image.source for image in subject.images}
    ds.SourceInstanceSequence = [header.reference(source) for source in (*sources.values(), *pictures)]


def _drawn(subject: Subject, shown: dict[int, list[Dataset]], *, when: str) -> Pages:
    device = subject.device
    page = Pages(
        title=f"AI result: {model_name(subject)}",
        banner=header.RESEARCH_ONLY,
        foot=f"{header.PRODUCT} {device.version} at {device.ae_title}, {when}, revision {subject.revision}",
        when=subject.when,
    )
    page.small(
        "Automated output, preliminary, not verified by a physician. "
        "The patient is named in the header of this DICOM object and not on the page."
    )
    for note in model_notes(subject):
        page.line(note, AMBER)
    _headline(page, subject)
    if len(subject.images) > 1:
        _overall(page, subject)
    for place in range(len(subject.images)):
        _image(page, subject, place, shown.get(place, []))
    _how_to_read(page, subject, drawn=bool(shown))
    _model(page, subject)
    return page


def _headline(page: Pages, subject: Subject) -> None:
    analysed = analysed_images(subject)
    if not analysed:
        page.headline("Not analysed", AMBER)
        page.line("This says nothing about what the images show.")
        return
    labels = by_label(analysed)
    present = [pairs for pairs in map(highest, labels.values()) if pairs[2] is Presence.PRESENT]
    if present:
        name = names([f for _, f, _ in present])
        page.headline("Above threshold: " + ", ".join(name[f.label] for _, f, _ in present), RED)
    else:
        page.headline(f"Analysed: {nothing(len(labels))}", GREY)
    silent = len(subject.images) - len(analysed)
    if silent:
        page.line(f"Not analysed: {silent} of {len(subject.images)} images", AMBER)
    if subject.missing:
        page.line(f"{len(subject.missing)} instances were not available any more.", AMBER)


def _overall(page: Pages, subject: Subject) -> None:
    """One row for each finding, over all images."""
    labels = by_label(subject.images)
    analysed = len(analysed_images(subject))
    if analysed > 1:
        page.section("All images")
        page.small(f"Each figure is the highest of the {analysed} images analysed.")
        page.table(_rows([(finding, presence) for _, finding, presence in map(highest, labels.values())]))


def _image(page: Pages, subject: Subject, place: int, pictures: Sequence[Dataset]) -> None:
    image = subject.images[place]
    page.section(_name(image, place, len(subject.images)))
    reading = image.reading
    if reading.status != "analysed":
        word = "Not analysed" if reading.status == "refused" else "The analysis failed"
        page.line(f"{word}: {reading.reason.rstrip('.') or 'no reason was recorded'}.", AMBER)
    elif reading.findings:
        page.table(_rows([(finding, presence_of(finding)) for finding in reading.findings]))
        for caution in cautions(reading.findings):
            page.line(caution, AMBER)
    if reading.gate:
        scores = ", ".join(f"{label} {100 * score:.1f} %" for label, score in reading.gate.items() if score >= 0.0005)
        page.small(f"Gate {reading.gate_bundle}: {scores}.")
    for picture in pictures:
        named = most_certain(reading.findings)
        pixels = np.frombuffer(picture.PixelData, np.uint8, count=3 * picture.Rows * picture.Columns)
        page.picture(
            pixels.reshape(picture.Rows, picture.Columns, 3),
            _caption(named if named and _mapped(image, named) else None),
        )


def _mapped(image: Evidence, finding: Finding) -> bool:
    return finding.label in image.reading.saliency


def _caption(shown: Finding | None) -> str:
    if shown is None:
        return "The image as the model was given it. No heat map for this model."
    return f"Colour: where the model looked for {shown.finding.meaning}, not its outline."


def _name(image: Evidence, place: int, count: int) -> str:
    """An image by what a viewer shows of it: modality and numbers."""
    source = image.source
    named = [str(source.get("Modality", ""))]
    for word, keyword in (("series", "SeriesNumber"), ("image", "InstanceNumber")):
        value = source.get(keyword)
        if isinstance(value, int):
            named.append(f"{word} {value}")
    if image.frame is not None and int(source.get("NumberOfFrames") or 1) > 1:
        named.append(f"frame {image.frame.number}")
    said = ", ".join(filter(None, named))
    return f"Image {place + 1} of {count}" + (f" ({said})" if said else "")


def _rows(found: Sequence[tuple[Finding, Presence]]) -> list[Row]:
    name = names([finding for finding, _ in found])
    rows = []
    for finding, presence in found:
        value = None if math.isnan(finding.score) else finding.score
        said = name[finding.label], figure(finding), PRESENCE[presence].meaning, limit(finding)
        rows.append(Row(*said, value, finding.threshold, COLOURS[presence]))
    return rows


def _how_to_read(page: Pages, subject: Subject, *, drawn: bool) -> None:
    findings = [finding for image in analysed_images(subject) for finding in image.reading.findings]
    if not findings:
        return
    page.section("How to read this")
    if any(finding.calibrated for finding in findings):
        page.line("Per cents are calibrated: of the films that the model gives 30 %, about 30 in 100 had the finding.")
    if not all(finding.calibrated for finding in findings):
        page.line("A score is not calibrated and is no probability.")
    page.line(
        "The mark on each bar is the threshold of the model. Below it a finding can still be there; "
        "nothing but the findings listed was looked for."
    )
    if drawn:
        page.line("The colour on a film is where the model looked. It is not always where a reader would look.")


def _model(page: Pages, subject: Subject) -> None:
    model = subject.model
    page.section("Model")
    points = dict.fromkeys(
        finding.operating_point
        for image in subject.images
        for finding in image.reading.findings
        if finding.operating_point
    )
    facts: Iterable[tuple[str, str]] = (
        ("Name, version", model_name(subject)),
        ("Network", model.family),
        ("Made by", model.manufacturer),
        ("Operating points", "; ".join(points)),
        ("Bundle", model.digest),
        ("Settings", model.settings_digest),
        ("Route", subject.route),
    )
    for name, value in facts:
        if value:
            page.fact(name, value)
