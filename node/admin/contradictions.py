"""Held studies, with what was known and what came side by side. Changes nothing; what it shows names patients."""

from __future__ import annotations

from dataclasses import dataclass

from node.domain import Instance, InstanceState, Study, StudyState
from node.storage import instances, studies
from node.storage.store import Store


@dataclass(frozen=True)
class Difference:
    """One identifying attribute; "" where a data set does not have it."""

    attribute: str
    was: str
    came: str

    @property
    def differs(self) -> bool:
        return self.was != self.came


@dataclass(frozen=True)
class Contradiction:
    """One instance that contradicts its study, and what it is held against: its twin, or another of the study."""

    instance: Instance
    against: Instance | None
    differences: tuple[Difference, ...]
    sentences: tuple[str, ...]
    """What no attribute says: other pixels, a study of another patient."""


@dataclass(frozen=True)
class Held:
    study: Study
    contradictions: tuple[Contradiction, ...]


def contradictions(store: Store) -> list[Held]:
    """All held studies, the one that has waited longest first."""
    return [Held(study, _of(store, study)) for study in studies.in_state(store, StudyState.HELD)]


def _of(store: Store, study: Study) -> tuple[Contradiction, ...]:
    members = instances.of_study(store, study.id, InstanceState.CURRENT)
    waiting = instances.of_study(store, study.id, InstanceState.CONFLICT)
    return tuple(_contradiction(store, instance, members) for instance in waiting)


def _contradiction(store: Store, instance: Instance, members: list[Instance]) -> Contradiction:
    against = next(iter(instances.twins(store, instance)), None) or next(iter(members), None)
    came = instances.identification(store, instance)
    was = instances.identification(store, against) if against else {}
    shown = [Difference(key, was.get(key, ""), came.get(key, "")) for key in sorted({*was, *came})]
    attributes = {one.attribute for one in shown if one.differs}
    rest = tuple(line for line in instance.differs if line.partition(":")[0] not in attributes)
    return Contradiction(instance, against, tuple(shown), rest)
