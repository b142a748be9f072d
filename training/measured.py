"""What a sealed bundle is worth on films that its user chose: the story of `overread-train evaluate`, and `compare`.

Figures say on how many films they stand; what was refused is counted, never left out in silence.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models import preprocess
from models.bundle import AUDIT, Bundle, BundleError
from models.findings import Reader, Reading
from models.pixels import read
from models.registry import Registry
from training import reading
from training.audit import Audit, Check
from training.errors import ManifestError
from training.figures import compare, evaluate, localise, subgroups
from training.figures.evaluate import Figure, Held
from training.manifest import Box, Item, Manifest
from training.predictions import Joined, Predictions
from training.report import Example, Refused, Story
from training.report.examples import chosen

SHOWN_SIDE = 320
PACKAGES = ("overread", "keras", "numpy", "pydicom", "pillow")
SEEN = (
    "Whether the model was trained on some of these films is not known to this run. Figures on films that it was "
    "trained on are worth nothing."
)
THEIR_AUDIT = (
    "The audit is the one that the bundle was sealed with; it looked at its training data, not at these films."
)
NOT_HERE = "{} is not among the models that ship: what its audit said, and what it is for, is not known here."
NO_PATIENTS = "Of {} films no patient is known; each counts as a patient, so the intervals may be too narrow."


def story(reader: Reader, items: Sequence[Item], *, console: Console, prevalence: float | None = None) -> Story:
    """A bundle on labelled films: figures with intervals, subgroups, refusals, examples.

    Raises:
        ManifestError: no label of the bundle is one of the source, or no film that could be counted was read.
    """
    bundle = reader.bundle
    wanted = reading.truth([label.name for label in bundle.spec.labels], items)
    _see_both(wanted)
    said = reading.readings(reader, items, console=console)
    thresholds = {x.name: x.threshold for x in bundle.spec.labels}
    told, rows = _told(_Model(bundle.ref, bundle.digest, thresholds, bundle), wanted, said, prevalence=prevalence)
    some = [said[i] for i in rows]
    return replace(
        told,
        figures=[*told.figures, *_localised(told.held, told.items, some, on=told.on)],
        examples=_examples(reader, told.held, told.items),
        notes=_notes(bundle, items, told.held),
    )


def story_of(predictions: Predictions, found: Joined, *, prevalence: float | None = None) -> Story:
    """The same of what a node said before, as it was exported: without its films there are no maps and no examples.

    Raises:
        ManifestError: as `story`.
    """
    _see_both(found.wanted)
    model = _Model(predictions.bundle, predictions.digest, predictions.thresholds, _here(predictions))
    told, _ = _told(model, found.wanted, found.said, prevalence=prevalence)
    notes = [SEEN, *found.notes, *_left_out(predictions.thresholds, found.wanted.items, told.held)]
    notes += [THEIR_AUDIT] if told.audit else [] if model.bundle else [NOT_HERE.format(predictions.bundle)]
    return replace(told, notes=notes)


@dataclass(frozen=True)
class _Model:
    """Who said it. `bundle` is None where that is not here."""

    ref: str
    digest: str
    thresholds: Mapping[str, float]
    bundle: Bundle | None


def _here(predictions: Predictions) -> Bundle | None:
    """The very bundle of an export, if it is one of those that ship."""
    try:
        found = Registry().find(predictions.bundle)
    except BundleError:
        return None
    return found if found.digest == predictions.digest else None


def _see_both(wanted: Manifest) -> None:
    if not _both(wanted.targets, wanted.counted):
        raise ManifestError(f"{', '.join(wanted.labels)}: films with and without it are needed; only one kind is there")


def _told(
    model: _Model, wanted: Manifest, said: Sequence[Reading], *, prevalence: float | None
) -> tuple[Story, NDArray[np.intp]]:
    """What follows from readings and truth alone, and which rows count."""
    rows, held, thresholds = _held(model, wanted, said)
    films = [wanted.items[i] for i in rows]
    bundle = model.bundle
    sources = ", ".join(sorted({item.source for item in wanted.items}))
    gated = " without a gate" if bundle and not bundle.spec.gate else ""
    was_read = sum(r.status == "analysed" for r in said)
    on = f"{sources}: {len(said)} films, {was_read} read by {model.ref}{gated}, {len(rows)} counted"
    exclusive = bool(bundle and bundle.spec.task == "multiclass" and len(held.labels) == len(bundle.spec.labels))
    stated = [prevalence] * len(held.labels) if prevalence is not None else []
    told = Story(
        title=model.ref,
        on=on,
        held=held,
        items=films,
        thresholds=thresholds,
        figures=evaluate.figures(held, on=on, prevalence=stated, exclusive=exclusive),
        exclusive=exclusive,
        audit=audit(bundle) if bundle else None,
        about=about(bundle) if bundle else {},
        subgroups=subgroups.subgroups(held, films, on=on),
        refusals=refusals(wanted, said),
        provenance={
            "bundle": model.ref,
            "bundle_digest": model.digest,
            "packages": {p: version(p) for p in PACKAGES},
        },
    )
    return told, rows


def comparison(readers: tuple[Reader, Reader], items: Sequence[Item], *, console: Console) -> list[compare.Difference]:
    """Each label that both bundles and the source know, on the films that both have read.

    Raises:
        ManifestError: there is no such label, or no such film.
    """
    names = [{reading.plain(x.name): x for x in r.bundle.spec.labels} for r in readers]
    shared = [names[0][key].name for key in names[0] if key in names[1]]
    if not shared:
        lists = " and ".join(", ".join(x.name for x in r.bundle.spec.labels) for r in readers)
        raise ManifestError(f"{readers[0].bundle.ref} and {readers[1].bundle.ref} share no label ({lists})")
    wanted = reading.truth(shared, items)
    said = [reading.readings(r, items, console=console) for r in readers]
    both = np.array([a.status == b.status == "analysed" for a, b in zip(*said, strict=True)])
    found = []
    for k, label in enumerate(wanted.labels):
        rows = np.flatnonzero(both & wanted.counted[:, k])
        truth = wanted.targets[rows, k]
        if not 0 < truth.sum() < len(truth):
            raise ManifestError(f"{label}: {_need(truth)} among {len(rows)} counted films that both have read")
        specs = [n[reading.plain(label)] for n in names]
        scores = [np.array([s[i].scores[x.name] for i in rows]) for s, x in zip(said, specs, strict=True)]
        flagged = [s >= x.threshold for s, x in zip(scores, specs, strict=True)]
        found.append(
            compare.compared(
                label, (scores[0], scores[1]), (flagged[0], flagged[1]), truth=truth, groups=wanted.groups[rows]
            )
        )
    return found


def as_json(told: Story) -> dict[str, Any]:
    """The numbers of a story, for a program."""
    return {
        "bundle": told.title,
        "on": told.on,
        "audit": told.audit.verdict if told.audit else "absent",
        "figures": [f.as_row() for f in told.figures],
        "subgroups": [
            {"label": g.label, "by": g.by, "name": g.name, "images": g.images, "positives": g.positives}
            | {f.name: f.as_row() for f in (g.auc, g.sensitivity, g.specificity) if f}
            for g in told.subgroups
        ],
        "refusals": [{"images": r.images, "of": r.group, "refused": r.refused, "why": r.why} for r in told.refusals],
        "notes": list(told.notes),
    }


def about(bundle: Bundle) -> Mapping[str, str]:
    """What a bundle says of itself, for the report."""
    spec = bundle.spec
    points = "; ".join(f"{x.name} from {x.threshold:.3f}: {x.operating_point}" for x in spec.labels)
    gate = (
        f"{spec.gate.bundle} says {' or '.join(spec.gate.accept)} {spec.gate.at_least:.0%}"
        if spec.gate
        else "not asked"
    )
    least = spec.accepts.min_age_years
    return {
        "Intended use": spec.intended_use,
        "Not for": spec.not_for,
        "Network": f"{spec.family}. Input {spec.input.height} x {spec.input.width} px",
        "Calibration": spec.calibration.method,
        "Preprocessing": ", ".join(s.step for s in spec.steps),
        "Present": points,
        "Gate": gate,
        "Youngest patient": f"{least:.0f} years" if least is not None else "",
        "Trained by": spec.trained_by,
        "Licence": spec.licence,
    }


def audit(bundle: Bundle) -> Audit | None:
    """The audit that a bundle was sealed with; None when it has none. `Bundle.load` has checked the file."""
    if bundle.audit_verdict == "absent":
        return None
    content = json.loads(bundle.file(AUDIT).read_bytes())
    checks = tuple(Check(c["name"], c["status"], c["text"], c.get("value")) for c in content["checks"])
    return Audit(content["question"], bundle.audit_verdict, content["summary"], checks)


def refusals(wanted: Manifest, said: Sequence[Reading]) -> list[Refused]:
    """How many of all films and of each label's films were not read, by reason."""
    groups = {"all films": np.ones(len(said), bool)}
    groups |= {f"films with {name}": wanted.targets[:, k] == 1 for k, name in enumerate(wanted.labels)}
    found = []
    for name, rows in groups.items():
        some = [one for one, there in zip(said, rows, strict=True) if there]
        why = Counter(f"{r.status}: {r.code}" for r in some if r.status != "analysed")
        if some:
            reasons = ", ".join(f"{n} {code}" for code, n in why.most_common())
            found.append(Refused(name, len(some), sum(why.values()), reasons))
    return found


