"""Cardiomegaly on frontal chest films of adults, against films without any finding (NIH ChestX-ray14).

    overread-train fit cardiomegaly --data DATA --weights mobilenet_v2_imagenet_notop.weights.h5 --out models/bundles

2 minutes on 2 idle CPU cores (5 when they are shared); 224 px, one dense layer on frozen features.
Cross-validated by patient: AUC 0.825 (95 % 0.765 to 0.874; 924 films of 408 patients). On the 82 test patients
(23 films with the finding): AUC 0.736 (0.569 to 0.917), sensitivity 0.78, specificity 0.60, calibration error 0.08.
Tried, cross-validated AUC: last features alone without copies 0.776, and text-mined positives 0.792, and six varied
copies 0.805 to 0.817, and the middle features 0.825 to 0.839 (two seeds each); 320 px 0.788; 128 px 0.777.
"""

from __future__ import annotations

from pathlib import Path

from models.bundle import Accepts, GateSpec
from models.codes import FINDINGS
from training import sources
from training.manifest import Manifest
from training.recipe import NIH_CITATION, Recipe, Settings
from training.recipes.chest_abdomen import RADIOGRAPH_CLASSES, RADIOGRAPHS

FINDING = "Cardiomegaly"
CHEST_NAMES = ["CHEST", "THORAX", "LUNG", "LUNGS", "HEART", "PORT CHEST", "CHEST PA", "CHEST AP", "ENTIRE CHEST"]
SIDE_VIEWS = ["LL", "RL", "LLD", "RLD", "LATERAL", "LAT", "LEFT LATERAL", "RIGHT LATERAL", "LPO", "RPO", "LAO", "RAO"]


def manifest(data: Path) -> Manifest:
    return Manifest((FINDING,), tuple(sources.nih_finding(data, FINDING)))


RECIPE = Recipe(
    name="cardiomegaly",
    version="1.0.0",
    task="binary",
    question="finding",
    concepts={FINDING: FINDINGS[FINDING]},
    manifest=manifest,
    accepts=Accepts(
        modality=RADIOGRAPHS,
        sop_classes=RADIOGRAPH_CLASSES,
        body_part=CHEST_NAMES,
        view_refused=SIDE_VIEWS,
        presentation_intent_refused=["FOR PROCESSING"],
        min_age_years=18,
    ),
    gate=GateSpec(bundle="chest-abdomen", accept=["chest"], at_least=0.9),
    intended_use=(
        "Shows how an enlarged heart on a frontal chest film of an adult is found and reported. Research use only."
    ),
    not_for=(
        "Diagnosis, triage or any other use on patients. Lateral views, children, films taken lying down without a "
        "statement of it. An absent finding is no normal film: the model knows one finding."
    ),
    data_note=f"Labels are NIH's boxes and text-mined reports, not a second reading. {NIH_CITATION}",
    settings=Settings(size=224, copies=6, middle=True, strength=1e-3),
)
