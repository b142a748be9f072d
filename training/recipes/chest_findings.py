"""Eight findings on frontal chest films of adults, each against films without any finding (NIH ChestX-ray14).

overread-train fit chest_findings --data DATA --weights mobilenet_v2_imagenet_notop.weights.h5 --out models/bundles

36 minutes on 2 CPU cores that did other work too; 320 px, trained from the seventh block on. 5-fold cross-validation by
patient, 1,510 films of 881 patients: mean AUC 0.838 (95 % 0.813 to 0.863), cardiomegaly 0.895, atelectasis 0.820,
calibration error 0.010 to 0.024. Audit: warn, for Mass is not shown to be better than 32 x 32 pixels. Tried on two
folds of another cut: 256 px without boxes 0.80, with boxes 0.82 (the mean); a learning rate of 1e-3 with frozen batch
statistics learned nothing.
"""

from __future__ import annotations

from pathlib import Path

from models.codes import FINDINGS
from training import sources
from training.accepted import CHEST_FILM, CHEST_GATE, NOT_ON_PATIENTS
from training.manifest import Manifest, findings
from training.recipe import NIH_CITATION, Choices, Recipe, Settings

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)


def manifest(data: Path, _choices: Choices, _work: Path) -> Manifest:
    """NIH's boxes are the labels that count; the text-mined ones are trained on."""
    return findings(LABELS, sources.nih_adleberg(data / "nih_adleberg", data / "nih_metadata"))


RECIPE = Recipe(
    name="chest-findings",
    version="1.0.0",
    kind="multilabel",
    question="finding",
    concepts=lambda _: {name: FINDINGS[name] for name in LABELS},
    manifest=manifest,
    accepts=CHEST_FILM,
    gate=CHEST_GATE,
    intended_use=(
        "Shows eight findings on frontal chest films of adults, each with its probability and where the model looked. "
        "Research use only."
    ),
    not_for=f"{NOT_ON_PATIENTS} A film without these eight findings is no normal film.",
    data_note=f"Labels: NIH's boxes (counted) and text-mined reports (trained on), no second reading. {NIH_CITATION}",
    settings=Settings(size=320, train_from="block_6_project_BN", copies=5, epochs=7, boxes=0.2),
)
