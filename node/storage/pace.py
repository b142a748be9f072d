"""How fast studies pass the verbs, and what has waited longest: counts of rows, for people who look at the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Row, Select, cast, func, select

from node.domain import DeliveryState, JobState, StudyState
from node.storage import schema
from node.storage.store import Store
from node.storage.trials import COUNTS, OURSELVES, tests

A = schema.association
D = schema.delivery
J = schema.job
R = schema.result
S = schema.study

HOUR, HOURS = 3600.0, 24


@dataclass(frozen=True)
class Pace:
    """What a verb finished in each of the last 24 hours, the newest last."""

    hours: tuple[int, ...]

    @property
    def hour(self) -> int:
        return self.hours[-1]

    @property
    def day(self) -> int:
        return sum(self.hours)


def paces(store: Store, *, give_up_hours: float, now: float) -> dict[str, Pace]:
    """What each verb finished, by its name. Results wait for their peer no longer than `give_up_hours`, and are looked
    for among the jobs of that time: an index knows when those ended, and the table of deliveries has none by time."""
    since = now - HOURS * HOUR
    counts = J.c.study_id.not_in(tests())
    lately = J.c.id.in_(select(J.c.id).where(J.c.finished_at >= since - give_up_hours * HOUR))
    sent = select(D.c.sent_at).join(R, R.c.id == D.c.result_id).join(J, J.c.id == R.c.job_id).where(counts)
    made = select(R.c.created_at).join(J, J.c.id == R.c.job_id).where(counts)
    times = {
        "receive": select(S.c.last_received_at).where(COUNTS, S.c.last_received_at >= since),
        # settled studies are among those that came lately: they settle within minutes
        "settle": select(S.c.settled_at).where(
            COUNTS, S.c.last_received_at >= since - HOURS * HOUR, S.c.settled_at >= since
        ),
        "route": select(J.c.created_at).where(counts, J.c.created_at >= since, J.c.id > _before(store, since)),
        "infer": select(J.c.finished_at).where(
            counts, J.c.finished_at >= since, J.c.state.in_((JobState.DONE, JobState.REFUSED))
        ),
        "report": made.where(J.c.finished_at >= since),
        "deliver": sent.where(lately, D.c.sent_at >= since),
    }
    with store.read() as connection:
        return {verb: _pace(connection.execute(_by_hour(query, now)).all()) for verb, query in times.items()}


def _before(store: Store, since: float) -> int:
    """A job that is older than this time, so that those before it need not be read: rows are made in order."""
    ended = J.c.finished_at < since
    with store.read() as connection:
        found = connection.execute(select(J.c.id).where(ended).order_by(J.c.finished_at.desc()).limit(1)).scalar()
    return int(found or 0)


def _by_hour(times: Select[Any], now: float) -> Any:
    """How many there are of each number of hours ago: a day may hold a hundred thousand."""
    (at,) = times.subquery().c
    ago = cast(func.floor((now - at) / HOUR), Integer).label("ago")
    return select(ago, func.count().label("n")).group_by("ago")


def _pace(rows: Sequence[Row[Any]]) -> Pace:
    found = Counter[int]()
    for row in rows:
        found[max(row.ago, 0)] += row.n
    return Pace(tuple(found[n] for n in range(HOURS - 1, -1, -1)))


def oldest(store: Store) -> dict[str, float]:
    """Since when the one that has waited longest waits, by verb; verbs for which nothing waits are left out."""
    queued, open_ = (JobState.QUEUED, JobState.LEASED), (DeliveryState.QUEUED, DeliveryState.LEASED)
    counts = J.c.study_id.not_in(tests())
    sends = select(func.min(D.c.created_at)).join(R, R.c.id == D.c.result_id).join(J, J.c.id == R.c.job_id)
    queries = {
        "receive": select(func.min(S.c.last_received_at)).where(COUNTS, S.c.state == StudyState.RECEIVING),
        "settle": select(func.min(S.c.last_received_at)).where(COUNTS, S.c.state == StudyState.HELD),
        "route": select(func.min(S.c.settled_at)).where(COUNTS, S.c.state == StudyState.SETTLED),
        "infer": select(func.min(J.c.created_at)).where(counts, J.c.state.in_(queued)),
        "deliver": sends.where(counts, D.c.state.in_(open_)),
    }
    with store.read() as connection:
        found = {verb: connection.execute(query).scalar() for verb, query in queries.items()}
    return {verb: at for verb, at in found.items() if at is not None}


def open_associations(store: Store) -> int:
    """Associations that carried something and have not ended."""
    with store.read() as connection:
        query = select(func.count()).select_from(A).where(A.c.ended_at.is_(None), A.c.peer != OURSELVES)
        return int(connection.execute(query).scalar_one())
