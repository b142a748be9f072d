"""The content tree of a report: TID 1500 Measurement Report, by highdicom's templates (PS3.16).

One "Analysis status" group says for each image whether it was analysed; one group for each finding carries its
certainty and presence. An image that was not analysed gets no finding group, so that it never reads as "all absent".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from models.findings import Presence
from node.errors import ResultError
from node.results import uids
from node.results.evidence import Evidence, Subject
from node.results.header import PRODUCT, RESEARCH_ONLY
from node.results.library import image_library, procedure_reported
from node.results.summary import (
    PRESENCE,
    analysed_images,
    by_label,
    cautions,
    detailed,
    figure,
    highest,
    job_status,
    most_certain,
    names,
    presence_of,
    sentence,
)

if TYPE_CHECKING:
    from models.codes import Code
    from models.findings import Finding

ARTIFICIAL_INTELLIGENCE = DicomCode("123110", "DCM", "Artificial Intelligence")
MAXIMUM = DicomCode("56851009", "SCT", "Maximum")
SCORE = DicomCode("246262008", "SCT", "Score")
ANALYSIS_STATUS = "Analysis status"
STUDY_PREFIX, SERIES_PREFIX = "Study: ", "Series: "
# PS3.16 CID 6042 Status of Results
STATUS = {
    "analysed": codes.cid6042.Succeeded,
    "refused": codes.cid6042.NotAttempted,
    "failed": codes.cid6042.Failed,
    "partly": codes.cid6042.PartiallySucceeded,
}
UNUSABLE = codes.cid6044.UnusableQualityRendersImageUnusable
# Codes of a reading that mean: the pixels themselves were judged, and not fit for this model.
GATE_CODES = frozenset({"gate", "out_of_distribution"})
MENTIONED = 0.0005
"""A gate's score that is not written as 0.000."""
CONTAINS = sr.RelationshipTypeValues.CONTAINS


def tree(subject: Subject, *, visuals: Sequence[Dataset]) -> Dataset:
    """The root content item with everything below it.

    Raises:
        ResultError: a score is not within 0 and 1.
    """
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer(subject)),
        procedure_reported=procedure_reported(subject.source),
        imaging_measurements=list(_groups(subject, visuals)),
        title=codes.cid7021.ImagingMeasurementReport,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            DicomCode("en-US", "RFC5646", "English (United States)")
        ),
    )
    root: Dataset = report[0]
    # TID 1500: the image library stands directly before the measurements.
    root.ContentSequence.insert(len(root.ContentSequence) - 1, image_library(subject.images))
    return root


def dicom_code(code: Code) -> DicomCode:
    return DicomCode(code.value, code.scheme, code.meaning)


def observer(subject: Subject) -> Any:
    device = subject.device
    return sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=uids.device_uid(device.serial),
            name=device.ae_title,
            manufacturer_name=PRODUCT,
            model_name=PRODUCT,
            serial_number=device.serial,
            role_in_procedure=codes.DCM.Performing,
        ),
    )


def _groups(subject: Subject, visuals: Sequence[Dataset]) -> Iterator[Any]:
    shown = _visuals_by_image(visuals)
    analysed = analysed_images(subject)
    if len(subject.images) > 1 or subject.missing or subject.choice:
        yield _job_group(subject, len(analysed))
    if len(analysed) > 1:
        for pairs in by_label(analysed).values():
            yield _study_group(subject, pairs, shown)
    for image in subject.images:
        yield _status_group(subject, image)
        if image.reading.status == "analysed":
            for finding in detailed(subject, image, alone=len(analysed) == 1):
                yield _image_group(subject, image, finding, shown)


def _visuals_by_image(visuals: Sequence[Dataset]) -> Mapping[str, list[Dataset]]:
    """Which overlays show which image; a text card derives from no image and explains none."""
    shown: dict[str, list[Dataset]] = {}
    for visual in visuals:
        for item in visual.get("SourceImageSequence", []):
            number = item.get("ReferencedFrameNumber")
            name = str(item.ReferencedSOPInstanceUID) + (f"#{number}" if number else "")
            shown.setdefault(name, []).append(visual)
    return shown


