"""Every check of the audit in one call, and the audit of a data folder before any model. Decides no limit."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from training import cache, split
from training.audit import baselines, leaks, model_checks
from training.audit.subject import Floats, Parts, Subject
from training.audit.verdict import Audit, Question, concluded
from training.cache import Films
from training.errors import ManifestError
from training.manifest import NO_FINDING, Item, Manifest, findings

SIZE = 128
"""Films of a folder are decoded to this: twice what a hash looks at, four times what the pixel baseline sees."""
FOLDS = 5
SEED = 20260101


def audited(
    question: Question,
    manifest: Manifest,
    films: Films,
    parts: Parts,
    *,
    scores: Mapping[str, Floats],
    cuts: Parts = (),
    film: NDArray[np.bool_] | None = None,
) -> Audit:
    """Every check for which there is something to go by.

    `parts`: the folds, (train, held out), each film held out at most once. `scores`: by "plain", "hidden" (see
    `hide`) and "64 px", (n, labels) of any scale on which 0 is the middle (logits), from models that have not seen
    the film's patient; without them only the data is audited. `cuts`: further splits that no patient or film may lie
    across, such as the one that a threshold comes from. `film`: (n,) which rows are radiographs, where others are CT
    or MR; without it all are.

    Raises:
        ManifestError: films or scores that do not fit the manifest, or a film held out twice.
    """
    subject = Subject(manifest, films, parts)
    _fitting(subject, scores)
    every = (*parts, *cuts)
    pixels = baselines.held_out(baselines.pixels_model, baselines.thumbnails(films.pixels), subject)
    checks = [
        leaks.patients_apart(subject, every),
        *leaks.duplicates(subject, every),
        baselines.pixel_check(question, pixels, subject),
        baselines.metadata_check(question, subject),
        baselines.separable_check(question, subject),
        model_checks.organ_check(question, subject, scores),
        model_checks.gain_check(question, subject, scores, pixels),
        model_checks.matched_check(question, subject, scores, film),
        model_checks.external_check(),
    ]
    return concluded(question, checks)


def _fitting(subject: Subject, scores: Mapping[str, Floats]) -> None:
    known = (model_checks.PLAIN, model_checks.HIDDEN, model_checks.ROUGH)
    wanted = subject.manifest.counted & subject.held[:, None]
    for name, table in scores.items():
        if name not in known:
            raise ManifestError(f"scores[{name!r}]: no such films (have: {', '.join(known)})")
        if table.shape != wanted.shape:
            raise ManifestError(f"scores[{name!r}]: {wanted.shape} values are needed, not {table.shape}")
        if not np.isfinite(table[wanted]).all():
            raise ManifestError(f"scores[{name!r}]: a held-out film has none")


def of_items(question: Question, items: Sequence[Item], *, label: str, kept: Path | None, console: Console) -> Audit:
    """The audit of labelled films before any model; `label` "" asks every label.

    Films are decoded into `kept`, or into a folder that is gone afterwards.

    Raises:
        ManifestError: no such label, too few patients, or files that cannot be decoded.
    """
    manifest = asked(items, label)
    labelled = ", ".join(f"{name} {n}" for name, n in zip(manifest.labels, manifest.targets.sum(axis=0), strict=True))
    sources = ", ".join(sorted({item.source for item in manifest.items}))
    patients = len({item.patient for item in manifest.items if item.patient})
    unknown = sum(not item.patient for item in manifest.items)
    of = f"{patients} patients" + (f" and {unknown} of nobody known" if unknown else "")
    console.print(f"{sources}: {len(manifest.items)} images of {of}; {labelled}", highlight=False, soft_wrap=True)
    parts = split.folds(manifest, FOLDS, seed=SEED)
    with tempfile.TemporaryDirectory(prefix="overread-audit-") as gone:
        films = cache.films(manifest.items, SIZE, kept or Path(gone), console)
        return audited(question, manifest, films, parts, scores={})


def asked(items: Sequence[Item], label: str) -> Manifest:
    """Each label against films without any finding, where the source has such films, otherwise against the rest.

    Films without any label are left out.
    """
    labelled = [item for item in items if item.labels]
    have = sorted(frozenset().union(*(item.labels for item in labelled)))
    names = [name for name in have if name != NO_FINDING]
    if label and label not in names:
        raise ManifestError(f"--label {label}: no such label (have: {', '.join(names)})")
    if len(have) < 2:
        raise ManifestError(f"two labels are needed to tell anything apart (have: {', '.join(have) or 'none'})")
    wanted = [label] if label else names
    if NO_FINDING in have:
        return findings(wanted, labelled)
    targets = np.array([[int(name in item.labels) for name in wanted] for item in labelled], np.int64)
    return Manifest(tuple(wanted), tuple(labelled), targets, np.ones_like(targets, bool))


def printed(audit: Audit, console: Console) -> None:
    """The verdict in words, then a table of the checks."""
    console.print(f"Verdict: {audit.verdict}", style="bold", highlight=False)
    console.print(audit.summary, markup=False, highlight=False)
    table = Table("check", "result", "value", "in words", show_lines=True)
    for check in audit.checks:
        value = "" if check.value is None else f"{check.value:.3g}"
        table.add_row(check.name, check.status, value, Text(check.text))
    console.print(table)
