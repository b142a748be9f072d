"""Figures with intervals. Resamples patients, not images: images of one patient say the same thing twice.

One draw is a weight per row, so that a metric of 1,000 draws is a few matrix operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.errors import ManifestError
from training.figures import metrics
from training.figures.metrics import Floats, Metric, Truth

REPEATS = 1000
CELLS = 4_000_000
"""Weights held at once: 32 MB, however many films there are."""
MEAN = "mean of the labels"
OF_SCORES: dict[str, Metric] = {
    "AUC": metrics.auc,
    "average precision": metrics.average_precision,
    "Brier score": metrics.brier,
    "expected calibration error": metrics.calibration_error,
}
WITHOUT_INTERVAL = {"expected calibration error"}
"""A resample's is larger than that of all rows by its very making, so that its quantiles bound nothing."""
OF_FLAGS: dict[str, Metric] = {
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
    "accuracy": metrics.accuracy,
}

Flags = NDArray[np.bool_]
Patients = NDArray[np.str_]


@dataclass(frozen=True)
class Figure:
    """One number of a run: what, on which images, with its 95 % interval where one was computed.

    `label` is what it is about, "" where that is the whole model.
    """

    name: str
    on: str
    value: float
    images: int
    patients: int
    low: float | None = None
    high: float | None = None
    label: str = ""

    def as_row(self) -> dict[str, Any]:
        rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return {k: v for k, v in rounded.items() if v not in (None, "")}

    @property
    def interval(self) -> str:
        return "" if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"

    def __str__(self) -> str:
        about = f"{self.label}: " if self.label else ""
        interval = f" ({self.interval})" if self.interval else ""
        stands_on = f"{self.on}, {self.images} images of {self.patients} patients"
        return f"{about}{self.name} {self.value:.3f}{interval}, {stands_on}"


@dataclass(frozen=True)
class Held:
    """What a model said of rows that it had not seen, and what is true: all (n, labels), `groups` (n,) patients.

    `flagged`: at or above the threshold that held for the row. `counted`: whether the label's figures use the row.
    """

    labels: tuple[str, ...]
    truth: Truth
    counted: Flags
    scores: Floats
    flagged: Flags
    groups: Patients

    def __post_init__(self) -> None:
        shape = (len(self.groups), len(self.labels))
        for name in ("truth", "counted", "scores", "flagged"):
            if getattr(self, name).shape != shape:
                raise ManifestError(f"{name}: {shape} values are needed, not {getattr(self, name).shape}")
        for k, label in enumerate(self.labels):
            have = np.bincount(self.truth[self.counted[:, k], k], minlength=2)
            if not have.all():
                raise ManifestError(f"{label}: films with and without it are needed (have {have[1]} and {have[0]})")
        if not np.isfinite(self.scores[self.counted]).all():
            raise ManifestError("scores: a counted film has none")

    def rows(self, label: int) -> NDArray[np.intp]:
        return np.flatnonzero(self.counted[:, label])


def auc(scores: Floats, truth: Truth) -> float:
    """Area under the ROC curve of all rows, each counting once."""
    return float(metrics.auc(scores, truth, np.ones((1, len(truth))))[0])


def figure(
    name: str,
    metric: Metric,
    scores: Floats,
    *,
    truth: Truth,
    groups: Patients,
    on: str,
    label: str = "",
    seed: int = 0,
) -> Figure:
    """A metric with its 95 % percentile interval over resampled patients, where it has one."""
    value = float(metric(scores, truth, np.ones((1, len(truth))))[0])
    ends = (None, None) if name in WITHOUT_INTERVAL else _limits(metric, scores, truth, groups, seed)
    return Figure(name, on, value, len(truth), len(set(groups)), *ends, label)


def _limits(
    metric: Metric, scores: Floats, truth: Truth, groups: Patients, seed: int
) -> tuple[float | None, float | None]:
    return limits(np.concatenate([metric(scores, truth, w) for w in resamples(groups, seed=seed)]))


