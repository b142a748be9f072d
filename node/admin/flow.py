"""The node as a flow: each verb with what waits before it, since when, and what it finished lately. Changes nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from config.settings import Settings
from node.admin.overview import overview
from node.domain import DeliveryState, JobState, State, StudyState
from node.storage import pace
from node.storage.pace import Pace
from node.storage.spool import Spool
from node.storage.store import Store

SAYS = {
    "receive": "takes instances, and answers once they are safe",
    "settle": "decides that a study is complete",
    "route": "finds the models that apply",
    "infer": "reads the images",
    "report": "writes and checks the results",
    "deliver": "sends them, and asks for proof",
}
NOUNS = {"receive": "studies", "settle": "studies", "route": "jobs", "infer": "jobs", "report": "results"}
PEOPLE = ("HELD", "DEAD", "QUARANTINED")
"""What waits for a person."""


@dataclass(frozen=True)
class Count:
    """How many are in a state; `where` is the page that lists them."""

    state: str
    sentence: str
    n: int
    where: str

    @property
    def for_people(self) -> bool:
        return self.n > 0 and self.state in PEOPLE


@dataclass(frozen=True)
class Verb:
    """One of the six. `waiting` are not done with it; the oldest of them has waited for `age` seconds."""

    name: str
    says: str
    waiting: int
    age: float | None
    counts: tuple[Count, ...]
    pace: Pace
    noun: str


@dataclass(frozen=True)
class Disk:
    """Bytes of the disk that holds the spool; below `reserve` associations are rejected."""

    total: int
    free: int
    reserve: int

    @property
    def low(self) -> bool:
        return self.free < self.reserve


@dataclass(frozen=True)
class Flow:
    verbs: tuple[Verb, ...]
    disk: Disk
    associations: int
    seen: dict[str, Any]
    """What `overview` says: roles, alarms, how long studies took, the newest."""


def flow(settings: Settings, store: Store, spool: Spool, *, now: float) -> Flow:
    seen = overview(settings, store, spool, now=now)
    paces = pace.paces(store, give_up_hours=settings.deliver.give_up_hours, now=now)
    since = pace.oldest(store)
    counts = _counts(seen["counts"], seen["unsound"])
    used = shutil.disk_usage(spool.root)
    verbs = [
        Verb(
            name,
            says,
            sum(c.n for c in counts[name] if c.state in WAITING[name]),
            now - since[name] if name in since else None,
            counts[name],
            paces[name],
            NOUNS.get(name, "results"),
        )
        for name, says in SAYS.items()
    ]
    reserve = settings.listener.reserve_mb * 1024**2
    return Flow(tuple(verbs), Disk(used.total, used.free, reserve), pace.open_associations(store), seen)


WAITING = {
    "receive": ("RECEIVING",),
    "settle": ("HELD",),
    "route": ("SETTLED",),
    "infer": ("QUEUED", "LEASED"),
    "report": ("QUARANTINED",),
    "deliver": ("QUEUED", "LEASED"),
}


def _counts(found: dict[str, dict[str, int]], unsound: int) -> dict[str, tuple[Count, ...]]:
    """Which states stand beside which verb."""

    def of(noun: str, where: str, *states: State) -> tuple[Count, ...]:
        return tuple(Count(str(s), s.sentence, found[noun].get(s, 0), where.format(s)) for s in states)

    sends = "/deliveries?state={}"
    unproven = found["delivery"].get("unproven", 0)
    quarantined = Count(
        "QUARANTINED", "Failed its self-check; kept aside and not sent.", unsound, "/deliveries#unsound"
    )
    sent = Count("SENT", DeliveryState.SENT.sentence, found["delivery"].get("SENT", 0) + unproven, sends.format("SENT"))
    settled = of("study", "/studies?state={}", StudyState.SETTLED)
    return {
        "receive": of("study", "/studies?state={}", StudyState.RECEIVING),
        "settle": of("study", "/held", StudyState.HELD),
        "route": settled + of("study", "/studies?state={}", StudyState.ROUTED, StudyState.UNROUTED),
        "infer": of("job", "/studies", JobState.QUEUED, JobState.LEASED) + of("job", "/deliveries#jobs", JobState.DEAD),
        "report": (*of("job", "/studies", JobState.DONE, JobState.REFUSED), quarantined),
        "deliver": (
            *of("delivery", sends, DeliveryState.QUEUED, DeliveryState.LEASED),
            sent,
            *of("delivery", sends, DeliveryState.COMMITTED, DeliveryState.OMITTED, DeliveryState.DEAD),
        ),
    }
