"""Which body part a radiograph or slice shows, or that it is nothing that a model should read: the gate of the chest
bundles.

    overread-train fit body_part --data DATA --weights mobilenet_v2_imagenet_notop.weights.h5 --out models/bundles
    overread-train fit body_part --set head=multilabel --data DATA --weights ... --out runs

20 minutes on 2 CPU cores that did other work too; 224 px, the head alone on frozen features. 5-fold cross-validation:
99.7 % of the body parts right (30 of 32 abdomens; the others are called "other", none a chest), spoiled films counted
99.3 %. Of held-out chest films 0.3 % are refused, at 64 px 0.5 %; adults' films from articles 8 %, children's 45 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from models.codes import BODY_PARTS
from training import sources, spoiled
from training.accepted import RADIOGRAPH_OR_SLICE
from training.manifest import NO_FINDING, Item, Manifest, exclusive
from training.recipe import HEAD, NIH_CITATION, Choices, Known, Recipe, Settings

LABELS = tuple(BODY_PARTS)
TILES: Mapping[str, str] = {
    "CXR": "chest",
    "Hand": "hand",
    "HeadCT": "CT head",
    "ChestCT": "CT chest",
    "AbdomenCT": "CT abdomen",
    "BreastMRI": "MR breast",
}
OTHER_PARTS: Mapping[str, str] = {"RG3_J2KI.dcm": "lower leg", "RG2_JPLL.dcm": "hip", "331_DDH_138.dcm": "pelvis"}
"""Single films of parts that no class is made of."""
SEED = 20260102


def manifest(data: Path, _choices: Choices, work: Path) -> Manifest:
    """Films of hello_world and NIH, a half of the tiles of each class, and spoiled films as "other"."""
    hello, nih = sources.hello_world(data / "hello_world"), _chest(data)
    tiles = [t for number, t in enumerate(_tiles(data)) if number % 2]
    plain = hello + nih + tiles
    folder = work / "spoiled"
    abdomens = [i for i in hello if "abdomen" in i.labels]
    other = spoiled.films(nih, spoiled.ANY, folder, seed=SEED)
    other += spoiled.films([t for t in tiles if "hand" in t.labels], spoiled.ANY, folder, seed=SEED)
    # a piece of an abdomen, or one upside down, looks so much like an abdomen that 32 films would be called "other"
    other += spoiled.films(abdomens, {"inverted": spoiled.inverted, "noisy": spoiled.noisy}, folder, seed=SEED)
    other += spoiled.films(abdomens, {"lower-half": spoiled.lower_half}, folder, seed=SEED)
    return exclusive(LABELS, plain + other)


def known(data: Path) -> Known:
    """The other half of the tiles, adults' films from articles, children's films, and radiographs of other parts:
    counted, never fitted to. Of the tiles no patient is known, so that one may lie in both halves."""
    tiles = [t for number, t in enumerate(_tiles(data)) if not number % 2]
    articles = [i for i in sources.covid_mpdem(data / "covid_mpdem") if "COVID-19" in i.labels]
    parts = [Item(data / "dicom" / name, "dicom", frozenset()) for name in OTHER_PARTS]
    children = [i for i in sources.pediatric_pneumonia(data / "pediatric_pneumonia") if NO_FINDING in i.labels]
    return Known(
        familiar={"chest tiles, 64 px": _bearing(tiles, "chest"), "adults' films from articles": articles},
        foreign={f"{label} tiles, 64 px": _bearing(tiles, label) for label in TILES.values() if label != "chest"},
        strange={"children's chest films": children, f"radiographs of {', '.join(OTHER_PARTS.values())}": parts},
    )


def _chest(data: Path) -> list[Item]:
    films = sources.nih_adleberg(data / "nih_adleberg")
    return [replace(f, labels=frozenset({"chest"}), weak=frozenset(), boxes=()) for f in films]


def _tiles(data: Path) -> list[Item]:
    found = sources.tiles(data / "body_parts_mnist")
    return [replace(t, labels=frozenset(TILES[name] for name in t.labels)) for t in found]


def _bearing(items: Iterable[Item], label: str) -> list[Item]:
    return [item for item in items if label in item.labels]


RECIPE = Recipe(
    name="body-part",
    version="1.0.0",
    kind="multiclass",
    question="anatomy",
    concepts=lambda _: BODY_PARTS,
    manifest=manifest,
    known=known,
    accepts=RADIOGRAPH_OR_SLICE,
    intended_use=(
        "Says whether a picture is a frontal radiograph of the chest, of the abdomen or of a hand, or a slice of CT or "
        "MR, and refuses what is unlike all of these, in front of models that read one of them. Research use only."
    ),
    not_for=(
        "Diagnosis of any kind. It has seen 32 abdomen films, hands and slices at 64 px only, and no lateral view. "
        "Children's chest films are often refused."
    ),
    data_note=(
        "Films of openI and of open-access articles (chest 33, abdomen 32; licences mixed), NIH chest films, tiles of "
        "the Medical MNIST set (64 px; no patients known, licences mixed), and films turned, inverted, cut or "
        f"drowned in noise by us (other). {NIH_CITATION}"
    ),
    patients_unknown=True,
    film=lambda item: not any(name.startswith(("CT", "MR")) for name in item.labels),
    open={HEAD: ("single", "multilabel")},
    settings=Settings(size=224, copies=3, strength=1e-2),
)
