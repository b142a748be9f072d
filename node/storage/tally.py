"""What happened so far, counted once and kept: the dispatch role adds what is new, whoever asks only reads.

A count is a function of the rows, so it goes on where it was after any process died; after the database was lost it
begins anew, as a counter may. Labels are words of the settings, of bundles and of this program: never a patient's.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, insert, select, update

from node.domain import DeliveryState, Priority
from node.storage import canaries, schema, trace
from node.storage.store import Store
from node.storage.trials import OURSELVES
from node.storage.turnaround import SENT, last_received

D = schema.delivery
F = schema.finding
J = schema.job
R = schema.result
S = schema.study
T = schema.tally

LINES = 200
"""Events in one transaction: whoever waits to write does not wait long."""
SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Upper ends of the classes of times."""
SCORES = tuple(n / 10 for n in range(1, 11))
"""Upper ends of the classes of scores."""

Labels = tuple[tuple[str, str], ...]
Add = Callable[..., None]


@dataclass(frozen=True)
class Count:
    """How often something happened, and the sum of its values, where it has any."""

    name: str
    labels: dict[str, str]
    n: int
    total: float


@dataclass(frozen=True)
class Histogram:
    """Counts below each upper end, cumulated; the last one is infinite and counts all."""

    name: str
    labels: dict[str, str]
    buckets: tuple[tuple[float, int], ...]
    total: float


def advance(store: Store) -> int:
    """Count what is new.

    Returns:
        The number of events that were looked at.
    """
    seen = 0
    while True:
        with store.write() as connection:
            lines = trace.after(connection, trace.cursor(connection, "tally"), LINES)
            if lines:
                _add(connection, lines)
                trace.move(connection, "tally", lines[-1].id)
        seen += len(lines)
        if not lines:
            return seen


def _add(connection: Connection, lines: Sequence[trace.Line]) -> None:
    found: dict[tuple[str, Labels], list[float]] = defaultdict(lambda: [0, 0.0])

    def add(name: str, value: float = 0.0, n: int = 1, **labels: str) -> None:
        if not n:
            return
        entry = found[name, tuple(sorted(labels.items()))]
        entry[0] += n
        entry[1] += value

    # Tests of the node's own, canaries among them
    of_ours = select(S.c.id).where(S.c.id.in_({line.study_id for line in lines}), S.c.peer == OURSELVES)
    tests = set(connection.execute(of_ours).scalars())
    steps: dict[str, set[trace.Place]] = defaultdict(set)
    for line in lines:
        if line.study_id not in tests:
            steps[line.event.verb].add(line.place)
    add("settled", n=len(steps["settle"]))
    _jobs(connection, steps["report"] | steps["infer"], add)
    _deliveries(connection, steps["deliver"], add)
    for (name, labels), (n, total) in found.items():
        key = {"name": name, "labels": json.dumps(dict(labels), sort_keys=True)}
        more = update(T).filter_by(**key).values(n=T.c.n + n, total=T.c.total + total)
        if not connection.execute(more).rowcount:
            connection.execute(insert(T).values(n=n, total=total, **key))


def _jobs(connection: Connection, places: Set[trace.Place], add: Add) -> None:
    """Jobs that ended in these studies at these times, and what they found."""
    query = select(J, last_received().label("received_at")).where(J.c.study_id.in_({study for study, _ in places}))
    rows = connection.execute(query) if places else ()
    ended = {row.id: row for row in rows if (row.study_id, row.finished_at) in places}
    for row in ended.values():
        add("jobs", bundle=row.bundle, state=row.state)
        priority = Priority(row.priority).name
        if row.received_at is not None:
            _seconds(add, "settle", priority, row.created_at - row.received_at)
        _seconds(add, "infer", priority, row.finished_at - row.created_at)
    rows = connection.execute(select(F).where(F.c.job_id.in_(ended)).order_by(F.c.job_id, F.c.instance_id, F.c.frame))
    for (job_id, _, _), said in groupby(rows, key=lambda r: (r.job_id, r.instance_id, r.frame)):
        _image(add, ended[job_id].bundle, list(said))


def _image(add: Add, bundle: str, said: Sequence[Any]) -> None:
    add("images", bundle=bundle, status=said[0].status, reason=said[0].code)
    for row in said:
        if row.label and row.score is not None:
            add("findings", bundle=bundle, label=row.label, presence=row.presence)
            add("scores", row.score, bundle=bundle, label=row.label, le=_class(row.score, SCORES))


def _deliveries(connection: Connection, places: Set[trace.Place], add: Add) -> None:
    """Deliveries of these studies that were sent or proven at these times."""
    query = select(D, J.c.study_id, J.c.finished_at).join(R, R.c.id == D.c.result_id).join(J, J.c.id == R.c.job_id)
    query = query.where(J.c.study_id.in_({study for study, _ in places}), D.c.peer != canaries.PEER)
    for row in connection.execute(query) if places else ():
        priority = Priority(row.priority).name
        if row.state in SENT and (row.study_id, row.sent_at) in places:
            add("sent", peer=row.peer)
            if row.created_at == row.finished_at:  # that of an adopted result is younger
                _seconds(add, "deliver", priority, row.sent_at - row.created_at)
        if row.state == DeliveryState.COMMITTED and (row.study_id, row.proven_at) in places:
            add("proven", peer=row.peer)
            _seconds(add, "prove", priority, row.proven_at - (row.sent_at or row.proven_at))


def _seconds(add: Add, step: str, priority: str, seconds: float) -> None:
    took = max(seconds, 0.0)
    add("seconds", took, step=step, priority=priority, le=_class(took, SECONDS))


def _class(value: float, ends: Sequence[float]) -> str:
    return next((f"{end:g}" for end in ends if value <= end), "+Inf")


def counts(store: Store) -> list[Count]:
    """Everything that was counted, by name and labels."""
    with store.read() as connection:
        rows = connection.execute(select(T).order_by(T.c.name, T.c.labels)).all()
    return [Count(row.name, json.loads(row.labels), row.n, row.total) for row in rows]


def histograms(found: Iterable[Count], ends: Sequence[float]) -> Iterator[Histogram]:
    """Counts by class put together, those of one histogram each."""
    groups: dict[tuple[str, Labels], dict[str, Count]] = defaultdict(dict)
    for one in found:
        rest = tuple(sorted((key, value) for key, value in one.labels.items() if key != "le"))
        groups[one.name, rest][one.labels["le"]] = one
    for (name, labels), classes in groups.items():
        buckets, n = [], 0
        for end in (*ends, math.inf):
            n += classes[key].n if (key := "+Inf" if end == math.inf else f"{end:g}") in classes else 0
            buckets.append((end, n))
        yield Histogram(name, dict(labels), tuple(buckets), sum(c.total for c in classes.values()))


def behind(store: Store) -> int:
    """How many events are not counted yet."""
    with store.read() as connection:
        return max(trace.last(connection) - trace.cursor(connection, "tally"), 0)
