"""What a job's readings come to, before any object is made of it: the report and the picture must say the same.

Knows readings only; no DICOM and no drawing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.codes import ABSENT, PRESENT, UNDETERMINED
from models.findings import Presence
from node.results.evidence import Evidence, Subject

if TYPE_CHECKING:
    from models.findings import Finding

# PS3.16 CID 240 Present-Absent
PRESENCE = {Presence.PRESENT: PRESENT, Presence.ABSENT: ABSENT, Presence.UNDETERMINED: UNDETERMINED}
NAMED = 8
"""So many findings below their thresholds at most are named in one line."""
# What a finding must not be read as, by the value of its code.
CAUTIONS = {
    "840539006": "A radiographic pattern only: no radiograph diagnoses COVID-19.",
    "408574004": "For the order of reading only: a film below the threshold is no normal film.",
}


def analysed_images(subject: Subject) -> list[Evidence]:
    return [image for image in subject.images if image.reading.status == "analysed"]


def detailed(subject: Subject, image: Evidence, *, alone: bool) -> list[Finding]:
    """The findings of an analysed image that a report goes into: all of them.

    Of a slice among many only those that are not absent: what is absent is said of the series, and a report with every
    label of every slice would have tens of megabytes. `alone`: no other image was analysed.
    """
    findings = list(image.reading.findings)
    if alone or not subject.choice:
        return findings
    return [f for f in findings if presence_of(f) is not Presence.ABSENT]


def job_status(subject: Subject) -> str:
    """The job as a whole: "analysed", "refused" or "failed" like one image, or "partly"."""
    found = {image.reading.status for image in subject.images}
    if "analysed" in found:
        return "partly" if len(found) > 1 or subject.missing else "analysed"
    return "failed" if "failed" in found else "refused"


def highest(findings: Sequence[tuple[Evidence, Finding]]) -> tuple[Evidence, Finding, Presence]:
    """What several analysed images say of one label: the image with the highest score, its finding, the presence.

    An image without a score keeps the study from being called absent.
    """
    image, finding = max(findings, key=lambda pair: -1.0 if math.isnan(pair[1].score) else pair[1].score)
    presence = presence_of(finding)
    if presence is Presence.ABSENT and any(math.isnan(f.score) for _, f in findings):
        presence = Presence.UNDETERMINED
    return image, finding, presence


def presence_of(finding: Finding) -> Presence:
    """The presence as it may be said: without a score (NaN) nothing is known."""
    return Presence.UNDETERMINED if math.isnan(finding.score) else finding.presence


def by_label(images: Sequence[Evidence]) -> dict[str, list[tuple[Evidence, Finding]]]:
    """The findings of the analysed images, label by label, in the model's order."""
    labels: dict[str, list[tuple[Evidence, Finding]]] = {}
    for image in images:
        for finding in image.reading.findings if image.reading.status == "analysed" else ():
            labels.setdefault(finding.label, []).append((image, finding))
    return labels


def names(findings: Sequence[Finding]) -> dict[str, str]:
    """What each label is called: what its code means, and the label itself where two have the same code."""
    shared = Counter(f.finding.meaning for f in findings)
    return {f.label: called(f.finding.meaning, f.label, shared=shared[f.finding.meaning] > 1) for f in findings}


def called(meaning: str, label: str, *, shared: bool) -> str:
    return f"{meaning} ({label})" if shared and label.casefold() != meaning.casefold() else meaning


def most_certain(findings: Sequence[Finding]) -> Finding | None:
    """The present finding with the highest score, whose map a picture shows; None when none is present."""
    present = [f for f in findings if presence_of(f) is Presence.PRESENT]
    return max(present, key=lambda f: f.score, default=None)


def flagged(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that are present, the most certain first."""
    return sorted((f for f in findings if presence_of(f) is Presence.PRESENT), key=lambda f: -f.score)


def between(findings: Sequence[Finding]) -> list[str]:
    """A line of the findings that are left open; none where there are none."""
    name = names(findings)
    said = [f"{name[f.label]} {figure(f)}" for f in findings if presence_of(f) is Presence.UNDETERMINED]
    return [f"Undetermined: {', '.join(said)}."] if said else []


def below(findings: Sequence[Finding]) -> list[str]:
    """A line of the findings below their thresholds, counted where they are many; none where there are none."""
    name = names(findings)
    said = [name[f.label] for f in findings if presence_of(f) is Presence.ABSENT]
    return [f"Below threshold: {', '.join(said) if len(said) <= NAMED else f'{len(said)} others'}."] if said else []


def model_name(subject: Subject) -> str:
    return f"{subject.model.name} {subject.model.version}"


def model_notes(subject: Subject) -> list[str]:
    """What has to be said beside the model's name, whatever came out."""
    notes = [subject.model.audit_note, "Shadow route: not delivered." if subject.shadow else ""]
    return [note for note in notes if note]


def place(subject: Subject, image: Evidence) -> str:
    """Which of several images this one is; nothing where there is one only."""
    if len(subject.images) == 1:
        return ""
    number = next(i for i, other in enumerate(subject.images, 1) if other is image)
    return f"Image {number} of {len(subject.images)}{' read of this series' if subject.choice else ''}."


def nothing(labels: int, *, named: int = 0) -> str:
    """What is said when no finding, or none but those `named`, reached its threshold. It never sounds like normal."""
    if labels == 1:
        return "not above its threshold"
    return f"nothing {'else ' if named else ''}of these {labels} above its threshold"


def sentence(found: Sequence[tuple[str, str, Presence]]) -> str:
    """One image's findings (name, figure, presence) in a line: those that are present, and what is left open."""
    if len(found) == 1:
        name, said, presence = found[0]
        # "Abnormal: absent" would be read as normal
        return f"{name} {said} {nothing(1) if presence is Presence.ABSENT else presence.lower()}"
    present = [f"{name} {said} present" for name, said, presence in found if presence is Presence.PRESENT]
    between = [f"{name} {said}" for name, said, presence in found if presence is Presence.UNDETERMINED]
    parts = [", ".join(present)] if present else []
    if len(present) < len(found):
        parts.append(nothing(len(found), named=len(present)))
    if between:
        parts.append(f"undetermined: {', '.join(between)}")
    return "; ".join(parts)


def figure(finding: Finding) -> str:
    """The score as people read it: per cent where it is calibrated, a bare number where not, or "no score"."""
    if math.isnan(finding.score):
        return "no score"
    return f"{finding.score * 100:.1f} %" if finding.calibrated else f"score {finding.score:.3f}"


def limit(finding: Finding) -> str:
    """From which score on the finding is called present, in the same figures as the score."""
    return f"present from {finding.threshold * 100:.1f} %" if finding.calibrated else f"from {finding.threshold:.3f}"


def cautions(findings: Sequence[Finding]) -> list[str]:
    """What has to be said beside these findings, each sentence once."""
    return list(dict.fromkeys(CAUTIONS[f.finding.value] for f in findings if f.finding.value in CAUTIONS))
