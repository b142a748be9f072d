"""The models of a node as people judge them: what they are for, what their figures and audit say, where they are used,
and whether their scores are distributed as they were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from config.settings import Route, Settings
from models.bundle import AUDIT, CARD, METRICS, AuditCheck, Bundle, BundleError
from models.registry import Registry
from node.pipeline.plan import plan
from node.storage import scores
from node.storage.scores import Spread
from node.storage.store import Store

SHIFT = 0.1
"""A flagged share that moved by more is pointed out: on so few weeks it is a reason to look, and no more."""
ENOUGH = 50
"""Images without which a share says nothing."""


@dataclass(frozen=True)
class Figure:
    """One figure of metrics.json with its 95 % interval."""

    label: str
    name: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Use:
    """A route that runs a bundle."""

    route: str
    mode: str
    deliver_to: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """One bundle. `gates` are the bundles that ask it first; `uses` the routes that run it, as they stand now."""

    bundle: Bundle
    uses: tuple[Use, ...]
    gates: tuple[str, ...]

    @property
    def is_used(self) -> bool:
        return bool(self.uses or self.gates)


@dataclass(frozen=True)
class Portrait:
    """All that is to be said of one model."""

    model: Model
    judged_on: str
    figures: tuple[Figure, ...]
    checks: tuple[AuditCheck, ...]
    summary: str
    card: str
    spreads: tuple[Spread, ...]
    shifted: tuple[str, ...]
    """Labels whose flagged share moved, in words."""

    @property
    def table(self) -> tuple[list[str], dict[str, list[Figure | None]]]:
        """The figures as they are read, side by side: the names of the columns, and for each label its row."""
        found = {(figure.label, figure.name): figure for figure in self.figures}
        names = list(dict.fromkeys(figure.name for figure in self.figures))
        labels = dict.fromkeys(figure.label for figure in self.figures)
        return names, {label: [found.get((label, name)) for name in names] for label in labels}


def models(settings: Settings, bundles: Registry) -> list[Model]:
    """Every bundle, those in use first."""
    used: dict[str, list[Route]] = {}
    for planned in plan(settings):
        used.setdefault(planned.bundle, []).append(planned.route)
    all_of_them = bundles.all()
    found = [Model(b, _uses(used.get(b.ref, [])), _gates(b, all_of_them, bundles, used)) for b in all_of_them]
    return sorted(found, key=lambda model: not model.is_used)


def _uses(routes: Sequence[Route]) -> tuple[Use, ...]:
    return tuple(Use(r.name, r.mode, tuple(r.deliver_to)) for r in routes)


def _gates(
    bundle: Bundle, others: Sequence[Bundle], bundles: Registry, used: dict[str, list[Route]]
) -> tuple[str, ...]:
    """Bundles in use that ask this one whether an image is theirs."""
    return tuple(
        other.ref
        for other in others
        if other.ref in used and other.spec.gate and bundles.find(other.spec.gate.bundle).ref == bundle.ref
    )


def portrait(settings: Settings, store: Store, bundles: Registry, ref: str, *, now: float) -> Portrait:
    """One model with its figures, its audit, its card and its scores of the last twelve weeks.

    Raises:
        BundleError: there is no such bundle.
    """
    found = next((m for m in models(settings, bundles) if m.bundle.ref == ref), None)
    if found is None:
        raise BundleError(f"{ref}: no such bundle")
    metrics = json.loads(found.bundle.file(METRICS).read_text(encoding="utf-8"))
    audit = json.loads(found.bundle.file(AUDIT).read_text(encoding="utf-8"))
    told = scores.spreads(store, ref, now=now)
    return Portrait(
        found,
        str(metrics.get("on", "")),
        tuple(
            Figure(str(f.get("label", "")), f["name"], f["value"], f.get("low"), f.get("high"))
            for f in metrics.get("figures", [])
        ),
        tuple(AuditCheck.model_validate(check, extra="ignore") for check in audit.get("checks", [])),
        str(audit.get("summary", "")),
        found.bundle.file(CARD).read_text(encoding="utf-8"),
        tuple(told),
        tuple(words for spread in told if (words := _shift(spread))),
    )


def _shift(spread: Spread) -> str:
    if min(sum(spread.recent), sum(spread.before)) < ENOUGH:
        return ""
    now, then = spread.flagged(-4, None), spread.flagged(0, -4)
    if now is None or then is None or abs(now - then) < SHIFT:
        return ""
    return f"{spread.label}: flagged {now:.0%} of the last four weeks' images, {then:.0%} of the eight weeks' before"
