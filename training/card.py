"""MODEL_CARD.md: computed from a run, never typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.bundle import Label, Spec
from training.audit import Audit
from training.evaluate import Figure
from training.reference import Refusal


def text(
    spec: Spec,
    *,
    figures: Sequence[Figure],
    refusals: Sequence[Refusal],
    audit: Audit,
    data_note: str,
    provenance: dict[str, Any],
) -> str:
    """The card as Markdown: the warning first, then the audit, then the figures."""
    parts = [
        f"# {spec.name} {spec.version}",
        "**Research use only. Not a medical device. Not for diagnosis or any other decision about a patient.**",
        f"**Intended use.** {spec.intended_use}",
        f"**Not for.** {spec.not_for}",
        f"## Audit: {audit.verdict}\n\n{audit.summary}",
        _table(("check", "result", "in words"), [(c.name, c.status, c.text) for c in audit.checks]),
        "## Figures\n\n95 % intervals resample patients.",
        _table(("figure", "on", "value", "95 % interval", "images", "patients"), [_row(f) for f in figures]),
    ]
    if refusals:
        parts += [
            "## What is refused\n\n`unlike`: the features are farther from what the network knows than its "
            "limit, which known films alone set. `refused`: unlike, or below the score that shipped bundles ask for.",
            _table(("images", "n", "unlike", "refused"), [_refusal(r) for r in refusals]),
        ]
    parts += [
        "## Labels",
        _table(
            ("label", "finding", "site", "present at", "absent below", "operating point"),
            [_label(x) for x in spec.labels],
        ),
        f"## Data\n\n{data_note}",
        _table(
            ("part", "images", "patients or single films"),
            [(part, str(n), str(provenance["patients"][part])) for part, n in provenance["images"].items()],
        ),
        f"## Model\n\n{spec.family}. Input {spec.input.height} x {spec.input.width} x {spec.input.channels}. "
        f"Calibration: {spec.calibration.method}, on held-out training patients. Licence: {spec.licence}. "
        f"Made by {spec.trained_by}; data digest {provenance['manifest_sha256'][:16]}.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(figure: Figure) -> tuple[str, ...]:
    interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f} to {figure.high:.3f}"
    return figure.name, figure.on, f"{figure.value:.3f}", interval, str(figure.images), str(figure.patients)


def _refusal(row: Refusal) -> tuple[str, ...]:
    return row.group, str(row.images), f"{row.unlike:.1%}", f"{row.gate:.1%}"


def _label(label: Label) -> tuple[str, ...]:
    codes = [f"{c.meaning} ({c.value}, {c.scheme})" for c in (label.finding, label.site)]
    return label.name, *codes, f"{label.threshold:.3f}", f"{label.lower:.3f}", label.operating_point
