"""Sick or not on NIH ChestX-ray14, as published for beginners: a Keras network, binary, on whatever NIH films a
folder holds; with patients apart.

    overread-train fit nih_sick --data DATA --weights mobilenet_v2_imagenet_notop.weights.h5 --out runs

2.5 minutes on 2 CPU cores; 5-fold cross-validation by patient, 821 films at 64 px of 220 patients: AUC 0.643 (95 %
0.583 to 0.691), 32 x 32 pixels 0.61. `chest_abnormal` reaches 0.776 on films at 384 px.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training import sources
from training.manifest import Manifest
from training.recipe import NIH_CITATION, Choices, Settings
from training.recipes.chest_abnormal import RECIPE as SHIPPED
from training.recipes.chest_abnormal import sick_or_not
from training.recipes.nih14 import LABELS as NIH14


def manifest(data: Path, choices: Choices, _work: Path) -> Manifest:
    """The films at 64 px that the published example trains on, or a folder with NIH's own download."""
    if choices["films"] == "nih":
        return sick_or_not(sources.nih(data))
    return sick_or_not(sources.nih1000(data / "nih1000", data / "nih_metadata"))


RECIPE = replace(
    SHIPPED,
    name="nih-sick",
    manifest=manifest,
    data_note=f"Sick is a film with any of NIH's {len(NIH14)} text-mined labels. {NIH_CITATION}",
    open={"films": ("nih1000", "nih")},
    settings=Settings(size=128, train_from="head", copies=1, epochs=10, rate=1e-3),
)
