"""What the model itself is asked, from its scores of films that it has not seen: does it look at the organ, is it
better than small pixels, does it survive equal resolution? Runs no model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.audit.subject import Floats, Subject, words
from training.audit.verdict import LIMITS, Check, Question, Status
from training.cache import Bytes
from training.figures import evaluate
from training.figures.compare import gap
from training.split import Indices

PLAIN, HIDDEN, ROUGH = "plain", "hidden", "64 px"
FRAME = (0.05, 0.10, 0.95, 0.90)
"""Left, top, right and bottom, as parts of the frame, of what holds the lungs and the heart.

Of the area of the 784 boxes in which NIH's readers saw a finding 98.9 % lie inside, of each finding's at least 95 %
(Pneumothorax, whose boxes reach the apices). From 10 to 90 % both ways it would be 97.3 %, and of Effusion's 91.7 %.
"""

ORGAN, GAIN, MATCHED, EXTERNAL = "organ hidden", "gain over pixels", "equal resolution", "external set"


def hide(pixels: Bytes) -> Bytes:
    """A (rows, columns) film whose middle is replaced by the median of the whole frame: its organ is gone, its
    margins, markers and collimation are left."""
    rows, columns = pixels.shape
    left, top, right, bottom = FRAME
    hidden = np.array(pixels)
    middle = np.s_[round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)]
    hidden[middle] = np.uint8(np.median(pixels))
    return hidden


def organ_check(question: Question, subject: Subject, scores: Mapping[str, Floats]) -> Check:
    """How much of AUC - 0.5 is kept when the organ is hidden."""
    if not {PLAIN, HIDDEN} <= scores.keys():
        return Check(ORGAN, "not run", "It needs a model's scores of films and of the same films without their organ.")
    kept: dict[str, float] = {}
    lost, chance = [], []
    for k in subject.judged:
        name, plain, hidden = subject.manifest.labels[k], *(_auc(scores[s], subject, k) for s in (PLAIN, HIDDEN))
        if plain <= 0.5:
            chance.append(name)
            continue
        # what is wrong throughout tells the classes apart as well as what is right
        kept[name] = abs(hidden - 0.5) / (plain - 0.5)
        lost.append(f"{name} {plain:.2f} to {hidden:.2f}")
    if not kept and not chance:
        return _too_few(ORGAN, subject)
    text = f"With the middle of the film hidden the AUC goes: {', '.join(lost)}." if lost else ""
    over = {name: part for name, part in kept.items() if part > LIMITS["kept_without_organ"]}
    if over and question == "finding":
        parts = ", ".join(f"{name} {part:.0%}" for name, part in over.items())
        text = (
            f"The model keeps most of its figure when lungs and heart are hidden ({parts} of AUC - 0.5): it does not "
            f"look at the organ. {text}"
        )
    if chance:
        said = f"No better than chance: {', '.join(chance)}; whether it looks at the organ cannot be said."
        text = f"{text} {said}".strip()
    highest = max(kept.values(), default=None)
    if question == "anatomy":
        return Check(ORGAN, "reported", text, highest)
    return Check(ORGAN, "fail" if over else "warn" if chance else "pass", text, highest)


def gain_check(
    question: Question, subject: Subject, scores: Mapping[str, Floats], pixels: Mapping[int, Floats]
) -> Check:
    """The model against the pixel baseline, film by film; a baseline below 0.5 is inverted first.

    The interval is the wider one of paired DeLong and of resampled patients.
    """
    if PLAIN not in scores:
        return Check(GAIN, "not run", "It needs a model's scores.")
    if not pixels:
        return _too_few(GAIN, subject)
    said, doubtful, gains = [], [], []
    for k, baseline in pixels.items():
        rows, truth = subject.rows(k), subject.truth(k)
        small, true = baseline[rows], truth[rows]
        if evaluate.auc(small, true) < 0.5:
            small = -small
        found = gap(scores[PLAIN][rows, k], small, truth=true, groups=subject.manifest.groups[rows])
        name = subject.manifest.labels[k]
        gains.append(found.difference)
        said.append(f"{name} {found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})")
        if found.low <= 0:
            doubtful.append(name)
    text = f"AUC of the model less that of 32 x 32 pixels, with 95 % interval: {', '.join(said)}."
    if doubtful:
        text += f" Not shown to be better than such pixels: {', '.join(doubtful)}."
    status: Status = "reported" if question == "anatomy" else "warn" if doubtful else "pass"
    return Check(GAIN, status, text, min(gains))


def matched_check(
    question: Question, subject: Subject, scores: Mapping[str, Floats], film: NDArray[np.bool_] | None
) -> Check:
    """Every film at 64 px, so that no class can be known by its resolution; of anatomy only rows that are `film`, so
    that none can be known by its modality."""
    if ROUGH not in scores:
        status: Status = "not run" if question == "anatomy" else "not given"
        return Check(MATCHED, status, "It needs a model's scores of films brought to 64 px.")
    if question == "finding":
        values = {subject.manifest.labels[k]: _auc(scores[ROUGH], subject, k) for k in subject.judged}
        return Check(MATCHED, "reported", f"With every film at 64 px: {words(values)}." if values else "Too few films.")
    rows = subject.held & subject.manifest.evaluated & (True if film is None else film)
    values = _accuracies(scores[ROUGH], subject, np.flatnonzero(rows))
    if not values:
        return Check(MATCHED, "not run", "No radiograph was held out.")
    mean = float(np.mean(list(values.values())))
    text = (
        f"At 64 px {mean:.1%} of {rows.sum()} radiographs are right, as a mean of the classes:{words(values, what='')}."
    )
    if mean < LIMITS["matched_accuracy"]:
        return Check(MATCHED, "fail", f"{text} The model knew the classes by their resolution.", mean)
    worst = min(values, key=lambda name: values[name])
    if values[worst] < LIMITS["matched_accuracy"]:
        doubt = f"Of {worst} only {values[worst]:.0%}: it may be known by its resolution."
        return Check(MATCHED, "warn", f"{text} {doubt}", mean)
    return Check(MATCHED, "pass", text, mean)


def external_check() -> Check:
    """Said in every audit, because no other check replaces it."""
    return Check(EXTERNAL, "not given", "No films of another source take part in a training: `evaluate` asks them.")


def _accuracies(scores: Floats, subject: Subject, rows: Indices) -> dict[str, float]:
    """By class, how many of its films have their highest score there; of one label how many have the right sign."""
    targets, labels = subject.manifest.targets[rows], subject.manifest.labels
    right = scores[rows].argmax(axis=1)[:, None] == np.arange(len(labels))
    if len(labels) == 1:
        labels, positive = (labels[0], f"no {labels[0]}"), scores[rows] > 0
        targets, right = np.hstack([targets, 1 - targets]), np.hstack([positive, ~positive])
    return {name: float(right[targets[:, k] == 1, k].mean()) for k, name in enumerate(labels) if targets[:, k].any()}


def _auc(scores: Floats, subject: Subject, label: int) -> float:
    rows = subject.rows(label)
    return evaluate.auc(scores[rows, label], subject.truth(label)[rows])


def _too_few(name: str, subject: Subject) -> Check:
    return Check(name, "not run", f"Too few films with and without {', '.join(subject.manifest.labels)} in each fold.")
