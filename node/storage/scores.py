"""How the scores of a bundle are distributed, now and before: rows are counted, no image is told apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from sqlalchemy import Integer, case, cast, func, select

from models.findings import Presence
from node.storage import schema
from node.storage.store import Store

F = schema.finding
J = schema.job

BINS = 20
WEEK = 7 * 86400.0


@dataclass(frozen=True)
class Spread:
    """The scores of one label: how many in each of BINS equal parts from 0 to 1, and the flagged share by week.

    `weeks` holds (scored, flagged) for each week, the latest one last; `recent` counts the last four of them only.
    """

    label: str
    recent: tuple[int, ...]
    before: tuple[int, ...]
    weeks: tuple[tuple[int, int], ...]

    def flagged(self, first: int, last: int | None) -> float | None:
        """The share of flagged images in weeks `first` to `last` (as a slice says it); None where there were none."""
        scored, flagged = (sum(part) for part in zip(*self.weeks[first:last], strict=True))
        return flagged / scored if scored else None


def spreads(store: Store, bundle: str, *, now: float, weeks: int = 12) -> list[Spread]:
    """The labels of "name@version" and their scores of the last weeks, by label."""
    since = now - weeks * WEEK
    week = cast(func.floor((J.c.finished_at - since) / WEEK), Integer)
    part = cast(func.floor(F.c.score * BINS), Integer)
    flagged_or_not = case((F.c.presence == Presence.PRESENT, 1), else_=0).label("flagged")
    query = (
        select(F.c.label, week.label("week"), part.label("part"), flagged_or_not, func.count())
        .join(J, J.c.id == F.c.job_id)
        .where(J.c.bundle == bundle, J.c.finished_at > since, J.c.finished_at <= now, F.c.score.isnot(None))
        .group_by(F.c.label, "week", "part", "flagged")
    )
    counted: dict[str, Counter[tuple[int, int, bool]]] = defaultdict(Counter)
    with store.read() as connection:
        for label, at, place, flagged, n in connection.execute(query):
            # the upper ends, this very moment and 1.0, belong to the last week and the last part
            counted[label][min(at, weeks - 1), min(place, BINS - 1), bool(flagged)] += n
    return [_spread(label, found, weeks) for label, found in sorted(counted.items())]


def _spread(label: str, found: Counter[tuple[int, int, bool]], weeks: int) -> Spread:
    recent, before = [0] * BINS, [0] * BINS
    by_week = [[0, 0] for _ in range(weeks)]
    for (week, place, flagged), n in found.items():
        (recent if week >= weeks - 4 else before)[place] += n
        by_week[week][0] += n
        by_week[week][1] += n if flagged else 0
    return Spread(label, tuple(recent), tuple(before), tuple((scored, flagged) for scored, flagged in by_week))
