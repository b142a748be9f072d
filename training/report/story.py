"""What a report tells: one frozen record of a run. Knows no HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.audit import Audit
from training.errors import ManifestError
from training.figures.evaluate import Figure, Held
from training.figures.subgroups import Subgroup
from training.manifest import Box, Item

Kind = Literal["true positive", "false negative", "false positive"]


@dataclass(frozen=True)
class Example:
    """One film that a person should see: (height, width) uint8 `pixels` and where the model looked.

    `saliency` is any small grid in [0, 1] over the whole frame; `boxes` are the reader's.
    """

    label: str
    kind: Kind
    score: float
    pixels: NDArray[np.uint8]
    saliency: NDArray[np.floating] | None = None
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Refused:
    """How many images of one group were turned away, and in words why."""

    group: str
    images: int
    refused: int
    why: str = ""


@dataclass(frozen=True)
class Story:
    """A run on films that the model had not seen.

    `title` names the model, `on` says on what it was tried; `about` holds what the model is, as name and
    sentence; the CLAIM rows take "Intended use", "Network", "Preprocessing" and "Licence" from it.
    `held` has one row per item. `thresholds` are the bundle's, one per label. `history` are rows of a training, each
    with "epoch" and numbers such as "loss" and "val_loss". `audit` is None where none was made.

    Raises:
        ManifestError: items or thresholds that do not fit the rows and labels of `held`.
    """

    title: str
    on: str
    held: Held
    items: Sequence[Item]
    thresholds: Sequence[float]
    figures: Sequence[Figure]
    exclusive: bool = False
    audit: Audit | None = None
    about: Mapping[str, str] = field(default_factory=dict)
    subgroups: Sequence[Subgroup] = ()
    refusals: Sequence[Refused] = ()
    examples: Sequence[Example] = ()
    history: Sequence[Mapping[str, float]] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        shape = (len(self.items), len(self.thresholds))
        if self.held.truth.shape != shape:
            raise ManifestError(f"a story of {self.held.truth.shape} films and labels has {shape} items and thresholds")
