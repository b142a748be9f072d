"""How long studies took, by how urgent they were: from the last image received to results stored, and to results sent.

Counted are results of what came: nobody waited for a revision that a person asked for, for rows that were adopted, or
for what a pull brought.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, case, func, select

from node.domain import DeliveryState, Priority
from node.storage import schema
from node.storage.routing import ASKED
from node.storage.store import Store
from node.storage.trials import COUNTS

D = schema.delivery
I = schema.instance  # noqa: E741
J = schema.job
JI = schema.job_instance
R = schema.result
S = schema.study

SENT = (DeliveryState.SENT, DeliveryState.COMMITTED)


@dataclass(frozen=True)
class Spread:
    """Seconds; None where there is nothing to count."""

    median: float | None
    p95: float | None


@dataclass(frozen=True)
class Turnaround:
    """What one class had to wait."""

    priority: Priority
    studies: int
    stored: Spread
    sent: Spread


def last_received() -> Any:
    """When the last image of a job came."""
    query = select(func.max(I.c.received_at)).join(JI, JI.c.instance_id == I.c.id)
    return query.where(JI.c.job_id == J.c.id).scalar_subquery()


def turnaround(store: Store, *, since: float) -> list[Turnaround]:
    """Of each class the studies whose results were stored since then, the most urgent class first."""
    # Deliveries that are as old as their result: those of an adopted one are younger
    meant = and_(D.c.created_at == J.c.finished_at, D.c.state != DeliveryState.OMITTED)
    own = and_(D.c.result_id == R.c.id, meant)
    last = case((D.c.state.in_(SENT), D.c.sent_at))
    query = (
        select(
            J.c.priority,
            J.c.study_id,
            J.c.finished_at,
            last_received().label("received_at"),
            func.count(D.c.id).label("wanted"),
            func.count(last).label("done"),
            func.max(last).label("sent_at"),
        )
        .join(S, S.c.id == J.c.study_id)
        .join(R, R.c.job_id == J.c.id)
        .outerjoin(D, own)
        # first by the index of when they ended: grouped by its key, the table would be read from its beginning
        .where(J.c.id.in_(select(J.c.id).where(J.c.finished_at >= since, J.c.priority != Priority.BULK)))
        .where(~and_(S.c.settled_by == ASKED, S.c.revision == J.c.revision), COUNTS)
        .group_by(J.c.id)
    )
    with store.read() as connection:
        rows = connection.execute(query).all()
    found = []
    for priority in Priority:
        mine = [row for row in rows if row.priority == priority]
        if mine:
            stored = [row.finished_at - row.received_at for row in mine]
            sent = [row.sent_at - row.received_at for row in mine if row.wanted and row.done == row.wanted]
            found.append(Turnaround(priority, len({row.study_id for row in mine}), _spread(stored), _spread(sent)))
    return found


def _spread(seconds: Sequence[float]) -> Spread:
    if not seconds:
        return Spread(None, None)
    ordered = sorted(max(s, 0.0) for s in seconds)
    return Spread(statistics.median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1])
