"""Puts report.html together: what a reader must know first stands first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from training.audit import Audit
from training.figures.evaluate import Figure
from training.report import claim, html, label, pictures, svg
from training.report.story import Example, Story

AT = " at prevalence"
VERDICTS = {
    "pass": "Nothing speaks against the figures",
    "warn": "Read the figures with these doubts",
    "fail": "Do not believe the figures",
    "absent": "Nobody has looked for shortcuts",
}
FAILED = "The audit failed: these figures do not measure what their names say."
NO_AUDIT = "This model has no audit. Its figures may come from age, source or film format instead of disease."
HIT_FIRST = {"true positive": "Found", "false negative": "Missed", "false positive": "False alarm"}
INTERVALS = (
    "95 % intervals resample patients. An interval without width (1.000 to 1.000) only says that every film came out "
    "alike: n patients who did leave a rate of up to 3/n for the contrary."
)


def write(story: Story, path: Path) -> None:
    """Write the page to `path`, in whole or not at all."""
    html.write(page(story), path)


def page(story: Story) -> str:
    """The whole document."""
    sections = (
        audit_section(story.audit),
        _about(story),
        _figures(story),
        _examples(story),
        *(label.part(story, k) for k in range(len(story.held.labels))),
        _crossed(story),
        _refusals(story),
        _history(story),
        _data(story),
        _claim(story),
        _provenance(story),
    )
    return html.document(story.title, story.on, _menu(story), f"<main>{''.join(sections)}</main>")


def _menu(story: Story) -> str:
    names = [("audit", "Audit"), ("figures", "Figures")] + [("examples", "Hits and misses")] * bool(story.examples)
    names += [(f"label-{k}", name) for k, name in enumerate(story.held.labels)]
    names += [("data", "Data"), ("claim", "CLAIM")]
    return "<nav>" + " ".join(f'<a href="#{key}">{escape(name)}</a>' for key, name in names) + "</nav>"


def audit_section(audit: Audit | None) -> str:
    """What the audit said, and of each check."""
    verdict = audit.verdict if audit else "absent"
    summary = audit.summary if audit else NO_AUDIT
    banner = f'<p class="verdict {verdict}"><strong>{verdict.upper()}</strong> {escape(VERDICTS[verdict])}</p>'
    checks = audit.checks if audit else ()
    lines = [(c.name, c.status, c.text) for c in checks]
    table = html.table(("check", "result", "in words"), lines, "words")
    return html.section("audit", "Can these figures be believed?", banner, html.text(summary), table)


def _about(story: Story) -> str:
    notes = "".join(html.text(note, "note") for note in story.notes)
    return html.section("about", "What the model is", _pairs(story.about), notes)


def _figures(story: Story) -> str:
    tables = []
    for on, rows in groupby(sorted(story.figures, key=lambda f: f.on), key=lambda f: f.on):
        tables.append(f"<h3>{escape(on)}</h3>" + _figure_table(list(rows)))
    warning = html.text(FAILED, "note") if story.audit and story.audit.verdict == "fail" else ""
    return html.section("figures", "Figures", warning, *tables, html.text(INTERVALS, "small") if tables else "")


def _figure_table(rows: Sequence[Figure]) -> str:
    """One line per label and one column per kind of figure; a single label is easier to read turned on its side."""
    labels = list(dict.fromkeys(f.label for f in rows))
    if len(labels) == 1:
        lines = [(f.name, f"{f.value:.3f}", f.interval, str(f.images), str(f.patients)) for f in rows]
        heading = f"<h4>{escape(labels[0])}</h4>" if labels[0] else ""
        return heading + html.table(("figure", "value", "95 % interval", "images", "patients"), lines, "numbers")
    # PPV and NPV name their prevalence, which may differ from label to label: it moves into the cell
    cells = {(f.label, "".join(f.name.partition(AT)[:2])): f for f in rows}
    kinds = list(dict.fromkeys(kind for _, kind in cells))
    return html.table(
        ("label", "images\npatients", *kinds), [_across(n, kinds, cells) for n in labels], "numbers stacked"
    )


def _across(name: str, kinds: Sequence[str], cells: Mapping[tuple[str, str], Figure]) -> list[str]:
    """One label's line."""
    mine = [cells.get((name, kind)) for kind in kinds]
    some = next(f for f in mine if f)
    parts = ([f"{f.value:.3f}", f.interval, f.name.partition(AT)[2].strip()] if f else [] for f in mine)
    values = ("\n".join(filter(None, part)) for part in parts)
    return [name or "whole model", f"{some.images}\n{some.patients}", *values]


