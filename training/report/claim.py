"""Rows of CLAIM 2024 (Checklist for Artificial Intelligence in Medical Imaging, Tejani et al., Radiology: Artificial
Intelligence 2024) that a run answers from its own facts. What a run cannot know it says so; nothing is made up."""

from __future__ import annotations

import numpy as np

from training.figures.evaluate import REPEATS
from training.report.story import Story

UNKNOWN = "not known to the run"


def rows(story: Story) -> list[tuple[str, str]]:
    """(item, answer), in the order of the checklist's sections."""
    return [
        ("Study goal", story.about.get("Intended use") or UNKNOWN),
        ("Prospective or retrospective", UNKNOWN),
        ("Data sources", _sources(story)),
        ("Inclusion and exclusion criteria", UNKNOWN),
        ("Data preprocessing", story.about.get("Preprocessing") or UNKNOWN),
        ("De-identification methods", UNKNOWN),
        ("How missing data were handled", _missing(story)),
        ("Definition of the reference standard", "The label that the source publishes; how it was read: " + UNKNOWN),
        ("Source of annotations, qualification of annotators", UNKNOWN),
        ("Inter-rater and intra-rater variability", UNKNOWN),
        ("How data were assigned to partitions", story.on),
        ("Level at which partitions are disjoint", _disjoint(story)),
        ("Intended sample size and how it was determined", UNKNOWN),
        ("Description of the model", story.about.get("Network") or UNKNOWN),
        ("Software libraries and versions", _said(story, "packages")),
        ("Initialisation of model parameters", _said(story, "starting_weights")),
        ("Training approach", _training(story)),
        (
            "Metrics of model performance",
            ", ".join(dict.fromkeys(f.name.partition(" at prevalence ")[0] for f in story.figures)) or UNKNOWN,
        ),
        ("Measures of uncertainty", f"95 % percentile intervals of {REPEATS} draws of patients"),
        ("Robustness or sensitivity analysis", _robust(story)),
        ("Explainability", _explained(story)),
        ("External testing", _external(story)),
        ("Numbers of patients and images included and excluded", _numbers(story)),
        ("Demographic characteristics", _people(story)),
        ("Diagnostic performance and its precision", "See the figures" if story.figures else UNKNOWN),
        ("Failure analysis", _failures(story)),
        ("Availability of software, model and data", story.about.get("Licence") or UNKNOWN),
        ("Clinical trial registration, protocol, funding", UNKNOWN),
    ]


def _sources(story: Story) -> str:
    return ", ".join(sorted({item.source for item in story.items}))


def _missing(story: Story) -> str:
    lacking = {
        "patient": sum(not i.patient for i in story.items),
        "age": sum(i.age is None for i in story.items),
        "sex": sum(not i.sex for i in story.items),
        "view": sum(not i.view for i in story.items),
    }
    said = ", ".join(f"{name} of {n}" for name, n in lacking.items() if n)
    if not said:
        return "Nothing is missing."
    return f"All {len(story.items)} films were kept. Not known: {said}. A film without a patient counts as its own."


def _disjoint(story: Story) -> str:
    checks = story.audit.checks if story.audit else ()
    return next((c.text for c in checks if c.name.startswith("patients")), UNKNOWN)


def _said(story: Story, prefix: str) -> str:
    found = next((v for k, v in story.provenance.items() if k.startswith(prefix)), None)
    if isinstance(found, dict):
        return ", ".join(f"{k} {v}" for k, v in found.items())
    return str(found) if found else UNKNOWN


def _training(story: Story) -> str:
    return f"{len(story.history)} epochs, see the training curve" if story.history else UNKNOWN


def _robust(story: Story) -> str:
    said = [f"audit with {len(story.audit.checks)} checks"] if story.audit else []
    said += [f"{len(story.subgroups)} subgroups"] if story.subgroups else []
    return ", ".join(said) or UNKNOWN


def _explained(story: Story) -> str:
    shown = sum(e.saliency is not None for e in story.examples)
    return f"Activation maps, {shown} shown" if shown else UNKNOWN


def _external(story: Story) -> str:
    checks = story.audit.checks if story.audit else ()
    return next((c.text for c in checks if c.name.startswith("external")), UNKNOWN)


def _numbers(story: Story) -> str:
    refused = sum(r.refused for r in story.refusals)
    said = f"{len(story.items)} images of {len(set(story.held.groups))} patients"
    return f"{said}; {refused} refused" if story.refusals else f"{said}; excluded: {UNKNOWN}"


def _people(story: Story) -> str:
    ages = [i.age for i in story.items if i.age is not None]
    sexes = {s: sum(i.sex == s for i in story.items) for s in ("F", "M", "O")}
    said = [f"{n} {s}" for s, n in sexes.items() if n]
    if ages:
        low, middle, high = np.quantile(ages, [0.25, 0.5, 0.75])
        said.append(f"median age {middle:.0f} (quartiles {low:.0f} and {high:.0f}) of {len(ages)} films")
    return ", ".join(said) or UNKNOWN


def _failures(story: Story) -> str:
    missed = sum(e.kind == "false negative" for e in story.examples)
    false = sum(e.kind == "false positive" for e in story.examples)
    return f"{missed} misses and {false} false alarms are shown" if missed + false else UNKNOWN
