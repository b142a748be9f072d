"""From a run to the record that its report and its card are made of. Computes nothing but what to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.audit import Audit
from training.figures.evaluate import Figure
from training.figures.subgroups import subgroups
from training.judge import Judgement
from training.learning.answers import Answers
from training.reference import Refusal
from training.report import Example, Refused, Story, examples
from training.run import Run


def story(
    found: Run,
    said: Answers,
    judgement: Judgement,
    *,
    figures: Sequence[Figure],
    verdict: Audit,
    refusals: Sequence[Refusal],
    provenance: dict[str, Any],
) -> Story:
    """Everything that a reader of the run is told."""
    recipe, held = found.recipe, judgement.held
    items = [found.manifest.items[i] for i in judgement.rows]
    settings = recipe.settings
    trained = "the head alone" if settings.train_from in ("exact", "head") else f"from {settings.train_from}"
    return Story(
        title=f"{recipe.bundle} {recipe.version}",
        on=found.on,
        held=held,
        items=items,
        thresholds=[p.threshold for p in judgement.points],
        figures=figures,
        exclusive=recipe.task == "multiclass",
        audit=verdict,
        about={
            "Intended use": recipe.intended_use,
            "Not for": recipe.not_for,
            "Network": f"{settings.backbone}, {settings.size} x {settings.size}, trained: {trained}",
            "Preprocessing": "; ".join(f"{s.step} {_arguments(s.arguments)}" for s in recipe.steps),
            "Data": recipe.data_note,
        },
        subgroups=subgroups(held, items, on=found.on),
        refusals=[
            Refused(r.group, r.images, round(r.gate * r.images), f"unlike what it knows: {r.unlike:.1%}")
            for r in refusals
        ],
        examples=shown(found, said, judgement),
        history=history(said),
        provenance=provenance,
        notes=notes(found, judgement),
    )


def _arguments(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())


def shown(found: Run, said: Answers, judgement: Judgement) -> list[Example]:
    """Each label's surest hits, misses and false alarms, with the map of the model that had not seen them."""
    held = judgement.held
    pictures = []
    for k, label in enumerate(held.labels):
        for kind, place in examples.chosen(held, k):
            row = int(judgement.rows[place])
            boxes = tuple(b for b in found.manifest.items[row].boxes if b.label == label)
            grid = said.maps[row][..., k] if row in said.maps else None
            score, pixels = float(held.scores[place, k]), np.asarray(found.films.pixels[row])
            pictures.append(Example(label, kind, score, pixels, grid, boxes))
    return pictures


def history(said: Answers) -> list[dict[str, float]]:
    """The mean of the folds, epoch by epoch, as far as every fold got."""
    if not all(said.histories):
        return []
    rows = []
    for epoch, parts in enumerate(zip(*said.histories, strict=False)):
        means = {key: float(np.mean([p[key] for p in parts])) for key in parts[0]}
        rows.append({"epoch": float(epoch + 1), **means})
    return rows


def notes(found: Run, judgement: Judgement) -> list[str]:
    """What a reader must know to read the figures."""
    said = [
        "Calibration and thresholds that a film is judged by come from the films of other folds."
        if len(found.folds) > 1
        else "Calibration and thresholds come from the validation patients.",
    ]
    if len(found.folds) > 1:
        said.append("The model that is kept was trained on all patients; the figures are those of the folds' models.")
    said.append("The audit's AUC are of scores before calibration and can differ in the second digit.")
    if found.copies:
        said.append(f"{found.copies} patients have a film that looks like another's and count as that one.")
    if nothing := [n for n, slope in zip(found.manifest.labels, judgement.calibration.slope, strict=True) if not slope]:
        names = ", ".join(nothing)
        said.append(f"Ranked no better than chance, so that its score is its frequency on every film: {names}.")
    weak = int((found.manifest.targets.astype(bool) & ~found.manifest.counted).sum())
    if weak:
        said.append(f"{weak} weak labels (text-mined) were trained on; no figure counts them.")
    return said
