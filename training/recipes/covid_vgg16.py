"""COVID-19 or normal chest film, as published: VGG16 at 224 px, a new head trained with Adam for 10 epochs.

overread-train fit covid_vgg16 --data DATA --weights vgg16_notop.weights.h5 --out runs
overread-train fit covid_vgg16 --set negatives=adult --data DATA --weights vgg16_notop.weights.h5 --out runs

5 and 10 minutes on 2 CPU cores; 5-fold cross-validation by patient. As published: accuracy 0.98, sensitivity 0.98,
specificity 0.98, and 32 x 32 pixels alone reach AUC 0.99. Against adults: accuracy 0.94, AUC 0.956 (95 % 0.929 to
0.979), pixels 0.86. The audit fails both: the source alone tells the classes apart.
"""

from __future__ import annotations

from pathlib import Path

from models.codes import FINDINGS
from training import sources
from training.accepted import CHEST_FILM, CHEST_GATE, NOT_ON_PATIENTS
from training.manifest import NO_FINDING, Item, Manifest, findings
from training.recipe import NIH_CITATION, Choices, Recipe, Settings

LABEL = "COVID-19"


def manifest(data: Path, choices: Choices, _work: Path) -> Manifest:
    """The published films (the normals are children), or the same positives against adults' NIH films: PA, No Finding,
    one of each patient."""
    films = sources.covid_mpdem(data / "covid_mpdem")
    sick = [f for f in films if LABEL in f.labels]
    if choices["negatives"] == "published":
        return findings((LABEL,), films)
    nih = sources.nih_adleberg(data / "nih_adleberg", data / "nih_metadata")
    return findings((LABEL,), sick + one_each([f for f in nih if f.labels == {NO_FINDING} and f.view == "PA"]))


def one_each(items: list[Item]) -> list[Item]:
    """The first film of each adult patient."""
    first = {item.patient: item for item in reversed(items) if item.age is None or item.age >= 18}
    return [first[patient] for patient in sorted(first)]


RECIPE = Recipe(
    name="covid-vgg16",
    version="1.0.0",
    kind="binary",
    question="finding",
    concepts=lambda _: {LABEL: FINDINGS[LABEL]},
    manifest=manifest,
    accepts=CHEST_FILM,
    gate=CHEST_GATE,
    intended_use="Reproduces a published classifier, to show what its figures measure. Research use only.",
    not_for=(
        f"{NOT_ON_PATIENTS} No chest film diagnoses COVID-19. The published negatives are children of one hospital, "
        "the positives adults from many: such a model calls nearly every adult sick."
    ),
    data_note=(
        "Positives: ieee8023/covid-chestxray-dataset (non-commercial or unlicensed in part). Published negatives: "
        f"Kermany et al. 2018, children. Adult negatives: NIH. {NIH_CITATION}"
    ),
    open={"negatives": ("published", "adult")},
    settings=Settings(backbone="vgg16", size=224, train_from="head", copies=1, epochs=10, rate=1e-3),
)
