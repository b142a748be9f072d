"""MODEL_CARD.md: computed from a run, never typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.bundle import Label, Spec
from training.figures.evaluate import Figure
from training.reference import Refusal
from training.report import Story


def text(spec: Spec, story: Story, refusals: Sequence[Refusal]) -> str:
    """The card as Markdown: the warning first, then the audit, then the figures."""
    audit, facts = story.audit, story.provenance
    assert audit
    parts = [
        f"# {spec.name} {spec.version}",
        "**Research use only. Not a medical device. Not for diagnosis or any other decision about a patient.**",
        f"**Intended use.** {spec.intended_use}",
        f"**Not for.** {spec.not_for}",
        f"## Audit: {audit.verdict}\n\n{audit.summary}",
        _table(("check", "result", "in words"), [(c.name, c.status, c.text) for c in audit.checks]),
        f"## Figures\n\nOn: {story.on}. 95 % intervals resample patients. {' '.join(story.notes)}",
        _table(("label", "figure", "value", "95 % interval", "images", "patients"), [_row(f) for f in story.figures]),
    ]
    if refusals:
        parts += [
            "## What is refused\n\n`unlike`: the features are farther from what the network knows than its "
            "limit, which known films alone set. `refused`: unlike, or below the score that shipped bundles ask for.",
            _table(("images", "n", "should be", "unlike", "refused"), [_refusal(r) for r in refusals]),
        ]
    images, patients = facts["images"], facts["patients"]
    assert isinstance(images, Mapping) and isinstance(patients, Mapping)
    parts += [
        "## Labels",
        _table(
            ("label", "finding", "site", "present at", "absent below", "operating point"),
            [_label(x) for x in spec.labels],
        ),
        f"## Data\n\n{story.about['Data']}",
        _table(
            ("source", "images", "patients or single films"),
            [(name, str(n), str(patients[name])) for name, n in images.items()],
        ),
        f"## Model\n\n{spec.family}. Input {spec.input.height} x {spec.input.width} x {spec.input.channels}. "
        f"Calibration: {spec.calibration.method}, on held-out patients. Licence: {spec.licence}. "
        f"Made by {spec.trained_by}; data digest {str(facts['manifest_sha256'])[:16]}.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _row(figure: Figure) -> tuple[str, ...]:
    return figure.label, figure.name, f"{figure.value:.3f}", figure.interval, str(figure.images), str(figure.patients)


def _refusal(row: Refusal) -> tuple[str, ...]:
    return row.group, str(row.images), row.due, f"{row.unlike:.1%}", f"{row.gate:.1%}"


def _label(label: Label) -> tuple[str, ...]:
    codes = [f"{c.meaning} ({c.value}, {c.scheme})" for c in (label.finding, label.site)]
    return label.name, *codes, f"{label.threshold:.3f}", f"{label.lower:.3f}", label.operating_point
