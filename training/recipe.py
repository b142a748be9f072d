"""What a recipe is: everything about one model that is decided before its training starts.

A recipe is one file in `recipes/` whose docstring holds the command, the time and the result of a real run.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from models.bundle import Accepts, GateSpec, Task
from models.codes import Concept
from models.preprocess import Step
from training import cache, recipes
from training.audit import Question
from training.errors import RecipeError
from training.manifest import Item, Manifest

NIH_CITATION = (
    "Images: NIH Clinical Center, ChestX-ray14, https://nihcc.app.box.com/v/ChestXray-NIHCC. X. Wang, Y. Peng, L. Lu, "
    "Z. Lu, M. Bagheri, R. M. Summers: ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on "
    "Weakly-Supervised Classification and Localization of Common Thorax Diseases. IEEE CVPR 2017, 3462-3471."
)

NAME, VERSION = r"[a-z0-9][a-z0-9-]*", r"\d+\.\d+\.\d+"
EXACT = "exact"
HEAD = "head"


ALLOWED: Mapping[str, tuple[float, float]] = {
    "size": (32, 2048),
    "copies": (0, 100),
    "strength": (1e-9, 1e9),
    "epochs": (1, 1000),
    "patience": (0, 1000),
    "batch": (1, 4096),
    "rate": (1e-9, 1),
    "decay": (0, 1),
    "dropout": (0, 0.9),
    "boxes": (0, 100),
    "distil": (0, 1),
    "folds": (1, 100),
    "seed": (0, 2**31 - 1),
    "lower_sensitivity": (0.5, 1),
}
"""The smallest and the largest value of each setting that is a number."""


@dataclass(frozen=True)
class Settings:
    """What `--set` may change, within `ALLOWED`.

    `size`: side of the network's input in pixels. `train_from`: the layer behind which the network is trained;
    "input" trains all of it, "head" the head by steps, "exact" the head alone as the optimum of a convex problem of
    inverse penalty `strength`. `copies`: varied copies of each film, drawn once and stored; 0 draws them anew in each
    epoch and stores nothing. `boxes`: weight of drawing maps into readers' boxes. `folds`: 1 is one split into train,
    validation and test. `distil`: the part of the last model's targets that is taken from what the fold models said.
    """

    backbone: str = "mobilenet_v2"
    size: int = 256
    train_from: str = EXACT
    copies: int = 5
    strength: float = 1e-3
    epochs: int = 10
    patience: int = 0
    batch: int = 32
    rate: float = 5e-4
    decay: float = 1e-4
    dropout: float = 0.3
    boxes: float = 0.0
    distil: float = 0.0
    folds: int = 5
    seed: int = 20260101
    lower_sensitivity: float = 0.95

    @property
    def live(self) -> bool:
        """Whether copies are drawn anew in each epoch."""
        return not self.copies and self.train_from != EXACT


@dataclass(frozen=True)
class Known:
    """What the out-of-distribution refusal is learned from and counted on.

    `more`: label -> further images of that class to fit to. Counted only, group -> images: `familiar` ones, that should
    be accepted; `foreign` ones, that should be refused and of whose kind others were trained on; `strange` ones, of a
    kind that was never shown.
    """

    more: Mapping[str, list[Item]] = field(default_factory=dict)
    familiar: Mapping[str, list[Item]] = field(default_factory=dict)
    foreign: Mapping[str, list[Item]] = field(default_factory=dict)
    strange: Mapping[str, list[Item]] = field(default_factory=dict)


Choices = Mapping[str, str]


@dataclass(frozen=True)
class Recipe:
    """One model. `manifest` reads a data folder, by the recipe's choices, and may write pictures of its own into a
    folder for work; `known` reads a data folder; `patients_unknown` admits sources without patients.

    `film`: whether an item is a radiograph; the others take no part in the comparison at equal resolution.
    `open`: questions that the recipe itself leaves open, each with its answers, the first being the default but for
    those that must be `asked`; `choices`: what was answered. `file`: its module in `recipes/`; `own_name`: whether a
    user has named the bundle.
    `concepts`: the labels, in order, under the chosen answers.
    """

    name: str
    version: str
    kind: Task
    question: Question
    concepts: Callable[[Choices], Mapping[str, Concept]]
    manifest: Callable[[Path, Choices, Path], Manifest]
    accepts: Accepts
    intended_use: str
    not_for: str
    data_note: str
    known: Callable[[Path], Known] | None = None
    gate: GateSpec | None = None
    patients_unknown: bool = False
    film: Callable[[Item], bool] = lambda _: True
    settings: Settings = field(default_factory=Settings)
    open: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    choices: Choices = field(default_factory=dict)
    file: str = ""
    own_name: bool = False

    @property
    def task(self) -> Task:
        """The recipe's kind; where it leaves the head open, many labels at once if that was chosen."""
        return "multilabel" if self.choices.get(HEAD) == "multilabel" else self.kind

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.concepts(self.choices))

    @property
    def bundle(self) -> str:
        """The bundle's name: answers other than the default are part of it."""
        if self.own_name:
            return self.name
        other = [v for k, v in self.choices.items() if v != self.open[k][0] or k in self.asked]
        return "-".join([self.name, *(v.lower().replace(" ", "-").replace("_", "-") for v in other)])

    @property
    def steps(self) -> tuple[Step, ...]:
        return cache.steps(self.settings.size)

    def read(self, data: Path, work: Path) -> Manifest:
        """The recipe's manifest of a data folder.

        Raises:
            RecipeError: images without a known patient, in a recipe that does not say so.
            SourceError: the data folder is not as its source describes it.
        """
        found = self.manifest(data, self.choices, work)
        unknown = sum(not item.patient for item in found.items)
        if unknown and not self.patients_unknown:
            raise RecipeError(
                f"{self.file or self.name}: {unknown} images without a known patient cannot be split by patient; in a "
                "labels.csv that is the column patient_id, in DICOM files PatientID"
            )
        return found


