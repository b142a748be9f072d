"""Sick or not: is anything wrong on a frontal chest film of an adult (NIH ChestX-ray14; one of 8 findings or none)? For
triage order.

    overread-train fit chest_abnormal --data DATA --weights mobilenet_v2_imagenet_notop.weights.h5 --out models/bundles

4 minutes on 2 CPU cores; 256 px, the head alone on frozen features. 5-fold cross-validation by patient, 1,510 films
of 881 patients: AUC 0.776 (95 % 0.737 to 0.815), at 64 px 0.75, calibration error 0.03. Audit: pass (32 x 32 pixels
reach 0.70).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.codes import TRIAGE
from training import sources
from training.accepted import CHEST_FILM, CHEST_GATE, NOT_ON_PATIENTS
from training.manifest import NO_FINDING, Item, Manifest
from training.recipe import NIH_CITATION, Choices, Recipe, Settings
from training.recipes.chest_findings import LABELS as BOXED

LABEL = "Abnormal"


def manifest(data: Path, _choices: Choices, _work: Path) -> Manifest:
    """Not the films that nih1000 has beyond these: all 410 are sick and all are 64 px, so that a network learns that
    coarse films are sick (cross-validated AUC 0.87 with them, of which 0.80 was left on the others)."""
    return sick_or_not(sources.nih_adleberg(data / "nih_adleberg", data / "nih_metadata"))


def sick_or_not(items: list[Item]) -> Manifest:
    """Every film counts: it bears a finding, or none. The readers' boxes of any finding are boxes of this one."""
    targets = np.array([[int(item.labels != {NO_FINDING})] for item in items])
    renamed = tuple(replace(item, boxes=tuple(replace(b, label=LABEL) for b in item.boxes)) for item in items)
    return Manifest((LABEL,), renamed, targets, np.ones_like(targets, bool))


RECIPE = Recipe(
    name="chest-abnormal",
    version="1.0.0",
    kind="binary",
    question="finding",
    concepts=lambda _: {LABEL: TRIAGE[LABEL]},
    manifest=manifest,
    accepts=CHEST_FILM,
    gate=CHEST_GATE,
    intended_use=(
        "Says how likely a frontal chest film of an adult shows anything abnormal, to put a list of films in order. "
        "Research use only."
    ),
    not_for=f"{NOT_ON_PATIENTS} A low score is no normal film: it misses a part of what it looks for.",
    data_note=(
        f"Sick is a film in which NIH's readers drew a box of one of {len(BOXED)} findings, healthy one labelled No "
        f"Finding only, which is no second reading; nothing else was shown. {NIH_CITATION}"
    ),
    settings=Settings(size=256, train_from="exact", copies=3, strength=1e-3),
)
