"""What was read of every study, as rows to take along: studies, their jobs, and what each job found.

Rows are streamed: some studies at a time, each lot in a transaction of its own, and of findings one job's at a time,
so that memory does not grow with the database. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from node.domain import FindingRow, Job, Study
from node.storage import pulls, schema
from node.storage.rows import to_job, to_study
from node.storage.store import Store
from node.storage.trials import COUNTS

F = schema.finding
I = schema.instance  # noqa: E741
J = schema.job
R = schema.result
S = schema.study
W = schema.route_reason

LOT = 200
"""Studies in one transaction."""


@dataclass(frozen=True)
class Looked:
    """What was remembered of one label of one image, or of an image without any."""

    sop_instance_uid: str
    row: FindingRow


@dataclass(frozen=True)
class Read:
    """One job with all that it said. `live`: its results go somewhere. `stopped`: it never will say anything, as a
    person took it back or something newer took its place. `withdrawn`: what it said was taken back."""

    job: Job
    live: bool
    stopped: bool
    withdrawn: bool
    looked: tuple[Looked, ...]


@dataclass(frozen=True)
class Account:
    """One study, with one of its jobs or, where `read` is None, with none; `reason` is then why that route has none."""

    study: Study
    patient: str
    """The same for all studies of one patient, and of no use without this node's key; empty where none is known."""
    study_date: str
    read: Read | None
    route: str = ""
    reason: str = ""


def routes(store: Store) -> set[str]:
    """Every route that a study was ever asked about or read by."""
    with store.read() as connection:
        found = [connection.execute(select(table.c.route).distinct()).scalars().all() for table in (J, W)]
    return {name for names in found for name in names}


def accounts(
    store: Store,
    *,
    since: float,
    until: float,
    route: str = "",
    bundle: str = "",
    all_revisions: bool = False,
    pull: int | None = None,
) -> Iterator[Account]:
    """Every study whose last image was received in this time, by row: once for each of its jobs that counts.

    With `pull` only what that pull asked for, also where it was here before.

    What counts is the last revision of a route and series, unless all are asked for. A study without such a job comes
    once, unless one bundle is asked for.
    """
    last = 0
    of_pull = [] if pull is None else [pulls.asked_for(pull)]
    # no index by time: all studies would be sorted anew for each lot, which follows the one before by row
    at = S.c.last_received_at + 0.0
    while True:
        with store.read() as connection:
            within = (COUNTS, at >= since, at < until, *of_pull)
            lot = select(S).where(S.c.id > last, *within)
            studies = connection.execute(lot.order_by(S.c.id).limit(LOT)).all()
            if not studies:
                return
            yield from _of_lot(store, connection, studies, route, bundle, all_revisions)
        last = studies[-1].id


def _of_lot(
    store: Store, connection: Connection, studies: Sequence[Row[Any]], route: str, bundle: str, all_revisions: bool
) -> Iterator[Account]:
    ids = [row.id for row in studies]
    dates, taken_back = _dates(connection, ids), _withdrawn(connection, ids)
    reasons = _reasons(connection, ids, route) if route else {}
    by_study = _jobs(connection, ids, route, bundle, all_revisions=all_revisions)
    wanted = sorted(row.id for rows in by_study.values() for row in rows)
    found = select(F, I.c.sop_instance_uid).join(I, I.c.id == F.c.instance_id).where(F.c.job_id.in_(wanted))
    # In the order of the studies, which is not that of the jobs where a study was read again later
    found = found.join(J, J.c.id == F.c.job_id).order_by(J.c.study_id, F.c.job_id, F.c.id)
    findings = groupby(connection.execution_options(yield_per=1000).execute(found), key=lambda r: r.job_id)
    waiting = next(findings, None)
    for row in studies:
        study = to_study(row)
        patient = store.pseudonym(row.patient_key) if row.patient_key.strip("\x1f") else ""
        common = (study, patient, dates.get(row.id, ""))
        for job in by_study.get(row.id, ()):
            looked: tuple[Looked, ...] = ()
            if waiting is not None and waiting[0] == job.id:
                looked = tuple(Looked(one.sop_instance_uid, _finding(one)) for one in waiting[1])
                waiting = next(findings, None)
            read = Read(to_job(job), bool(job.deliver_to), not job.retryable, job.id in taken_back, looked)
            yield Account(*common, read, job.route)
        if row.id not in by_study and not bundle:
            yield Account(*common, None, route, reasons.get((row.id, row.revision), ""))


def _jobs(
    connection: Connection, ids: Sequence[int], route: str, bundle: str, *, all_revisions: bool
) -> dict[int, list[Row[Any]]]:
    """The jobs of each study that count, by row."""
    query = select(J).where(J.c.study_id.in_(ids))
    query = query.where(J.c.route == route) if route else query
    # What something newer took the place of before it said anything is nobody's concern
    query = query.where(or_(J.c.retryable, J.c.reason != "", J.c.id.in_(select(R.c.job_id))))
    newest: dict[tuple[Any, ...], Row[Any]] = {}
    for row in connection.execute(query.order_by(J.c.id)):
        key = (row.study_id, row.route, row.series_instance_uid, row.revision if all_revisions else 0)
        if key not in newest or newest[key].revision <= row.revision:
            newest[key] = row
    found: dict[int, list[Row[Any]]] = {}
    for row in sorted(newest.values(), key=lambda r: (r.study_id, r.id)):
        if bundle in ("", row.bundle):
            found.setdefault(row.study_id, []).append(row)
    return found


def _dates(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Study Date of each study, as its first image has it."""
    first = select(func.min(I.c.id)).where(I.c.study_id.in_(ids)).group_by(I.c.study_id)
    rows = connection.execute(select(I.c.study_id, I.c.identification).where(I.c.id.in_(first)))
    return {row.study_id: str(row.identification.get("StudyDate", "")) for row in rows}


def _withdrawn(connection: Connection, ids: Sequence[int]) -> set[int]:
    """The jobs whose results were taken back."""
    rows = select(R.c.job_id).join(J, J.c.id == R.c.job_id).where(J.c.study_id.in_(ids), R.c.withdrawn_at.isnot(None))
    return set(connection.execute(rows).scalars())


def _reasons(connection: Connection, ids: Sequence[int], route: str) -> dict[tuple[int, int], str]:
    """What a route said of each revision of each study that it did not take."""
    rows = connection.execute(select(W).where(W.c.study_id.in_(ids), W.c.route == route, W.c.matched == 0))
    return {(row.study_id, row.revision): row.reason for row in rows}


def _finding(row: Row[Any]) -> FindingRow:
    return FindingRow(row.instance_id, row.status, row.reason, row.label, row.score, row.presence, row.frame)
