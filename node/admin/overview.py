"""The state of a node at a glance: roles, counts, alarms, the newest studies. Reads rows, changes nothing.

It is made for monitoring, so it holds no patient data: `overread show` and `overread held list` do.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from config.settings import Settings
from node.admin import alarms, hosts
from node.domain import InstanceState, Study, StudyState
from node.storage import instances, proofs, quarantine, roles, studies
from node.storage.spool import Spool
from node.storage.store import Store
from node.storage.turnaround import turnaround

NEWEST = 10
DAY = 86400.0


def overview(settings: Settings, store: Store, spool: Spool, *, now: float, not_valid: str = "") -> dict[str, Any]:
    """Plain values, ready to print or to write as JSON; `well` is false when a person should look.

    `not_valid` is what is wrong with the settings file, where these are the settings of the node that runs.
    """
    running = roles.expected(settings.node.data_dir, settings.infer.device, shared=settings.is_shared)
    counts = studies.counts(store)
    standing = alarms.found(settings, store, spool, counts, now=now, not_valid=not_valid)
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
        "well": not standing,
        "roles": running,
        "hosts": hosts.table(store),
        "counts": grouped,
        "unsound": quarantine.waiting(store),
        "alarms": [alarm.sentence for alarm in standing],
        "turnaround": turnarounds,
        "latest": latest,
    }


def _reason(store: Store, study: Study) -> str:
    """Why a study is as it is; of a contradiction only in which attributes, as their values name the patient."""
    if study.state is not StudyState.HELD:
        return study.reason
    waiting = instances.of_study(store, study.id, InstanceState.CONFLICT)
    names = sorted({line.partition(":")[0] for instance in waiting for line in instance.differs})
    return f"contradiction: {', '.join(names)}"
