"""One finding or No Finding from a table of labels, as published: InceptionV3, transfer learning, binary.

overread-train fit cardiomegaly_inceptionv3 --data DATA --weights inception_v3_u8_notop.weights.h5 --out runs
overread-train fit cardiomegaly_inceptionv3 --set finding=Atelectasis --data DATA --weights ... --out runs

11 minutes on 2 CPU cores; 5-fold cross-validation by patient, 924 films of 408 patients, from weights of 8 bits per
value that are no ImageNet weights: AUC 0.656 (95 % 0.587 to 0.730), where 32 x 32 pixels reach 0.77. `chest_findings`
reaches 0.895. With Atelectasis, 949 films of 436 patients, 9 minutes: AUC 0.699 (0.639 to 0.755), pixels 0.71;
`chest_findings` reaches 0.820.
"""

from __future__ import annotations

from pathlib import Path

from models.codes import FINDINGS
from training import sources
from training.accepted import CHEST_FILM, CHEST_GATE, NOT_ON_PATIENTS
from training.manifest import NO_FINDING, Manifest, findings
from training.recipe import NIH_CITATION, Choices, Recipe, Settings
from training.recipes.chest_findings import LABELS

DEFAULT = "Cardiomegaly"


def manifest(data: Path, choices: Choices, _work: Path) -> Manifest:
    """Films with a box of the finding against films labelled No Finding; nothing else, as published."""
    label = choices["finding"]
    films = sources.nih_adleberg(data / "nih_adleberg", data / "nih_metadata")
    return findings((label,), [f for f in films if label in f.labels or f.labels == {NO_FINDING}])


RECIPE = Recipe(
    name="inceptionv3",
    version="1.0.0",
    kind="binary",
    question="finding",
    concepts=lambda choices: {choices["finding"]: FINDINGS[choices["finding"]]},
    manifest=manifest,
    accepts=CHEST_FILM,
    gate=CHEST_GATE,
    intended_use="Reproduces a published classifier of one finding. Research use only.",
    not_for=f"{NOT_ON_PATIENTS} An absent finding is no normal film: the model knows one finding.",
    data_note=f"Labels are NIH's boxes, not a second reading. {NIH_CITATION}",
    open={"finding": (DEFAULT, *(name for name in LABELS if name != DEFAULT))},
    settings=Settings(backbone="inception_v3", size=299, train_from="head", copies=1, epochs=15, rate=1e-3),
)
