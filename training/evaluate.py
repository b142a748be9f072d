"""Figures with intervals. Resamples patients, not images: images of one patient say the same thing twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

REPEATS = 1000

Floats = NDArray[np.floating[Any]]
Truth = NDArray[np.int64]
Metric = Callable[[Floats, Truth], float]


@dataclass(frozen=True)
class Figure:
    """One number of a run: what, on which images, with its 95 % interval where one was computed."""

    name: str
    on: str
    value: float
    images: int
    patients: int
    low: float | None = None
    high: float | None = None

    def as_row(self) -> dict[str, Any]:
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {k: v for k, v in rounded.items() if v is not None}

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.name} {self.value:.3f}{interval}, {self.on}, {self.images} images of {self.patients} patients"


def auc(scores: Floats, truth: Truth) -> float:
    """Area under the ROC curve: how often a positive outranks a negative, a tie counting half (Mann-Whitney)."""
    positive, negative = scores[truth == 1], np.sort(scores[truth == 0])
    below, level = (np.searchsorted(negative, positive, side=s) for s in ("left", "right"))
    return float((below + level).sum() / (2 * len(positive) * len(negative)))


def sensitivity_at(threshold: float) -> Metric:
    return lambda scores, truth: float((scores[truth == 1] >= threshold).mean())


def specificity_at(threshold: float) -> Metric:
    return lambda scores, truth: float((scores[truth == 0] < threshold).mean())


def accuracy(scores: Floats, truth: Truth) -> float:
    return float(((scores >= 0.5) == (truth == 1)).mean())


def calibration_error(scores: Floats, truth: Truth, bins: int = 10) -> float:
    """Expected calibration error over bins of equal count: mean distance of score and frequency."""
    order = np.array_split(np.argsort(scores), bins)
    gaps = [abs(float(scores[i].mean() - truth[i].mean())) * len(i) for i in order if len(i)]
    return sum(gaps) / len(scores)


def figure(
    name: str, metric: Metric, scores: Floats, *, truth: Truth, groups: NDArray[np.str_], on: str, seed: int = 0
) -> Figure:
    """A metric with its 95 % percentile interval over resampled patients."""
    low, high = bootstrap(metric, scores, truth, groups=groups, seed=seed)
    return Figure(name, on, metric(scores, truth), len(scores), len(set(groups)), low, high)


def bootstrap(
    metric: Metric, scores: NDArray[Any], truth: Truth, *, groups: NDArray[np.str_], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of a metric; draws without both classes are drawn again."""
    rng = np.random.default_rng(seed)
    names, where = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(where == k) for k in range(len(names))]
    values: list[float] = []
    while len(values) < REPEATS:
        drawn = np.concatenate([members[k] for k in rng.integers(0, len(names), len(names))])
        if 0 < truth[drawn].sum() < len(drawn):
            values.append(metric(scores[drawn], truth[drawn]))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
