"""A story on a terminal: the audit's verdict, then figures, refusals and notes. Computes nothing."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from training.report import Story


def story(told: Story, console: Console) -> None:
    """Print what `overread-train evaluate` found."""
    console.print(f"{told.title}: {told.on}", markup=False, highlight=False)
    verdict = (
        f"{told.audit.verdict}. {told.audit.summary}" if told.audit else "absent. Nobody has looked for shortcuts."
    )
    console.print(f"Audit: {verdict}", markup=False, highlight=False)
    figures = Table("label", "figure", "value", "95 % interval", "images", "patients")
    for f in told.figures:
        figures.add_row(f.label, f.name, f"{f.value:.3f}", f.interval, str(f.images), str(f.patients))
    console.print(figures)
    refused = Table("films", "n", "refused", "why")
    for r in told.refusals:
        refused.add_row(r.group, str(r.images), str(r.refused), r.why)
    console.print(refused)
    for note in told.notes:
        console.print(f"Note: {note}", markup=False, highlight=False)
