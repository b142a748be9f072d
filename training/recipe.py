"""What a recipe is: everything about one model that is decided before its training starts.

A recipe is one file in `recipes/` whose docstring holds the command, the time and the result of a real run.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from models.bundle import Accepts, GateSpec
from models.codes import Concept
from models.preprocess import Step
from training import recipes
from training.audit import Question
from training.backbones import IMAGENET_MEAN, IMAGENET_STD
from training.manifest import Item, Manifest

NIH_CITATION = (
    "Images: NIH Clinical Center, ChestX-ray14, https://nihcc.app.box.com/v/ChestXray-NIHCC. X. Wang, Y. Peng, L. Lu, "
    "Z. Lu, M. Bagheri, R. M. Summers: ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on "
    "Weakly-Supervised Classification and Localization of Common Thorax Diseases. IEEE CVPR 2017, 3462-3471."
)


class RecipeError(Exception):
    """No such recipe, or a setting that it does not have."""


@dataclass(frozen=True)
class Settings:
    """What `--set` may change. `copies`: varied copies of each training image; `coarse`: half of them at 64 px;
    `middle`: features of the backbone's middle too; `strength`: inverse penalty of the head."""

    size: int = 224
    copies: int = 4
    coarse: bool = False
    middle: bool = False
    strength: float = 1e-3
    folds: int = 5
    seed: int = 20260101
    lower_sensitivity: float = 0.95


@dataclass(frozen=True)
class Known:
    """What the out-of-distribution refusal is learned from and counted on.

    `more`: label -> further images of that class to fit to. `foreign` and `familiar`: group -> images that should be
    refused or accepted, counted only.
    """

    more: Mapping[str, list[Item]] = field(default_factory=dict)
    familiar: Mapping[str, list[Item]] = field(default_factory=dict)
    foreign: Mapping[str, list[Item]] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """One model. `manifest` and `known` read a data folder; `patients_unknown` admits sources without patients."""

    name: str
    version: str
    task: Literal["binary", "multiclass"]
    question: Question
    concepts: Mapping[str, Concept]
    manifest: Callable[[Path], Manifest]
    accepts: Accepts
    intended_use: str
    not_for: str
    data_note: str
    known: Callable[[Path], Known] | None = None
    gate: GateSpec | None = None
    patients_unknown: bool = False
    settings: Settings = field(default_factory=Settings)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.concepts)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Resize first: the percentiles of 50,000 averaged pixels are as good as those of four million, and faster."""
        size = self.settings.size
        return (
            Step("resize", {"height": size, "width": size}),
            Step("stretch", {"low": 0.5, "high": 99.5}),
            Step("repeat", {"channels": 3}),
            Step("standardise", {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}),
        )


def named(name: str, overrides: Mapping[str, str]) -> Recipe:
    """The recipe of that name with settings changed by "key=value" texts.

    Raises:
        RecipeError: there is no such recipe, setting, or value.
    """
    if name not in names():
        raise RecipeError(f"{name}: no such recipe (have: {', '.join(names())})")
    recipe: Recipe = importlib.import_module(f"training.recipes.{name}").RECIPE
    kinds = {f.name: type(getattr(recipe.settings, f.name)) for f in fields(Settings)}
    changed: dict[str, int | float | bool] = {}
    for key, text in overrides.items():
        if key not in kinds:
            raise RecipeError(f"{key}: no such setting (have: {', '.join(kinds)})")
        try:
            changed[key] = text.lower() in ("1", "true", "yes") if kinds[key] is bool else kinds[key](text)
        except ValueError:
            raise RecipeError(f"{key} = {text!r}: {kinds[key].__name__} is needed") from None
    return replace(recipe, settings=replace(recipe.settings, **changed))  # type: ignore[arg-type]


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(recipes.__path__))
