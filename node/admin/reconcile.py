"""An account of a time: every study that settled in it, and exactly one thing that became of it.

Settled studies are proven results, or reasons. What is neither is UNEXPLAINED, and that is a fault of this node. It
reads rows, changes nothing, and holds no patient data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.domain import DeliveryState, JobState, State, Study, StudyState
from node.network.statuses import classify
from node.storage import ledger
from node.storage.ledger import DeliveryLine, JobLine
from node.storage.store import Store

ROUTING_SECONDS = 3600.0
"""A study that settled longer ago and has no route yet waits for nothing that we know."""


class Account(State):
    COMMITTED = "COMMITTED", "Every result is proven to be where it was to go."
    UNPROVEN = "UNPROVEN", "Every result was sent; not every peer has proven that it keeps it."
    REFUSED = "REFUSED", "No image could be analysed; the reports say why, and are proven to be kept."
    SHADOW = "SHADOW", "Analysed by routes in shadow mode; nothing is sent."
    UNROUTED = "UNROUTED", "No route matched."
    WAITING = "WAITING", "Something is still to arrive, to be analysed or to be sent."
    HELD = "HELD", "Instances contradict each other; a person must decide."
    DEAD = "DEAD", "Something was given up: `overread show STUDY` says what, `overread retry STUDY` tries again."
    WITHDRAWN = "WITHDRAWN", "Taken back before it was analysed: the version of its model was recalled."
    UNEXPLAINED = "UNEXPLAINED", "Neither a result nor a reason: a fault of this node."


@dataclass(frozen=True)
class Line:
    """One study's account; the reasons hold no patient data."""

    study_id: int
    log_id: str
    settled_at: float
    account: Account
    reasons: tuple[str, ...]


def reconcile(store: Store, *, since: float, until: float, now: float) -> list[Line]:
    """What became of each study that settled between two times."""
    return [_line(store, study, now) for study in ledger.settled(store, since=since, until=until)]


def totals(lines: Iterable[Line]) -> dict[Account, int]:
    """How many studies there are of each account that occurs, in their order."""
    counted = Counter(line.account for line in lines)
    return {account: counted[account] for account in Account if counted[account]}


def _line(store: Store, study: Study, now: float) -> Line:
    settled_at = study.settled_at or 0.0
    jobs, sends = ledger.jobs_of(store, study.id), ledger.deliveries_of(store, study.id)
    account, reasons = _of_study(study, now) or _of_recall(store, study, jobs) or _of_results(jobs, sends)
    if account in (Account.UNROUTED, Account.HELD, Account.DEAD, Account.REFUSED) and "" in reasons:
        account, reasons = Account.UNEXPLAINED, [f"{account} without a reason"]
    if account is Account.HELD:  # a contradiction names the patient
        reasons = ["`overread held list` says in what"]
    return Line(study.id, study.log_id, settled_at, account, tuple(dict.fromkeys(reasons)))


def _of_study(study: Study, now: float) -> tuple[Account, list[str]] | None:
    """Where the study's own state says all."""
    match study.state:
        case StudyState.HELD:
            return Account.HELD, [study.reason]
        case StudyState.UNROUTED:
            return Account.UNROUTED, [study.reason]
        case StudyState.RECEIVING:
            return Account.WAITING, ["an instance arrived after it had settled"]
        case StudyState.SETTLED if now - (study.settled_at or now) > ROUTING_SECONDS:
            return Account.UNEXPLAINED, ["settled, and not routed"]
        case StudyState.SETTLED:
            return Account.WAITING, ["to be routed"]
    return None


def _of_recall(store: Store, study: Study, jobs: Sequence[JobLine]) -> tuple[Account, list[str]] | None:
    """Where no job counts, as a person took them back before they ended."""
    stopped = [] if jobs else ledger.stopped(store, study.id)
    return (Account.WITHDRAWN, [f"{route}: {reason}" for route, reason in stopped]) if stopped else None


def _of_results(jobs: Sequence[JobLine], sends: Sequence[DeliveryLine]) -> tuple[Account, list[str]]:
    """The worst that happened to a routed study's jobs and deliveries."""
    if gaps := _gaps(jobs):
        return Account.UNEXPLAINED, gaps
    dead = [f"{job.route}: {job.reason}" if job.reason else "" for job in jobs if job.state is JobState.DEAD]
    dead += [f"{job.route}: not sound, not sent: {job.quarantine}" for job in jobs if job.quarantine]
    dead += [f"{d.kind} to {d.peer}: {_reason(d)}" if d.reason else "" for d in sends if d.state is DeliveryState.DEAD]
    if dead:
        return Account.DEAD, dead
    waiting = [f"{job.route}: {job.state}" for job in jobs if job.state in (JobState.QUEUED, JobState.LEASED)]
    open_ones = (DeliveryState.QUEUED, DeliveryState.LEASED)
    waiting += [f"{d.kind} to {d.peer}: {_reason(d) or d.state}" for d in sends if d.state in open_ones]
    if waiting:
        return Account.WAITING, waiting
    if unproven := [_unproven(d) for d in sends if d.state is DeliveryState.SENT]:
        return Account.UNPROVEN, unproven
    if not any(job.live for job in jobs):
        return Account.SHADOW, [job.route for job in jobs]
    refused = [f"{job.route}: {job.reason}" if job.reason else "" for job in jobs if job.state is JobState.REFUSED]
    return (Account.REFUSED, refused) if len(refused) == len(jobs) else (Account.COMMITTED, refused)


def _reason(send: DeliveryLine) -> str:
    """Why it was not sent; without what the peer says of it in its own words, as they may quote the data set."""
    answered = classify(send.status).error if send.status is not None else ""
    return answered if answered and send.reason.startswith(f"{answered} (") else send.reason


def _gaps(jobs: Sequence[JobLine]) -> list[str]:
    """What ought to be there and is not."""
    if not jobs:
        return ["routed, and no job counts"]
    ended = [job for job in jobs if job.state in (JobState.DONE, JobState.REFUSED)]
    empty = [f"{job.route}: {job.state} without a result" for job in ended if not job.results]
    unsent = [job for job in ended if job.live and job.results and not job.deliveries and not job.quarantine]
    return empty + [f"{job.route}: its results go nowhere" for job in unsent]


def _unproven(send: DeliveryLine) -> str:
    what = f"{send.kind} to {send.peer}"
    if send.asked:
        return f"{what}: {send.proof or 'not yet'}"
    return f"{what}: {send.proof or 'nobody asks'}"
