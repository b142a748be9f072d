"""Chest or abdomen radiograph: the "Hello World" of medical imaging (Lakhani et al., J Digit Imaging 2018), as
published: InceptionV3, transfer learning, augmentation, a folder of 65 films.

    overread-train fit chest_abdomen --data DATA --weights inception_v3_u8_notop.weights.h5 --out runs
    overread-train fit chest_abdomen --set backbone=mobilenet_v2 --set size=224 --data DATA --weights ... --out runs

4 minutes on 2 CPU cores; 5-fold cross-validation by film: accuracy 0.97 (95 % 0.92 to 1.00), AUC 0.997. 32 x 32 pixels
reach AUC 1.00, and at 64 px 88 % are right, for which the audit fails it.
"""

from __future__ import annotations

from pathlib import Path

from models.codes import BODY_PARTS
from training import sources
from training.accepted import RADIOGRAPH
from training.manifest import Manifest, exclusive
from training.recipe import Choices, Recipe, Settings

LABELS = ("chest", "abdomen")


def manifest(data: Path, _choices: Choices, _work: Path) -> Manifest:
    return exclusive(LABELS, sources.hello_world(data / "hello_world"))


RECIPE = Recipe(
    name="chest-abdomen",
    version="2.0.0",
    kind="multiclass",
    question="anatomy",
    concepts=lambda _: {name: BODY_PARTS[name] for name in LABELS},
    manifest=manifest,
    accepts=RADIOGRAPH,
    intended_use="Tells a chest film from an abdomen film: a first exercise. Research use only.",
    not_for="Diagnosis of any kind, and as a gate: it knows nothing but these two. `body_part` makes the gate.",
    data_note=(
        "65 films of openI and of open-access articles (chest 33, abdomen 32); no patients known, licences mixed. "
        "Some neighbours are panels of one figure and may show one patient."
    ),
    patients_unknown=True,
    settings=Settings(backbone="inception_v3", size=299, train_from="head", copies=3, epochs=40, rate=1e-3, batch=16),
)
