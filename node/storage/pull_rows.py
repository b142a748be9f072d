"""What a pull and its studies are as records, and how rows become them. `pulls` works with the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from node.domain import Pulled, State, StudyState
from node.storage import schema

L = schema.pull

KNOWN = [column for column in L.c if column.name != "wanted"]
"""All columns but what an earlier version kept here: what a pull asks for."""


class PullState(State):
    OPEN = "OPEN", "Studies are still to be brought; `overread pull --resume` goes on."
    STOPPED = "STOPPED", "A person stopped it; `overread pull --resume` goes on."
    DONE = "DONE", "Every study was brought, or given up."


class PullStudyState(State):
    QUEUED = "QUEUED", "Waits to be brought."
    LEASED = "LEASED", "Is being brought."
    DONE = "DONE", "Is here."
    DEAD = "DEAD", "Given up; the reason is kept and `overread pull --resume` tries again."


@dataclass(frozen=True)
class Pull:
    """What is known of a pull but what it asks for: `pulls.wanted` tells that."""

    id: int
    peer: str
    rules: Mapping[str, Any]
    state: PullState
    reason: str
    missing: tuple[str, ...] | None
    """Accession numbers and UIDs that were asked for and that the peer does not have; None: it was not asked yet."""
    asked: int | None
    """How many of its questions were put to the peer; None: all of them."""
    pulled: Pulled
    created_at: float
    ended_at: float | None


@dataclass(frozen=True)
class Spent:
    """What was received of a study, and how long that took."""

    size: int = 0
    seconds: float = 0.0


NOTHING = Spent()


@dataclass(frozen=True)
class PullStudy:
    """One study of a pull; `expected` instances as the peer told, None where it did not. `size` and `seconds` are of
    all tries together."""

    id: int
    pull_id: int
    study_instance_uid: str
    expected: int | None
    taken: int
    state: PullStudyState
    attempts: int
    due_at: float
    reason: str
    size: int = 0
    seconds: float = 0.0
    ended_at: float | None = None


@dataclass(frozen=True)
class Here:
    """What is here of a study: instances by UID, also those that were purged since, and their bytes."""

    study_id: int | None = None
    state: StudyState | None = None
    instances: int = 0
    size: int = 0
    is_pulled: bool = False


def to_pull(row: Row[Any]) -> Pull:
    return Pull(
        id=row.id,
        peer=row.peer,
        rules=row.rules,
        state=PullState(row.state),
        reason=row.reason,
        missing=None if row.missing is None else tuple(row.missing),
        asked=row.asked,
        pulled=Pulled(row.id, row.route, row.mode),
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def to_study(row: Row[Any]) -> PullStudy:
    return PullStudy(
        id=row.id,
        pull_id=row.pull_id,
        study_instance_uid=row.study_instance_uid,
        expected=row.expected,
        taken=row.taken,
        state=PullStudyState(row.state),
        attempts=row.attempts,
        due_at=row.due_at,
        reason=row.reason,
        size=row.size,
        seconds=row.seconds,
        ended_at=row.ended_at,
    )
