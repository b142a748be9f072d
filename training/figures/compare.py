"""Two models on the same films: which one ranks better, which one is right more often, and how sure that is.

DeLong and McNemar take films as independent. Where patients have several, that is too sure, so that an interval by
resampled patients stands beside it and both must agree before one model is called better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.figures import evaluate, metrics
from training.figures.delong import delong
from training.figures.evaluate import Flags, Patients
from training.figures.metrics import Floats, Truth


@dataclass(frozen=True)
class McNemar:
    """Films that only one of two models got right, and p that such an imbalance is chance (McNemar 1947).

    `exact` is the two-sided binomial p; `chi2` with continuity correction (Edwards 1948), for comparison with others.
    """

    only_a: int
    only_b: int
    exact: float
    chi2: float


@dataclass(frozen=True)
class Difference:
    """One label, two models, A and B."""

    label: str
    images: int
    patients: int
    positives: int
    auc_a: float
    auc_b: float
    gap: Gap
    decisions: McNemar

    def words(self, a: str, b: str) -> str:
        """One or two sentences; `a` and `b` are the models' names."""
        on = f"{self.images} films of {self.patients} patients, {self.positives} with it"
        areas = f"AUC {self.auc_a:.3f} and {self.auc_b:.3f}, DeLong p = {self.gap.p:.3g}"
        first = f"{self.label}: {self._ranking(a, b)} ({on}; {areas})."
        right = f"At their thresholds only {a} is right on {self.decisions.only_a} films, only {b} on "
        said = f"{first} {right}{self.decisions.only_b} (McNemar exact p = {self.decisions.exact:.3g})."
        # the interval knows that films of one patient say the same thing; the two p do not
        return f"{said} Both p take films as independent." if self.patients < self.images else said

    def _ranking(self, a: str, b: str) -> str:
        found = self.gap
        interval = f"95 % {found.low:.3f} to {found.high:.3f}"
        if found.low > 0:
            return f"{a} is better by {found.difference:.3f} AUC ({interval})"
        if found.high < 0:
            return f"{b} is better by {-found.difference:.3f} AUC (95 % {-found.high:.3f} to {-found.low:.3f})"
        return f"no difference shown, {a} less {b} is {found.difference:+.3f} AUC ({interval})"


@dataclass(frozen=True)
class Gap:
    """AUC of one model less that of another on the same films, with DeLong's interval and p, and the interval by
    resampled patients; `low` and `high` are the wider of both."""

    difference: float
    delong: tuple[float, float]
    p: float
    patients: tuple[float | None, float | None]

    @property
    def low(self) -> float:
        return min(v for v in (self.delong[0], self.patients[0]) if v is not None)

    @property
    def high(self) -> float:
        return max(v for v in (self.delong[1], self.patients[1]) if v is not None)


def gap(a: Floats, b: Floats, *, truth: Truth, groups: Patients, seed: int = 0) -> Gap:
    """Two models' scores of the same (n,) films."""
    difference, low, high, p = delong(a, b, truth)
    draws = [metrics.auc(a, truth, w) - metrics.auc(b, truth, w) for w in evaluate.resamples(groups, seed=seed)]
    return Gap(difference, (low, high), p, evaluate.limits(np.concatenate(draws)))


def compared(
    label: str,
    scores: tuple[Floats, Floats],
    flagged: tuple[Flags, Flags],
    *,
    truth: Truth,
    groups: Patients,
    seed: int = 0,
) -> Difference:
    """Both models' scores and decisions on the same (n,) films, of which some have the finding and some have not."""
    found = gap(scores[0], scores[1], truth=truth, groups=groups, seed=seed)
    return Difference(
        label,
        images=len(truth),
        patients=len(set(groups)),
        positives=int(truth.sum()),
        auc_a=evaluate.auc(scores[0], truth),
        auc_b=evaluate.auc(scores[1], truth),
        gap=found,
        decisions=mcnemar(flagged[0] == (truth == 1), flagged[1] == (truth == 1)),
    )


def mcnemar(right_a: Flags, right_b: Flags) -> McNemar:
    """Of (n,) films whether each model was right."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    exact = min(1.0, 2 * tail / 2**n)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / n if n else 0.0
    # the survival function of chi-squared with one degree of freedom
    return McNemar(only_a, only_b, exact, math.erfc(math.sqrt(statistic / 2)))
