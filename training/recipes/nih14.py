"""The 14 labels of NIH ChestX-ray14 on the whole download: 112,120 films of 30,805 patients, with NIH's own test list.

    overread-train fit nih14 --data NIH --weights mobilenet_v2_imagenet_notop.weights.h5 --out runs

NIH is the folder of the download: images_001 to images_012 (or images), Data_Entry_2017.csv, train_val_list.txt and
test_list.txt. Films are decoded once into a file of the network's size (11 GB at 320 px); memory does not grow with
their number. All GPUs of a host take a part of every batch, and several hosts can share the work ("Many GPUs, many
machines" in `training/README.md`; tried on CPUs only). `--set films=nih_adleberg --set folds=5 --set patience=0` tries
it on the 1,510 films of that collection; with `--set size=224 --set epochs=4`, 37 minutes on 2 CPU cores that did other
work too: mean AUC of the 14 labels 0.704 (95 % 0.679 to 0.728), where 32 x 32 pixels reach 0.52 to 0.75. The whole
download was not at hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.codes import FINDINGS
from training import sources
from training.accepted import CHEST_FILM, CHEST_GATE, NOT_ON_PATIENTS
from training.manifest import Item, Manifest
from training.recipe import NIH_CITATION, Choices, Recipe, Settings

LABELS = tuple(name for name in FINDINGS if name != "COVID-19")


def manifest(data: Path, choices: Choices, _work: Path) -> Manifest:
    if choices["films"] == "nih":
        return every_label(sources.nih(data))
    return every_label(sources.nih_adleberg(data / "nih_adleberg", data / "nih_metadata"))


def every_label(items: list[Item]) -> Manifest:
    """NIH's text-mined labels as the published networks count them: each label against all other films."""
    targets = np.array([[int(name in item.labels | item.weak) for name in LABELS] for item in items])
    return Manifest(LABELS, tuple(items), targets, np.ones_like(targets, bool))


RECIPE = Recipe(
    name="nih14",
    version="1.0.0",
    kind="multilabel",
    question="finding",
    concepts=lambda _: {name: FINDINGS[name] for name in LABELS},
    manifest=manifest,
    accepts=CHEST_FILM,
    gate=CHEST_GATE,
    intended_use="Reproduces the 14 labels of NIH ChestX-ray14. Research use only.",
    not_for=NOT_ON_PATIENTS,
    data_note=f"Labels are text-mined from reports. {NIH_CITATION}",
    open={"films": ("nih", "nih_adleberg")},
    settings=Settings(
        size=320, train_from="input", copies=0, epochs=12, patience=3, rate=3e-4, boxes=0.0, dropout=0.2, folds=1
    ),
)
