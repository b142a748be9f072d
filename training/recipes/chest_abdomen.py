"""Chest or abdomen radiograph, or neither: the "Hello World" of medical imaging (Lakhani et al., J Digit Imaging
2018), grown into the gate of the chest bundles.

    overread-train fit chest_abdomen --data DATA --weights mobilenet_v2_imagenet_notop.weights.h5 --out models/bundles

5 minutes on 2 idle CPU cores (9 when they are shared); 224 px, head and reference on frozen features.
Cross-validated AUC 1.000 (1,575 films of 946 patients or single films; abdomen 32). Of 309 test chest films 1.3 %
are refused, at 64 px 1.3 %; refused are hand, CT and MR tiles 100 %, noise and constants 100 %, inverted films 100 %,
films turned by 90 degrees 89 %, children 68 %. Adults' films cut out of articles: 11 % refused.
Tried: the 65 films alone separate perfectly, and give only 46 % of NIH's chest films a chest score of 0.9 or more;
so NIH films are trained on too, with copies at 64 px.
"""

from __future__ import annotations

from pathlib import Path

from models.bundle import Accepts
from models.codes import BODY_PARTS
from training import sources
from training.manifest import Item, Manifest
from training.recipe import NIH_CITATION, Known, Recipe, Settings

CHEST, ABDOMEN = (1, 0), (0, 1)
LABELS = ("chest", "abdomen")
RADIOGRAPHS = ["CR", "DX", "RG"]
RADIOGRAPH_CLASSES = [
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
]


def manifest(data: Path) -> Manifest:
    """65 films of hello_world, and NIH chest films, because 33 chest films are no measure of all chest films."""
    items = sources.hello_world(data, LABELS) + sources.nih_chest(data, CHEST)
    return Manifest(LABELS, tuple(items))


def known(data: Path) -> Known:
    chest_tiles = sources.tiles(data, "CXR", CHEST)
    foreign = {kind: sources.tiles(data, kind) for kind in ("Hand", "AbdomenCT", "BreastMRI", "ChestCT", "HeadCT")}
    return Known(
        more={"chest": chest_tiles[::2]},
        familiar={
            "chest tiles 64 px": chest_tiles[1::2],
            "adult films from articles (covid_mpdem)": _sick_adults(data),
        },
        foreign=foreign | {"children (pediatric_pneumonia, normal)": _children(data)},
    )


def _sick_adults(data: Path) -> list[Item]:
    return sources.folder(data / "covid_mpdem" / "covid", "covid_mpdem", CHEST)


def _children(data: Path) -> list[Item]:
    return sources.folder(data / "pediatric_pneumonia" / "NORMAL", "pediatric_pneumonia")


RECIPE = Recipe(
    name="chest-abdomen",
    version="1.0.0",
    task="multiclass",
    question="anatomy",
    concepts={name: BODY_PARTS[name] for name in LABELS},
    manifest=manifest,
    known=known,
    accepts=Accepts(
        modality=RADIOGRAPHS, sop_classes=RADIOGRAPH_CLASSES, presentation_intent_refused=["FOR PROCESSING"]
    ),
    intended_use=(
        "Says whether a radiograph shows the chest (frontal) or the abdomen, and refuses what is unlike both, in front "
        "of models that read chest films. Research use only."
    ),
    not_for="Diagnosis of any kind. Lateral views, children, CT, MR. It has seen 32 abdomen films only.",
    data_note=(
        "65 films of openI and of open-access articles (chest 33, abdomen 32; no patients known, licences mixed) and "
        f"NIH chest films. {NIH_CITATION} Chest tiles of 64 px are NIH's too."
    ),
    patients_unknown=True,
    settings=Settings(size=224, copies=4, coarse=True, strength=1e-2),
)
