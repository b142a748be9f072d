"""How much there is of everything just now, and how old the oldest of it is. Counted on indexes; changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from node.domain import DeliveryState, Gone, JobState, Priority, StudyState
from node.storage import canaries, queue, schema
from node.storage.store import Store
from node.storage.trials import COUNTS, tests

D = schema.delivery
I = schema.instance  # noqa: E741
J = schema.job
R = schema.result
S = schema.study

STUDIES_WAIT = (StudyState.RECEIVING, StudyState.SETTLED, StudyState.HELD)
JOBS_WAIT = (JobState.QUEUED, JobState.LEASED, JobState.DEAD)
DELIVERIES_WAIT = (DeliveryState.QUEUED, DeliveryState.LEASED, DeliveryState.SENT, DeliveryState.DEAD)


@dataclass(frozen=True)
class Heap:
    """What is in one state: how many, and since when the oldest of it is there, where it still waits for something."""

    state: str
    n: int
    oldest: float | None = None
    peer: str = ""
    failing_since: float | None = None


@dataclass(frozen=True)
class Figures:
    studies: tuple[Heap, ...]
    jobs: tuple[Heap, ...]
    deliveries: tuple[Heap, ...]
    last_received_at: float | None
    bytes: int
    """Of the database."""


def figures(store: Store) -> Figures:
    """One look at everything; tests are left out."""
    last = select(S.c.last_received_at).where(COUNTS).order_by(S.c.last_received_at.desc()).limit(1)
    with store.read() as connection:
        ours = list(connection.execute(tests()).scalars())
        return Figures(
            tuple(_studies(connection, ours)),
            tuple(_jobs(connection, ours)),
            tuple(_deliveries(connection, ours)),
            connection.execute(last).scalar(),
            store.database.size(connection),
        )


def _studies(connection: Connection, ours: list[int]) -> list[Heap]:
    query = select(S.c.state, func.count().label("n"), func.min(S.c.last_received_at).label("oldest"))
    query = query.where(S.c.id.not_in(ours)) if ours else query
    rows = connection.execute(query.group_by(S.c.state))
    return [Heap(row.state, row.n, row.oldest if row.state in STUDIES_WAIT else None) for row in rows]


def _jobs(connection: Connection, ours: list[int]) -> list[Heap]:
    """What was stopped for good is no work and nobody's worry: it is left out."""
    counted = case((J.c.retryable, J.c.id))
    query = select(J.c.state, func.count(counted).label("n"), func.min(counted).label("first")).group_by(J.c.state)
    mine: Mapping[str, int] = {}
    if ours:
        of_tests = select(J.c.state, func.count().label("n")).where(J.c.study_id.in_(ours)).group_by(J.c.state)
        mine = {row.state: row.n for row in connection.execute(of_tests)}
    heaps = []
    for row in connection.execute(query).all():
        n = row.n - mine.get(row.state, 0)
        if row.n and not n:
            continue
        waits = row.state in JOBS_WAIT and n
        heaps.append(Heap(row.state, n, _made(connection, J, row.first) if waits else None))
    return heaps


def _deliveries(connection: Connection, ours: list[int]) -> list[Heap]:
    counted = case((D.c.retryable, D.c.id))
    query: Any = select(
        D.c.state,
        D.c.peer,
        func.count(counted).label("n"),
        func.min(counted).label("first"),
        func.min(D.c.failing_since).label("failing_since"),
    )
    mine: Mapping[tuple[str, str], int] = {}
    if ours:
        results = select(R.c.id).join(J, J.c.id == R.c.job_id).where(J.c.study_id.in_(ours))
        of_tests = select(D.c.state, D.c.peer, func.count(counted).label("n")).where(D.c.result_id.in_(results))
        rows = connection.execute(of_tests.group_by(D.c.state, D.c.peer))
        mine = {(row.state, row.peer): row.n for row in rows}
    heaps = []
    for row in connection.execute(query.where(D.c.peer != canaries.PEER).group_by(D.c.state, D.c.peer)).all():
        n = row.n - mine.get((row.state, row.peer), 0)
        if row.n and not n:
            continue
        waits = row.state in DELIVERIES_WAIT and n
        fails = row.failing_since if row.state in (DeliveryState.QUEUED, DeliveryState.LEASED) else None
        oldest = _made(connection, D, row.first) if waits else None
        heaps.append(Heap(row.state, n, oldest, row.peer, fails))
    return heaps


def _made(connection: Connection, table: Any, row: int) -> float | None:
    """When a row was made: keys are given out in order, so the lowest is the oldest."""
    return connection.execute(select(table.c.created_at).where(table.c.id == row)).scalar()


def ages(store: Store, *, now: float) -> dict[Priority, float]:
    """Of each class of urgency, how many seconds the job has waited that is due longest; 0.0 where none is due."""
    with store.read() as connection:
        firsts = {urgency: queue.first_due(connection, urgency, now) for urgency in Priority}
    return {urgency: max(0.0, now - due) if due is not None else 0.0 for urgency, due in firsts.items()}


def spool_bytes(store: Store) -> int:
    """How many bytes of received images are kept; reads every row."""
    with store.read() as connection:
        return int(connection.execute(select(func.sum(I.c.size)).where(I.c.gone == Gone.KEPT)).scalar() or 0)