def figures(
    held: Held, *, on: str, prevalence: Sequence[float] = (), exclusive: bool = False, seed: int = 0
) -> list[Figure]:
    """Every figure of every label, then the means of the labels.

    `prevalence`: one per label, for PPV and NPV; without it they are not given, because the share of positives in a
    data set is nobody's prevalence. `exclusive`: of several labels exactly one is true, so that the highest score is
    right or wrong. A figure that is not defined (PPV where nothing is flagged) is left out.
    """
    found: list[Figure] = []
    for k, label in enumerate(held.labels):
        rows = held.rows(k)
        flags = dict(OF_FLAGS)
        if prevalence:
            stated = f"at prevalence {prevalence[k]:.1%}"
            flags |= {f"PPV {stated}": metrics.ppv_at(prevalence[k]), f"NPV {stated}": metrics.npv_at(prevalence[k])}
        for table, values in ((OF_SCORES, held.scores), (flags, held.flagged.astype(np.float64))):
            for name, metric in table.items():
                truth, groups = held.truth[rows, k], held.groups[rows]
                found.append(
                    figure(name, metric, values[rows, k], truth=truth, groups=groups, on=on, label=label, seed=seed)
                )
    if len(held.labels) > 1:
        found += means(held, on=on, seed=seed)
        if exclusive:
            found.append(_top(held, on=on, seed=seed))
    return [f for f in found if math.isfinite(f.value)]


def means(held: Held, *, on: str, seed: int = 0) -> list[Figure]:
    """The mean over the labels of each figure of `OF_SCORES`, and of sensitivity and specificity.

    One draw of patients serves all labels, so that the interval knows how they hang together.
    """
    flagged = held.flagged.astype(np.float64)
    kinds = [(name, metric, held.scores) for name, metric in OF_SCORES.items()]
    kinds += [(name, OF_FLAGS[name], flagged) for name in ("sensitivity", "specificity")]
    counted = held.counted.any(axis=1)

    def over_labels(metric: Metric, values: Floats, weights: Floats) -> Floats:
        each = (metric(values[r, k], held.truth[r, k], weights[:, r]) for k, r in enumerate(rows))
        return np.asarray(np.mean(list(each), axis=0))

    rows = [held.rows(k) for k in range(len(held.labels))]
    found = []
    for name, metric, values in kinds:
        value = float(over_labels(metric, values, np.ones((1, len(held.groups))))[0])
        ends: tuple[float | None, float | None] = (None, None)
        if name not in WITHOUT_INTERVAL:
            draws = [over_labels(metric, values, w) for w in resamples(held.groups, seed=seed)]
            ends = limits(np.concatenate(draws))
        patients = len(set(held.groups[counted]))
        found.append(Figure(name, on, value, int(counted.sum()), patients, *ends, MEAN))
    return found


def resamples(groups: Patients, *, seed: int = 0, repeats: int = REPEATS) -> Iterator[Floats]:
    """Weights (draws, n) of `repeats` draws of as many patients as there are, in blocks of at most `CELLS`."""
    rng = np.random.default_rng(seed)
    names, where = np.unique(groups, return_inverse=True)
    block = max(1, CELLS // len(groups))
    for start in range(0, repeats, block):
        draws = min(block, repeats - start)
        drawn = rng.integers(0, len(names), (draws, len(names))) + np.arange(draws)[:, None] * len(names)
        counts = np.bincount(drawn.ravel(), minlength=draws * len(names)).reshape(draws, -1)
        yield counts[:, where].astype(np.float64)


def limits(draws: Floats) -> tuple[float | None, float | None]:
    """2.5 and 97.5 percentiles of the draws that are defined; nothing when fewer than half of them are."""
    defined = draws[np.isfinite(draws)]
    if 2 * len(defined) < len(draws):
        return None, None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def _top(held: Held, *, on: str, seed: int) -> Figure:
    """How often the label with the highest score is the true one, on the rows that every label counts."""
    rows = np.flatnonzero(held.counted.all(axis=1))
    right = (held.scores[rows].argmax(axis=1) == held.truth[rows].argmax(axis=1)).astype(np.float64)
    truth = np.ones(len(rows), np.int64)
    return figure("accuracy", metrics.mean, right, truth=truth, groups=held.groups[rows], on=on, seed=seed)