def _both(targets: NDArray[np.int64], counted: NDArray[np.bool_]) -> list[int]:
    """Labels of which there are counted films with and without it."""
    return [k for k in range(targets.shape[1]) if 0 < targets[counted[:, k], k].sum() < counted[:, k].sum()]


def _held(model: _Model, wanted: Manifest, said: Sequence[Reading]) -> tuple[NDArray[np.intp], Held, list[float]]:
    """The rows that were read and count for a label; of these truth, scores and decisions, and the thresholds."""
    was_read = np.array([r.status == "analysed" for r in said])
    counted = wanted.counted & was_read[:, None]
    both = _both(wanted.targets, counted)
    rows = np.flatnonzero(counted[:, both].any(axis=1))
    if not len(rows):
        why = refusals(wanted, said)[0].why or "nothing"
        raise ManifestError(
            f"{', '.join(wanted.labels)}: films with and without it are needed among those that {model.ref} reads "
            f"({int(was_read.sum())} of {len(said)} read; refused: {why})"
        )
    labels = tuple(wanted.labels[k] for k in both)
    cuts = [model.thresholds[name] for name in labels]
    scores = np.array([[said[int(i)].scores[name] for name in labels] for i in rows])
    truth, counts = wanted.targets[rows][:, both], counted[rows][:, both]
    held = Held(labels, truth, counts, scores, scores >= np.array(cuts), wanted.groups[rows])
    return rows, held, cuts