def _explaining(image: Evidence, finding: Finding, shown: Mapping[str, list[Dataset]]) -> Sequence[Dataset]:
    """The overlays of an image where they show the map of this finding."""
    drawn = finding is most_certain(image.reading.findings)
    # A picture of a single-frame object that holds several frames all the same cannot name the frame
    name = image.name if image.frame_number is not None else str(image.source.SOPInstanceUID)
    return shown.get(name, []) if drawn else []


def _job_group(subject: Subject, analysed: int) -> Any:
    comments = [subject.choice] if subject.choice else []
    comments.append(f"{analysed} of {len(subject.images)} images were analysed.")
    if subject.missing:
        comments.append(f"Instances that were not available any more: {', '.join(subject.missing)}.")
    return _group(
        subject,
        tracking=(uids.tracking_uid(subject.about_uid, ANALYSIS_STATUS), f"{_prefix(subject)}{ANALYSIS_STATUS}"),
        site=subject.model.body_part,
        parameters=_run_parameters(subject),
        evaluations=[(codes.DCM.SummaryOfAnalyses, STATUS[job_status(subject)])],
        images=subject.images,
        comments=[*_notes(subject), *comments],
    )


def _prefix(subject: Subject) -> str:
    return SERIES_PREFIX if subject.series_instance_uid else STUDY_PREFIX


def _status_group(subject: Subject, image: Evidence) -> Any:
    reading = image.reading
    evaluations = [(codes.DCM.SummaryOfAnalyses, STATUS[reading.status])]
    comments = _notes(subject)
    if reading.status != "analysed":
        word = "Not analysed" if reading.status == "refused" else "The analysis failed"
        comments.append(f"{word}: {reading.reason.rstrip('.') or 'no reason was recorded'}. [{reading.code}]")
        if reading.code in GATE_CODES:
            evaluations.append((codes.DCM.QualityAssessment, UNUSABLE))
    elif len(reading.findings) > 1:
        name = names(reading.findings)
        named = [(name[f.label], figure(f), presence_of(f)) for f in reading.findings]
        comments.append(f"In short: {sentence(named)}.")
    if reading.gate:
        scores = ", ".join(f"{label} {score:.3f}" for label, score in reading.gate.items() if score >= MENTIONED)
        comments.append(f"Gate {reading.gate_bundle}: {scores}.")
    if reading.distance is not None:
        comments.append(f"Distance from the images that are known: {reading.distance:.2f}.")
    parameters = _run_parameters(subject)
    if image.frame is not None:
        parameters.append(f"frame={image.frame.number} ({image.frame.frames_used})")
    return _group(
        subject,
        tracking=(uids.tracking_uid(image.name, ANALYSIS_STATUS), ANALYSIS_STATUS),
        site=subject.model.body_part,
        parameters=parameters,
        evaluations=evaluations,
        images=[image],
        comments=comments,
    )


def _image_group(subject: Subject, image: Evidence, finding: Finding, shown: Mapping[str, list[Dataset]]) -> Any:
    return _finding_group(
        subject,
        finding,
        presence=presence_of(finding),
        tracking=(uids.tracking_uid(image.name, finding.label), finding.label),
        images=[image],
        visuals=_explaining(image, finding, shown),
    )


def _study_group(subject: Subject, pairs: list[tuple[Evidence, Finding]], shown: Mapping[str, list[Dataset]]) -> Any:
    image, finding, presence = highest(pairs)
    measure = "calibrated probability" if finding.calibrated else "score"
    whole = _prefix(subject).removesuffix(": ")
    uid = str(image.source.SOPInstanceUID)
    where = f"frame {image.number} of image {uid}" if image.has_frames else f"image {uid}"
    return _finding_group(
        subject,
        finding,
        presence=presence,
        tracking=(uids.tracking_uid(subject.about_uid, finding.label), f"{_prefix(subject)}{finding.label}"),
        images=[pair[0] for pair in pairs],
        visuals=_explaining(image, finding, shown),
        comments=[f"{whole} level: the highest {measure} of the {len(pairs)} images analysed, that of {where}."],
        derivation=MAXIMUM,
    )


