"""One label's part of the report: curves, confusion, calibration, histogram, sweep, subgroups."""

from __future__ import annotations

import math
from itertools import groupby

import numpy as np

from training.figures import curves, evaluate
from training.figures.subgroups import Subgroup
from training.report import html, svg
from training.report.story import Story

HISTOGRAM = np.linspace(0, 1, 21)


def part(story: Story, k: int) -> str:
    """Everything about label `k`."""
    held, label = story.held, story.held.labels[k]
    rows = held.rows(k)
    positives = int(held.truth[rows, k].sum())
    note = f"{len(rows)} films of {len(set(held.groups[rows]))} patients, {positives} of them with it."
    charts = (_roc(story, k), _precision(story, k), _calibration(story, k), _histogram(story, k))
    grid = f'<div class="charts">{"".join(charts)}</div>'
    parts = html.text(note, "lead"), grid, _confusion(story, k), _sweep(story, k), _forest(story, k)
    return html.section(f"label-{k}", label, *parts)


def crossed(story: Story) -> str:
    """Of exclusive labels: which was taken for which."""
    rows = np.flatnonzero(story.held.counted.all(axis=1))
    found = curves.crossed(story.held.scores[rows], story.held.truth[rows])
    labels = story.held.labels
    lines = [(name, *(str(n) for n in line)) for name, line in zip(labels, found, strict=True)]
    return html.table(("truth, down; highest score, across", *labels), lines, "numbers")


def _roc(story: Story, k: int) -> str:
    held, rows = story.held, story.held.rows(k)
    truth = held.truth[rows, k]
    found = curves.roc(held.scores[rows, k], truth, groups=held.groups[rows])
    tp, fp, fn, tn = curves.confusion(held.flagged[rows, k], truth)
    point = svg.dot(fp / (fp + tn), tp / (tp + fn), says="operating point")
    drawn = [svg.band(found.x, found.low, found.high), svg.line([0, 1], [0, 1], "chance"), svg.unit_ticks()]
    drawn += [svg.line(found.x, found.y), point]
    area = evaluate.auc(held.scores[rows, k], truth)
    caption = f"ROC, AUC {area:.3f}; band: 95 % by resampled patients; dot: operating point"
    return html.figure(
        caption, svg.chart(drawn, title=f"ROC of {held.labels[k]}", x="1 - specificity", y="sensitivity")
    )


def _precision(story: Story, k: int) -> str:
    held, rows = story.held, story.held.rows(k)
    truth = held.truth[rows, k]
    recall, precision = curves.precision_recall(held.scores[rows, k], truth)
    share = float(truth.mean())
    drawn = [svg.line([0, 1], [share, share], "chance"), svg.line(recall, precision), svg.unit_ticks()]
    caption = f"Precision and recall; dashed: chance, {share:.0%} of these films have it"
    title = f"Precision and recall of {held.labels[k]}"
    return html.figure(caption, svg.chart(drawn, title=title, x="recall (sensitivity)", y="precision (PPV)"))


def _calibration(story: Story, k: int) -> str:
    held, rows = story.held, story.held.rows(k)
    found = curves.calibration(held.scores[rows, k], held.truth[rows, k], groups=held.groups[rows])
    drawn = [svg.line([0, 1], [0, 1], "chance"), svg.unit_ticks()]
    for b in found:
        if b.low is not None and b.high is not None:
            drawn.append(svg.whisker(b.score, b.low, b.high))
        says = f"score {b.score:.2f}, {b.frequency:.0%} of {b.images} films have it"
        drawn.append(svg.dot(b.score, b.frequency, says=says))
    counts = sorted({b.images for b in found})
    n = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    title = f"Calibration of {held.labels[k]}"
    chart = svg.chart(drawn, title=title, x="score", y="part that has it")
    return html.figure(
        f"Calibration, {len(found)} groups of {n} films; on the dashed line a score is a frequency", chart
    )


def _histogram(story: Story, k: int) -> str:
    held, rows = story.held, story.held.rows(k)
    truth, scores = held.truth[rows, k], held.scores[rows, k]
    parts = [np.histogram(scores[truth == t], HISTOGRAM)[0] / max(1, int((truth == t).sum())) for t in (0, 1)]
    top = math.ceil(5 * max(float(p.max()) for p in parts)) / 5  # a round number at every tick
    drawn = [svg.bars(HISTOGRAM, p / top, kind) for p, kind in zip(parts, ("b", "a"), strict=True)]
    drawn += [svg.upright(story.thresholds[k]), svg.unit_ticks()]
    title = f"Scores of {held.labels[k]}"
    chart = svg.chart(drawn, title=title, x="score", y="part of the films", span=(0, top))
    caption = f"Scores of films with it (orange) and without (blue); dashed: threshold {story.thresholds[k]:.3f}"
    return html.figure(caption, chart)


def _confusion(story: Story, k: int) -> str:
    rows = story.held.rows(k)
    tp, fp, fn, tn = curves.confusion(story.held.flagged[rows, k], story.held.truth[rows, k])
    lines = [("has it", str(tp), str(fn)), ("has it not", str(fp), str(tn))]
    return "<h3>Films at the operating point</h3>" + html.table(
        ("", "model says yes", "model says no"), lines, "numbers"
    )


def _sweep(story: Story, k: int) -> str:
    held, rows = story.held, story.held.rows(k)
    found = curves.sweep(held.scores[rows, k], held.truth[rows, k])
    head = ("threshold", "sensitivity", "specificity", "PPV here", "NPV here", "accuracy", "flagged")
    values = [(o.sensitivity, o.specificity, o.ppv, o.npv, o.accuracy, o.flagged) for o in found]
    lines = [(f"{o.threshold:.2f}", *map(_percent, v)) for o, v in zip(found, values, strict=True)]
    note = html.text("PPV and NPV are those of these films, at their own share of films with the finding.", "small")
    return html.more("Every threshold", html.table(head, lines, "numbers") + note)


def _forest(story: Story, k: int) -> str:
    mine = [g for g in story.subgroups if g.label == story.held.labels[k]]
    if not mine:
        return ""
    rows, held = story.held.rows(k), story.held
    area = evaluate.auc(held.scores[rows, k], held.truth[rows, k])
    drawn = []
    for by, parts in groupby(mine, key=lambda g: g.by):
        lines = [_line(g) for g in parts]
        title = f"AUC by {by}; dashed: all films, {area:.2f}; n: films with it of all"
        drawn.append(html.figure(title, svg.forest(lines, title=title, all_=area)))
    return "<h3>Subgroups</h3>" + f'<div class="charts broad">{"".join(drawn)}</div>'


def _line(group: Subgroup) -> svg.Row:
    n = f"{group.positives} of {group.images}"
    if group.auc is None:
        return group.name, n, None, None, None
    return group.name, n, group.auc.value, group.auc.low, group.auc.high


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"