def _localised(held: Held, items: Sequence[Item], said: Sequence[Reading], *, on: str) -> list[Figure]:
    found = []
    for label in held.labels:
        boxes = [_boxes(item, label) for item in items]
        rows = [i for i, some in enumerate(boxes) if some and label in said[i].saliency]
        if rows:
            maps = [said[i].saliency[label] for i in rows]
            some = [boxes[i] for i in rows]
            found += localise.localisation(maps, some, groups=held.groups[rows], label=label, on=on)
    return found


def _boxes(item: Item, label: str) -> tuple[Box, ...]:
    return tuple(b for b in item.boxes if reading.plain(b.label) == reading.plain(label))


def _examples(reader: Reader, held: Held, items: Sequence[Item]) -> list[Example]:
    """The chosen films, read once more, because maps of all films would not fit in memory."""
    found = []
    for k, label in enumerate(held.labels):
        for kind, row in chosen(held, k):
            film = read(items[row].path, frames=reader.bundle.spec.accepts.frames)
            said = reader.read([film])[0]
            small = preprocess.resize(film.pixels, height=SHOWN_SIDE, width=SHOWN_SIDE)
            pixels = np.rint(255 * preprocess.stretch(small, low=0.5, high=99.5)).astype(np.uint8)
            score = float(held.scores[row, k])
            found.append(Example(label, kind, score, pixels, said.saliency.get(label), _boxes(items[row], label)))
    return found


def _notes(bundle: Bundle, items: Sequence[Item], held: Held) -> list[str]:
    notes = [_seen(bundle, items)]
    if bundle.audit_verdict != "absent":
        notes.append(THEIR_AUDIT)
    return notes + _left_out([x.name for x in bundle.spec.labels], items, held)


def _left_out(labels: Iterable[str], items: Sequence[Item], held: Held) -> list[str]:
    """What these films do not tell."""
    notes = []
    if unknown := sum(not item.patient for item in items):
        notes.append(NO_PATIENTS.format(unknown))
    if missing := [name for name in labels if name not in held.labels]:
        notes.append(f"Not measured, because these films are not there with and without it: {', '.join(missing)}.")
    return notes


def _seen(bundle: Bundle, items: Sequence[Item]) -> str:
    """Whether the model was trained on these films, by the list that `fit` leaves beside a bundle."""
    path = bundle.path.with_name(f"{bundle.path.name}.manifest.csv")
    if not path.exists():
        return SEEN
    with path.open(newline="", encoding="utf-8") as file:
        known = {row["digest"] for row in csv.DictReader(file)}
    here = sum(hashlib.sha256(item.path.read_bytes()).hexdigest() in known for item in items)
    if here:
        return f"{here} of these {len(items)} films were trained on: the figures say little about others."
    return "None of these files was trained on; whether other films of these patients were is not known."


def _need(truth: NDArray[np.int64]) -> str:
    return f"films with and without it are needed (have {int(truth.sum())} and {int((truth == 0).sum())})"
