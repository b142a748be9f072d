"""The same figure in parts of the films: by view, sex, age band and source, each with its n.

A part with too few films gets its n and no figure: an AUC of three positives would only invite a story.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.figures import evaluate, metrics
from training.figures.evaluate import Figure, Held
from training.manifest import Item

LEAST = 10
"""Films with and without the finding that a subgroup needs for a figure."""
AGE_BANDS = ((18, "under 18"), (40, "18 to 39"), (60, "40 to 59"), (80, "60 to 79"), (200, "80 and older"))
UNKNOWN = "not known"


@dataclass(frozen=True)
class Subgroup:
    """One part of the films. `auc` is None where fewer than `LEAST` films have the finding, or have not."""

    label: str
    by: str
    name: str
    images: int
    patients: int
    positives: int
    auc: Figure | None
    sensitivity: Figure | None
    specificity: Figure | None


def kinds(item: Item) -> Mapping[str, str]:
    """The subgroup of an item, by view, sex, age band and source."""
    age = UNKNOWN if item.age is None else age_band(item.age)
    return {"view": item.view or UNKNOWN, "sex": item.sex or UNKNOWN, "age": age, "source": item.source}


def age_band(years: float) -> str:
    return next(name for end, name in AGE_BANDS if years < end)


def subgroups(held: Held, items: Sequence[Item], *, on: str, seed: int = 0) -> list[Subgroup]:
    """Every label's figures in every part of the films; a kind with a single part says nothing and is left out."""
    described = [kinds(item) for item in items]
    found = []
    for k in range(len(held.labels)):
        rows = held.rows(k)
        for by in described[0]:
            names = np.array([described[i][by] for i in rows])
            if len(set(names)) > 1:
                found += [
                    _subgroup(held, k, rows=rows[names == n], by=by, name=n, on=on, seed=seed) for n in _ordered(names)
                ]
    return found


def _ordered(names: NDArray[np.str_]) -> list[str]:
    """Age bands by age, others by name, unknown last."""
    bands = [name for _, name in AGE_BANDS]
    return sorted(set(names), key=lambda n: (n == UNKNOWN, bands.index(n) if n in bands else 0, n))


def _subgroup(held: Held, k: int, *, rows: NDArray[np.intp], by: str, name: str, on: str, seed: int) -> Subgroup:
    truth, groups, label = held.truth[rows, k], held.groups[rows], held.labels[k]
    positives = int(truth.sum())

    def part(what: str, metric: metrics.Metric, values: metrics.Floats, n: int) -> Figure | None:
        if n < LEAST:
            return None
        on_part = f"{on}, {by} {name}"
        return evaluate.figure(what, metric, values, truth=truth, groups=groups, on=on_part, label=label, seed=seed)

    flagged, fewer = held.flagged[rows, k].astype(np.float64), min(positives, len(rows) - positives)
    return Subgroup(
        label,
        by,
        name,
        images=len(rows),
        patients=len(set(groups)),
        positives=positives,
        auc=part("AUC", metrics.auc, held.scores[rows, k], fewer),
        sensitivity=part("sensitivity", metrics.sensitivity, flagged, positives),
        specificity=part("specificity", metrics.specificity, flagged, len(rows) - positives),
    )
