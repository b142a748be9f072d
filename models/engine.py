"""Where networks run: what an engine gives, and how a predictor's golden images are replayed wherever it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.bundle import GOLDEN, Bundle, BundleError

GOLDEN_TOLERANCE = 0.005
"""Largest difference of a replayed score: other processors and TF32 on GPUs round differently by about 0.001."""

Floats = NDArray[np.float32]


class EngineAway(Exception):
    """Where networks run cannot be reached now. That is no fault of an image, and no attempt at it."""


@dataclass(frozen=True)
class Prediction:
    """Of one image: calibrated score per label, distance from what the network knows, activation map per label.

    A map is a small grid in [0, 1] over the whole frame: its corner is the frame's corner.
    """

    scores: dict[str, float]
    distance: float | None
    saliency: dict[str, Floats]


class Predicts(Protocol):
    """One bundle's network, wherever it runs."""

    @property
    def device(self) -> str:
        """Where it runs, as TensorFlow names it."""

    def predict(self, pixels: Sequence[Floats]) -> list[Prediction]:
        """One prediction for each (rows, columns) array of grey in [0, 1], in order.

        Raises:
            ValueError: the network gave a score that is not finite.
            EngineAway: it cannot be reached.
        """

    def verify(self) -> None:
        """Replay golden.npz.

        Raises:
            BundleError: it does not give what it gave where it was made.
            EngineAway: it cannot be reached.
        """


class Engine(Protocol):
    """What makes predictors."""

    def predictor(self, bundle: Bundle) -> Predicts:
        """The predictor of a bundle. An engine elsewhere is not asked before the first image."""


def replay(bundle: Bundle, predict: Callable[[Sequence[Floats]], list[Prediction]]) -> None:
    """Ask for the golden images.

    Raises:
        BundleError: the scores differ by more than GOLDEN_TOLERANCE, the distances by more than a hundredth.
    """
    with np.load(bundle.file(GOLDEN), allow_pickle=False) as golden:
        images, expected, distances = golden["pixels"], golden["scores"], golden["distances"]
    found = predict([p.astype(np.float32) / 255 for p in images])
    got = np.array([[p.scores[label.name] for label in bundle.spec.labels] for p in found])
    gap = float(np.abs(got - expected).max())
    if not gap <= GOLDEN_TOLERANCE:
        raise BundleError(f"{bundle.ref}: replaying {GOLDEN} differs by {gap:.4f} ({GOLDEN_TOLERANCE} allowed)")
    if bundle.spec.out_of_distribution:
        away = np.array([p.distance for p in found], np.float64)
        if not np.allclose(away, distances, rtol=0.01):
            raise BundleError(f"{bundle.ref}: replaying {GOLDEN} gives other distances: {away}")