def _finding_group(
    subject: Subject,
    finding: Finding,
    *,
    presence: Presence,
    tracking: tuple[str, str],
    images: Sequence[Evidence],
    visuals: Sequence[Dataset],
    comments: Sequence[str] = (),
    derivation: DicomCode | None = None,
) -> Any:
    return _group(
        subject,
        tracking=tracking,
        finding=finding.finding,
        site=finding.site,
        parameters=_operating_parameters(finding),
        measurements=_measurements(finding, derivation),
        evaluations=[(codes.DCM.PresenceOfProperty, dicom_code(PRESENCE[presence]))],
        images=images,
        visuals=visuals,
        comments=[*comments, *cautions([finding])],
    )


def _group(
    subject: Subject,
    *,
    tracking: tuple[str, str],
    site: Code,
    parameters: Sequence[str],
    evaluations: Sequence[tuple[DicomCode, DicomCode]],
    images: Sequence[Evidence],
    finding: Code | None = None,
    measurements: Sequence[Any] = (),
    visuals: Sequence[Dataset] = (),
    comments: Sequence[str] = (),
) -> Any:
    """One Measurement Group (TID 1501)."""
    model = subject.model
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=tracking[0], identifier=tracking[1]),
        finding_type=dicom_code(finding) if finding else None,
        finding_sites=[sr.FindingSite(anatomic_location=dicom_code(site))],
        algorithm_id=sr.AlgorithmIdentification(
            name=model.name,
            version=model.version,
            manufacturer=model.manufacturer or None,
            family=ARTIFICIAL_INTELLIGENCE,
            parameters=list(parameters),
        ),
        measurements=list(measurements),
        qualitative_evaluations=[sr.QualitativeEvaluation(name=name, value=value) for name, value in evaluations],
        source_images=[_source_image(image) for image in images],
    )
    content = group[0].ContentSequence
    for visual in visuals:
        content.append(
            sr.ImageContentItem(
                name=codes.DCM.VisualExplanation,
                referenced_sop_class_uid=visual.SOPClassUID,
                referenced_sop_instance_uid=visual.SOPInstanceUID,
                relationship_type=CONTAINS,
            )
        )
    for comment in comments:
        content.append(sr.TextContentItem(name=codes.DCM.Comment, value=comment, relationship_type=CONTAINS))
    return group


def _source_image(image: Evidence) -> Any:
    source = image.source
    return sr.SourceImageForMeasurementGroup(
        source.SOPClassUID,
        source.SOPInstanceUID,
        referenced_frame_numbers=None if image.frame_number is None else [image.frame_number],
    )


def _measurements(finding: Finding, derivation: DicomCode | None) -> list[Any]:
    """The certainty in per cent where it is calibrated, else a plain score; nothing where there is no score.

    A NUM without a value is legal, but highdicom cannot read it back.
    """
    score = float(finding.score)
    if math.isnan(score):
        return []
    if not 0 <= score <= 1:
        raise ResultError(f"{finding.label}: the score {score} is not within 0 and 1")
    if finding.calibrated:
        name, value, unit = codes.DCM.CertaintyOfFinding, round(score * 100, 1), codes.UCUM.Percent
    else:
        name, value, unit = SCORE, round(score, 4), codes.UCUM.NoUnits
    return [sr.Measurement(name=name, value=value, unit=unit, derivation=derivation)]


def _operating_parameters(finding: Finding) -> list[str]:
    output = "calibrated probability" if finding.calibrated else "score, not calibrated"
    parameters = [f"output={output}", f"threshold={finding.threshold:.6g}"]
    if finding.lower < finding.threshold:
        parameters.append(f"uncertain_band=[{finding.lower:.6g},{finding.threshold:.6g})")
    if finding.operating_point:
        parameters.append(f"operating_point={finding.operating_point}")
    return parameters


def _run_parameters(subject: Subject) -> list[str]:
    model = subject.model
    parameters = [f"bundle={model.digest}", f"settings={model.settings_digest}", f"route={subject.route}"]
    if model.family:
        parameters.append(f"network={model.family}")
    return parameters


def _notes(subject: Subject) -> list[str]:
    """What stands in every status group, whatever came out."""
    notes = [f"{RESEARCH_ONLY}. Automated output, not verified by a physician."]
    if subject.model.audit_note:
        notes.append(subject.model.audit_note)
    if subject.shadow:
        notes.append("Shadow route: kept on the node and not delivered.")
    return notes
