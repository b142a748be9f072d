"""What is known of a film without looking at its pixels, as columns for a baseline and in words for a reader.

A folder that is only the folder of a class is no column: a class in a folder of its own is how people file, and every
such set would fail. The source of a film is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from training.audit.subject import Subject
from training.manifest import Item

AGE_BANDS = (18, 40, 60, 80)
SOURCE, AGE_GROUP = "source", "age group"
UNKNOWN = "unknown"

Floats = NDArray[np.float32]


def columns(subject: Subject) -> dict[str, Floats]:
    """Features (n, some) by what they say: one column per category, unknown being one, and plain numbers."""
    items, shapes = subject.manifest.items, subject.films.shapes.astype(np.float32)
    ages = np.array([np.nan if item.age is None else item.age for item in items], np.float32)
    return {
        "view": _one_hot([item.view for item in items]),
        # -1: a tree can part the unknown ages from the known ones
        "age": np.where(np.isnan(ages), -1, ages)[:, None].astype(np.float32),
        "sex": _one_hot([item.sex for item in items]),
        "image size": np.column_stack([shapes, shapes[:, 0] / shapes[:, 1]]).astype(np.float32),
        "file type": _one_hot([item.path.suffix.lower() for item in items]),
        SOURCE: _one_hot([item.source for item in items]),
    }


def age_groups(items: Sequence[Item]) -> Floats:
    """(n, bands): under 18, 18 to 39, 40 to 59, 60 to 79, 80 and more, unknown."""
    return _one_hot([UNKNOWN if item.age is None else str(np.digitize(item.age, AGE_BANDS)) for item in items])


def _one_hot(values: Sequence[str]) -> Floats:
    names, place = np.unique(np.array(values), return_inverse=True)
    return np.eye(len(names), dtype=np.float32)[place]


def contrast(subject: Subject, label: int, *, what: str) -> str:
    """How films with a label differ from those without it in one column, for a reader who knows no statistics."""
    rows, truth = subject.rows(label), subject.truth(label)
    sides: Mapping[str, list[int]] = {
        f"films with {subject.manifest.labels[label]}": [int(i) for i in rows if truth[i]],
        f"films with {subject.others(label)}": [int(i) for i in rows if not truth[i]],
    }
    return f"{what}: " + "; ".join(
        f"of {len(some)} {name} {_said(subject, some, what)}" for name, some in sides.items()
    )


def _said(subject: Subject, rows: Sequence[int], what: str) -> str:
    items = [subject.manifest.items[i] for i in rows]
    if what in ("age", AGE_GROUP):
        ages = [item.age for item in items if item.age is not None]
        if not ages:
            return "the age is known of none"
        children = sum(age < AGE_BANDS[0] for age in ages)
        return f"the age is known of {len(ages)} (median {median(ages):.0f} years, {children} under 18)"
    if what == "image size":
        return _often([f"{rows}x{columns} px" for rows, columns in subject.films.shapes[list(rows)]])
    read = {"view": lambda i: i.view, "sex": lambda i: i.sex, SOURCE: lambda i: i.source}
    return _often([read.get(what, lambda i: i.path.suffix.lower())(item) or UNKNOWN for item in items])


def _often(values: Sequence[str]) -> str:
    names, often = np.unique(np.array(values), return_counts=True)
    order = np.argsort(-often, kind="stable")[:3]
    said = ", ".join(f"{often[k]} {names[k]}" for k in order)
    return said + (f" and {len(names) - 3} further kinds" if len(names) > 3 else "")
