"""Which films a person should see: the surest hits, the worst misses, the loudest false alarms. Reads no pixels."""

from __future__ import annotations

import numpy as np

from training.figures.evaluate import Held
from training.report.story import Kind

SHOWN = 3


def chosen(held: Held, label: int, *, shown: int = SHOWN) -> list[tuple[Kind, int]]:
    """(kind, row) of at most `shown` films of each kind, no two of one patient; the most extreme score first."""
    truth, flagged, scores = held.truth[:, label] == 1, held.flagged[:, label], held.scores[:, label]
    kinds: tuple[tuple[Kind, np.ndarray, np.ndarray], ...] = (
        ("true positive", truth & flagged, -scores),
        ("false negative", truth & ~flagged, scores),
        ("false positive", ~truth & flagged, -scores),
    )
    found = []
    for kind, fits, order in kinds:
        rows = np.flatnonzero(fits & held.counted[:, label])
        ranked = rows[np.argsort(order[rows], kind="stable")]
        _, first = np.unique(held.groups[ranked], return_index=True)
        found += [(kind, int(row)) for row in ranked[np.sort(first)][:shown]]
    return found