def _examples(story: Story) -> str:
    parts = []
    for name in story.held.labels:
        for kind, words in HIT_FIRST.items():
            some = [e for e in story.examples if e.label == name and e.kind == kind]
            if some:
                shown = "".join(_example(e) for e in some)
                parts.append(f"<h3>{escape(name)}: {words} <span class=small>({kind})</span></h3>")
                parts.append(f'<div class="films">{shown}</div>')
    note = html.text(
        "Left the film as the network sees it, drawn square; right what raised the score (orange) and where the reader "
        "marked it (cyan box), if the source has boxes. A map shows where the network looked, not where a lesion ends.",
        "small",
    )
    return html.section("examples", "Hits and misses", note, *parts) if parts else ""


def _example(example: Example) -> str:
    name = escape(f"{example.label}, {example.kind}, score {example.score:.2f}")
    films = f'<img src="{pictures.plain(example)}" alt="{name}" width=224 height=224>'
    if example.saliency is not None or example.boxes:
        films += f'<img src="{pictures.overlay(example)}" alt="{name}, with map" width=224 height=224>'
    return html.figure(f"score {example.score:.2f}", f"<div class=pair>{films}</div>")


def _crossed(story: Story) -> str:
    if not story.exclusive or len(story.held.labels) < 2:
        return ""
    return html.section("crossed", "Which label was taken for which", label.crossed(story))


def _refusals(story: Story) -> str:
    lines = [(r.group, str(r.images), str(r.refused), f"{r.refused / r.images:.1%}", r.why) for r in story.refusals]
    return html.section("refusals", "What was refused", html.table(("images", "n", "refused", "part", "why"), lines))


def _history(story: Story) -> str:
    """A chart per measure, training and validation together. x counts rows, because phases restart epochs."""
    keys = dict.fromkeys(k for row in story.history for k in row if k != "epoch" and not k.startswith("val_"))
    charts = [_trained(story, key) for key in keys]
    return html.section("history", "Training", f'<div class="charts">{"".join(charts)}</div>' if charts else "")


def _trained(story: Story, key: str) -> str:
    rows = story.history
    kinds = [(k, c) for k, c in ((key, "b"), (f"val_{key}", "a")) if any(k in row for row in rows)]
    every = np.array([row[k] for k, _ in kinds for row in rows if k in row])
    low, high = float(every.min()), float(every.max())
    high = high if high > low else low + 1
    at = np.linspace(0, 1, len(rows)) if len(rows) > 1 else np.zeros(1)
    drawn = [svg.ticks([(0, "1"), (1, str(len(rows)))] if len(rows) > 1 else [(0, "1")])]
    for k, colour in kinds:
        there = [(x, (row[k] - low) / (high - low)) for x, row in zip(at, rows, strict=True) if k in row]
        drawn.append(svg.line([p[0] for p in there], [p[1] for p in there], colour))
        drawn += [svg.dot(x, y, radius=2, kind=colour) for x, y in there]
    caption = f"{key}: training (blue)" + (", validation (orange)" if len(kinds) > 1 else "")
    return html.figure(caption, svg.chart(drawn, title=key, x="epoch", y=key, span=(low, high)))


def _data(story: Story) -> str:
    sources = sorted({item.source for item in story.items})
    lines = []
    for source in sources:
        rows = np.array([i for i, item in enumerate(story.items) if item.source == source])
        ages = [age for i in rows if (age := story.items[i].age) is not None]
        held = story.held
        having = (str(int((held.truth[rows, k] * held.counted[rows, k]).sum())) for k in range(len(held.labels)))
        middle = f"{np.median(ages):.0f}" if ages else claim.UNKNOWN
        women, men = (sum(story.items[i].sex == s for i in rows) for s in "FM")
        lines.append((source, str(len(rows)), str(len(set(held.groups[rows]))), middle, f"{women} / {men}", *having))
    head = ("source", "images", "patients", "median age", "women / men", *(f"with {n}" for n in story.held.labels))
    return html.section("data", "Films", html.table(head, lines, "numbers"))


def _claim(story: Story) -> str:
    note = html.text("Only what this run computed. A study must answer the rest.", "small")
    return html.section(
        "claim", "CLAIM 2024 checklist", note, html.table(("item", "answer"), claim.rows(story), "words")
    )


def _provenance(story: Story) -> str:
    return html.section("provenance", "How to repeat it", _pairs(_flat(story.provenance)))


def _pairs(pairs: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs.items() if v)
    return f"<dl>{rows}</dl>" if rows else ""


def _flat(nested: Mapping[str, object]) -> dict[str, str]:
    """Name and text; a mapping in it becomes one line."""
    return {
        key.replace("_", " "): ", ".join(f"{k} {v}" for k, v in value.items())
        if isinstance(value, Mapping)
        else str(value)
        for key, value in nested.items()
    }
