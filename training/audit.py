"""What could make a figure look better than the model is. Runs before any figure is believed.

The limits stand in one table and no recipe overrides them. A check that was not run is listed as not run, and a
verdict is never "pass" while one of them is missing. Reads files, never changes anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models import preprocess
from training import evaluate
from training.manifest import Manifest
from training.split import Indices, Split

LIMITS = {
    "pixel_baseline_auc": 0.90,  # finding: that much from 32x32 grey pixels is source or age, not disease
    # of 256: on 400 NIH films re-encodings at 256 px differ in up to 6, films of two patients in 62 or more
    "perceptual_bits": 16,
}
BASELINE_SIDE = 32
NOT_RUN = (
    "metadata baseline (view, age, sex, image size, source, file type)",
    "class by source or age group",
    "organ hidden (does the score survive without it?)",
    "external set",
)

Status = Literal["pass", "warn", "fail", "reported", "not run"]
Question = Literal["finding", "anatomy"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Check:
    """One check: what it found, in words."""

    name: str
    status: Status
    text: str
    value: float | None = None


@dataclass(frozen=True)
class Audit:
    question: Question
    verdict: Literal["pass", "warn", "fail"]
    summary: str
    checks: tuple[Check, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"limits": LIMITS}


def concluded(question: Question, checks: Sequence[Check]) -> Audit:
    """The verdict: fail if one check fails; pass only if none warns and none is missing."""
    every = (*checks, *(Check(name, "not run", "This version does not run it.") for name in NOT_RUN))
    failed = [c for c in every if c.status == "fail"]
    warned = [c for c in every if c.status == "warn"]
    missing = [c for c in every if c.status == "not run"]
    if failed:
        return Audit(question, "fail", "Do not use it: " + " ".join(c.text for c in failed), every)
    if warned or missing:
        doubts = [c.text for c in warned]
        if missing:
            doubts.append(f"{len(missing)} checks have not been run: " + "; ".join(c.name for c in missing) + ".")
        return Audit(question, "warn", "Nothing speaks against the figures so far. " + " ".join(doubts), every)
    return Audit(question, "pass", "All checks were run and none speaks against the figures.", every)


def patients_apart(manifest: Manifest, split: Split) -> Check:
    """The same patient in two splits."""
    cuts = [(split.train, split.test), *split.parts]
    shared = set().union(*(set(manifest.groups[a]) & set(manifest.groups[b]) for a, b in cuts))
    unknown = sum(not item.patient for item in manifest.items)
    if shared:
        return Check("patients", "fail", f"{len(shared)} patients are in two splits.", len(shared))
    if unknown == len(manifest.items):
        return Check("patients", "warn", "No patient is known in this data: films of one person may be in two splits.")
    text = "No patient is in two splits."
    if unknown:
        text += f" Of {unknown} images without a known patient this cannot be said."
    return Check("patients", "warn" if unknown else "pass", text, 0)


def duplicates(manifest: Manifest, split: Split) -> list[Check]:
    """Exact and perceptual copies of one film on both sides of the test split, or of a fold that thresholds come from.

    Counts pairs.
    """
    cuts = [(split.train, split.test), *split.parts]
    side = np.zeros((len(cuts), len(manifest.items)), np.int8)
    for cut, (one, other) in zip(side, cuts, strict=True):
        cut[one], cut[other] = 1, 2
    used = np.flatnonzero(side.any(axis=0))
    side = side[:, used]
    digests = np.array([hashlib.sha256(manifest.items[i].path.read_bytes()).hexdigest() for i in used])
    hashes = np.stack([_perceptual(manifest, int(i)) for i in used])
    exact = near = 0
    for k in range(len(used)):
        across = (side[:, k + 1 :] * side[:, k, None] == 2).any(axis=0)
        exact += int((across & (digests[k + 1 :] == digests[k])).sum())
        distance = (hashes[k + 1 :] != hashes[k]).sum(axis=1)
        near += int((across & (distance <= LIMITS["perceptual_bits"])).sum())
    return [_copies("exact duplicates", exact), _copies("perceptual duplicates", near)]


def _copies(name: str, count: int) -> Check:
    if count:
        return Check(name, "fail", f"{count} pairs of {name} lie across splits.", count)
    return Check(name, "pass", f"No {name} across splits.", 0)


def _perceptual(manifest: Manifest, index: int) -> NDArray[np.bool_]:
    with Image.open(manifest.items[index].path) as picture:
        return np.asarray(imagehash.phash(picture.convert("L"), hash_size=16).hash).ravel()


def thumbnail(pixels: Floats) -> Floats:
    """32 x 32 grey values, all that the pixel baseline sees."""
    small = preprocess.resize(pixels, height=BASELINE_SIDE, width=BASELINE_SIDE)
    return preprocess.stretch(small, low=0.5, high=99.5).ravel()


def pixel_baseline(
    thumbnails: Floats, truth: NDArray[np.int64], parts: Sequence[tuple[Indices, Indices]]
) -> NDArray[np.float64]:
    """Held-out scores of a logistic regression on 32 x 32 pixels, on the same folds as the model."""
    scores = np.full(len(truth), np.nan)
    for train, held in parts:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, class_weight="balanced", max_iter=5000))
        model.fit(thumbnails[train], truth[train])
        scores[held] = model.decision_function(thumbnails[held])
    return scores


def judged_baseline(
    question: Question,
    baseline: NDArray[np.floating[Any]],
    model: NDArray[np.floating[Any]],
    truth: NDArray[np.int64],
    *,
    groups: NDArray[np.str_],
) -> list[Check]:
    """The pixel baseline by itself and against the model, by paired resampling of patients.

    A baseline that is wrong throughout tells the classes apart as well as one that is right: it is judged inverted.
    """
    alone, ours = evaluate.auc(baseline, truth), evaluate.auc(model, truth)
    inverted = alone < 0.5
    if inverted:
        baseline, alone = -baseline, 1 - alone
    words = f"32 x 32 grey pixels and a logistic regression alone reach AUC {alone:.3f}; the model {ours:.3f}."
    if inverted:
        words += " Their scores are inverted."
    if question == "anatomy":
        return [Check("pixel baseline", "reported", words + " For anatomy that is legitimate.", alone)]
    if alone >= LIMITS["pixel_baseline_auc"]:
        return [Check("pixel baseline", "fail", words + " So much cannot come from the disease.", alone)]
    both = np.stack([model, baseline], axis=1)
    low, high = evaluate.bootstrap(
        lambda s, t: evaluate.auc(s[:, 0], t) - evaluate.auc(s[:, 1], t), both, truth, groups=groups
    )
    gain = f"The model is better than those pixels by {ours - alone:.3f} AUC (95 % {low:.3f} to {high:.3f})."
    if low <= 0:
        return [
            Check("pixel baseline", "pass", words, alone),
            Check("gain over pixels", "warn", gain + " It may not be better at all.", ours - alone),
        ]
    return [Check("pixel baseline", "pass", words, alone), Check("gain over pixels", "pass", gain, ours - alone)]
