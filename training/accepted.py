"""Which headers the bundles of this project accept. One place, so that all chest bundles accept the same."""

from __future__ import annotations

from models.bundle import Accepts, GateSpec

RADIOGRAPHS = ["CR", "DX", "RG"]
RADIOGRAPH_CLASSES = [
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
]
SLICE_CLASSES = [
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
]
CHEST_NAMES = ["CHEST", "THORAX", "LUNG", "LUNGS", "HEART", "PORT CHEST", "CHEST PA", "CHEST AP", "ENTIRE CHEST"]
SIDE_VIEWS = ["LL", "RL", "LLD", "RLD", "LATERAL", "LAT", "LEFT LATERAL", "RIGHT LATERAL", "LPO", "RPO", "LAO", "RAO"]
ADULT_YEARS = 18

CHEST_FILM = Accepts(
    modality=RADIOGRAPHS,
    sop_classes=RADIOGRAPH_CLASSES,
    body_part=CHEST_NAMES,
    view_refused=SIDE_VIEWS,
    presentation_intent_refused=["FOR PROCESSING"],
    min_age_years=ADULT_YEARS,
)
RADIOGRAPH = Accepts(
    modality=RADIOGRAPHS, sop_classes=RADIOGRAPH_CLASSES, presentation_intent_refused=["FOR PROCESSING"]
)
RADIOGRAPH_OR_SLICE = Accepts(
    modality=[*RADIOGRAPHS, "CT", "MR"],
    sop_classes=[*RADIOGRAPH_CLASSES, *SLICE_CLASSES],
    presentation_intent_refused=["FOR PROCESSING"],
)
CT_SLICE = Accepts(modality=["CT"], sop_classes=SLICE_CLASSES[:2])
CHEST_GATE = GateSpec(bundle="body-part", accept=["chest"], at_least=0.5)
NOT_ON_PATIENTS = (
    "Diagnosis, triage or any other use on patients. Lateral views, children, films taken lying down without a "
    "statement of it."
)
