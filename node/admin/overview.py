"""The state of a node at a glance: roles, counts, alarms, the newest studies. Reads rows, changes nothing.

It is made for monitoring, so it holds no patient data: `overread show` and `overread held list` do.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from config.settings import Settings
from node.admin.reconcile import Account, reconcile, totals
from node.domain import InstanceState, Study, StudyState
from node.storage import commitments, deliveries, expected, instances, proofs, quarantine, roles, studies
from node.storage.spool import Spool
from node.storage.store import Store
from node.storage.turnaround import turnaround

NEWEST = 10
DAY = 86400.0
ALARMS = {
    "study.HELD": "studies are held: `overread held list`",
    "job.DEAD": "jobs were given up: `overread show STUDY` says why, `overread retry STUDY` tries again",
    "delivery.DEAD": "results were not delivered: `overread show STUDY` says why, `overread retry STUDY` tries again",
}


def overview(settings: Settings, store: Store, spool: Spool, *, now: float) -> dict[str, Any]:
    """Plain values, ready to print or to write as JSON; `well` is false when a person should look."""
    running = roles.status(settings.node.data_dir, roles.processes(settings.infer.device))
    counts = studies.counts(store)
    alarms = [f"{counts[key]} {text}" for key, text in ALARMS.items() if counts.get(key)]
    if n := quarantine.waiting(store):
        alarms.append(f"{n} results failed their self-check and were not sent: `overread show STUDY`")
    alarms += [f"the role {name} is not running" for name, said in running.items() if not said["running"]]
    alarms += _proof_alarms(settings, store, now)
    for peer, n, since in deliveries.failing(store):
        waited = f"{(now - since) / 60:.0f} minutes"
        alarms.append(f"{peer} has not taken {n} results for {waited}: `overread echo {peer}` says what to change")
    alarms += [
        f"{peer} cannot be asked how many instances {n} studies have: {why}" for peer, n, why in expected.failing(store)
    ]
    free = spool.free_bytes() // 1024**2
    if free < settings.listener.reserve_mb:
        alarms.append(f"{free} MB free is below listener.reserve_mb: associations are rejected")
    latest = [
        {
            "row": s.id,
            "log_id": s.log_id,
            "state": str(s.state),
            "revision": s.revision,
            "last_received_at": s.last_received_at,
            "seconds_ago": round(now - s.last_received_at, 1),
            "reason": _reason(store, s),
        }
        for s in studies.latest(store, NEWEST)
    ]
    if unproven := proofs.unproven(store):
        counts["delivery.unproven"] = unproven
        counts["delivery.SENT"] -= unproven
        counts = {key: n for key, n in counts.items() if n}
    grouped: dict[str, dict[str, int]] = {"study": {}, "job": {}, "delivery": {}}
    for key, n in sorted(counts.items()):
        noun, state = key.split(".")
        grouped[noun][state] = n
    turnarounds = {
        t.priority.name: asdict(t) | {"priority": t.priority.name} for t in turnaround(store, since=now - DAY)
    }
    return {
        "well": not alarms,
        "roles": running,
        "counts": grouped,
        "alarms": alarms,
        "turnaround": turnarounds,
        "latest": latest,
    }


def _proof_alarms(settings: Settings, store: Store, now: float) -> list[str]:
    """Peers that do not say whether they keep results, whom we could not tell, and studies without an account."""
    since = now - settings.retention.dead_days * DAY
    alarms = [
        f"{one.peer} has not proven {one.count} results for {(now - one.since) / 60:.0f} minutes: "
        f"{one.reason or 'has not reported on them'}"
        for one in proofs.overdue(store, since=since)
    ]
    alarms += [f"{peer} asked for commitment and could not be told: {why}" for peer, why in commitments.untold(store)]
    lines = reconcile(store, since=now - DAY, until=now + DAY, now=now)
    if unexplained := totals(lines).get(Account.UNEXPLAINED):
        alarms.append(f"{unexplained} settled studies are unexplained: `overread reconcile`")
    return alarms


def _reason(store: Store, study: Study) -> str:
    """Why a study is as it is; of a contradiction only in which attributes, as their values name the patient."""
    if study.state is not StudyState.HELD:
        return study.reason
    waiting = instances.of_study(store, study.id, InstanceState.CONFLICT)
    names = sorted({line.partition(":")[0] for instance in waiting for line in instance.differs})
    return f"contradiction: {', '.join(names)}"
