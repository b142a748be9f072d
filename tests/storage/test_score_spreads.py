from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from rows import NOW

from node.domain import FindingRow, JobState, Study
from node.storage import jobs, queue, scores
from node.storage.scores import BINS, WEEK
from node.storage.store import Store

BUNDLE = "cardiomegaly@1.0.0"


@pytest.fixture
def scored(store: Store, routed: Callable[..., Study]) -> Callable[..., None]:
    """A study whose image got these scores, some weeks ago; from 0.5 it is flagged."""

    def make(uid: str, found: Sequence[tuple[str, float | None]], *, weeks_ago: float = 0) -> None:
        at = NOW - weeks_ago * WEEK
        routed(uid, now=at)
        (work,) = queue.claim(store, "w", 8, now=at, lease=60)
        rows = [
            FindingRow(
                work.instances[0].id, "ANALYSED", "", label, score, "PRESENT" if (score or 0) >= 0.5 else "ABSENT"
            )
            for label, score in found
        ]
        assert jobs.finish(store, work.job, JobState.DONE, rows, [], reason="", now=at)

    return make


def test_scores_are_counted_by_label_place_and_week(store: Store, scored: Callable[..., None]) -> None:
    scored("1.1", [("Mass", 0.05), ("Nodule", 0.99)])
    scored("1.2", [("Mass", 0.07), ("Nodule", 1.0)], weeks_ago=1)
    scored("1.3", [("Mass", 0.6)], weeks_ago=6)
    mass, nodule = scores.spreads(store, BUNDLE, now=NOW)
    assert (mass.label, nodule.label) == ("Mass", "Nodule")
    assert mass.recent[1] == 2 and sum(mass.recent) == 2
    assert mass.before[12] == 1 and sum(mass.before) == 1
    # 1.0 belongs to the last part, not to one of its own
    assert nodule.recent[BINS - 1] == 2 and len(nodule.recent) == BINS
    assert mass.weeks[-1] == (2, 0) and mass.weeks[-6] == (1, 1)
    assert (mass.flagged(-4, None), mass.flagged(0, -4)) == (0.0, 1.0)
    assert nodule.flagged(0, -4) is None


def test_what_was_refused_older_or_of_another_bundle_is_not_counted(store: Store, scored: Callable[..., None]) -> None:
    scored("1.1", [("Mass", None)])
    scored("1.2", [("Mass", 0.9)], weeks_ago=13)
    assert scores.spreads(store, BUNDLE, now=NOW) == []
    assert scores.spreads(store, "another@1.0.0", now=NOW) == []
