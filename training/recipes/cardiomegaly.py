"""Cardiomegaly on frontal chest films of adults, against films without any finding (NIH ChestX-ray14)."""

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
    settings=Settings(size=224, copies=6, strength=1e-3),
)