def named_plainly(name: str) -> Recipe:
    """The recipe of that name as its file has it.

    Raises:
        RecipeError: there is no such recipe.
    """
    name = name.replace("-", "_")
    if name not in names():
        raise RecipeError(f"{name}: no such recipe (have: {', '.join(names())})")
    recipe: Recipe = importlib.import_module(f"training.recipes.{name}").RECIPE
    return replace(recipe, file=name)


def described(name: str) -> str:
    """The first sentence of a recipe's file."""
    text = importlib.import_module(f"training.recipes.{name}").__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())


def named(name: str, overrides: Mapping[str, str], *, called: str = "", version: str = "") -> Recipe:
    """The recipe of that name with settings and choices changed by "key=value" texts, and its bundle's name and
    version, where they are given.

    Raises:
        RecipeError: there is no such recipe, setting, or value.
    """
    recipe = named_plainly(name)
    recipe = replace(recipe, name=called or recipe.name, version=version or recipe.version, own_name=bool(called))
    for key, given, pattern in (("--name", recipe.bundle, NAME), ("--version", recipe.version, VERSION)):
        if not re.fullmatch(pattern, given):
            raise RecipeError(f"{key} {given}: {pattern} is needed")
    if lacking := [key for key in recipe.asked if key not in overrides]:
        answers = ", ".join(recipe.open[lacking[0]])
        raise RecipeError(f"{name}: --set {lacking[0]}=... is needed, one of {answers}")
    kinds = {f.name: type(getattr(recipe.settings, f.name)) for f in fields(Settings)}
    choices = {key: answers[0] for key, answers in recipe.open.items()}
    changed: dict[str, Any] = {}
    for key, text in overrides.items():
        if key in recipe.open:
            meant = {answer.casefold(): answer for answer in recipe.open[key]}
            if text.casefold() not in meant:
                raise RecipeError(f"{key} = {text!r}: {name} allows {', '.join(recipe.open[key])}")
            choices[key] = meant[text.casefold()]
            continue
        if key not in kinds:
            raise RecipeError(f"{key}: no such setting (have: {', '.join([*recipe.open, *kinds])})")
        changed[key] = _value(key, text, kinds[key])
    return _consistent(replace(recipe, settings=replace(recipe.settings, **changed), choices=choices))


def _value(key: str, text: str, kind: type) -> Any:
    try:
        value = kind(text)
    except ValueError:
        raise RecipeError(f"{key} = {text!r}: {kind.__name__} is needed") from None
    if key in ALLOWED:
        low, high = ALLOWED[key]
        if not low <= value <= high:
            raise RecipeError(f"{key} = {text}: {low:g} to {high:g} is allowed")
    return value


def _consistent(recipe: Recipe) -> Recipe:
    settings = recipe.settings
    if settings.patience and settings.folds > 1:
        raise RecipeError(
            f"patience = {settings.patience} with folds = {settings.folds}: only a single split (folds = 1) has a "
            "validation part that could stop the training; otherwise patience = 0"
        )
    if settings.distil and (settings.folds == 1 or settings.train_from == EXACT):
        raise RecipeError(
            f"distil = {settings.distil:g} with folds = {settings.folds} and train_from = {settings.train_from}: only "
            "what several folds said can be learned from, and only by steps; otherwise distil = 0"
        )
    if recipe.known and settings.folds < 3:
        raise RecipeError(
            f"folds = {settings.folds}: {recipe.name} learns from films that are left out of each fold what it does "
            "not know; 3 or more are needed"
        )
    return recipe


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(recipes.__path__))
