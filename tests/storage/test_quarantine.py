from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from rows import NOW, built

from config.settings import Retention
from node.domain import JobState, Study
from node.storage import deliveries, events, invariants, jobs, quarantine, queue, upkeep
from node.storage.spool import Spool
from node.storage.store import Store

DAY = 86400.0
WRONG = "PatientID is not the source's"


@pytest.fixture
def spool(store: Store) -> Spool:
    made = Spool(store.spool_root)
    made.open()
    return made


@pytest.fixture
def aside(store: Store, spool: Spool, routed: Callable[..., Study]) -> Path:
    """One study with a sound report and a picture that failed its self-check; the picture's file."""
    routed("1.1")
    (work,) = queue.claim(store, "w", 8, now=NOW, lease=60)
    path = spool.quarantine_path("2.25.2")
    for data, final in ((b"x", path), (WRONG.encode(), path.with_suffix(".txt")), (b"x", store.spool_root / "r.dcm")):
        spool.write("t", data, final)
    picture = dataclasses.replace(built(store, "2.25.2", "sc"), path=path, quarantine=WRONG)
    jobs.finish(store, work.job, JobState.DONE, [], [picture, built(store, "2.25.1")], reason="", now=NOW)
    return path


def of(problems: list[str], *numbers: str) -> list[str]:
    return [line for line in problems if line.startswith(numbers)]


def test_what_was_put_aside_is_sent_nowhere_and_the_story_says_why(store: Store, aside: Path) -> None:
    study_id = 1
    assert [(r.kind, r.quarantine) for r in jobs.results(store, study_id)] == [("sc", WRONG), ("sr", "")]
    assert [d.kind for d in deliveries.of_study(store, study_id)] == ["sr"]
    told = [e.text for e in events.of_study(store, study_id)]
    assert f"chest: sc failed its self-check and is not sent: {WRONG}" in told


def test_it_counts_until_a_new_revision_has_results_of_its_own(
    store: Store, aside: Path, routed: Callable[..., Study]
) -> None:
    assert quarantine.waiting(store) == 1
    with store.write() as connection:
        from node.storage import schema

        connection.execute(schema.study.update().values(revision=2))
    assert quarantine.waiting(store) == 0


def test_the_invariants_hold_with_something_put_aside(store: Store, spool: Spool, aside: Path) -> None:
    assert of(invariants.verify(store, spool, NOW, deep=False), "I2: result", "I3", "I6") == []
    aside.unlink()
    assert of(invariants.verify(store, spool, NOW, deep=False), "I2: result") == [
        f"I2: result 1 of study 1 has no file {spool.relative(aside)}"
    ]


def test_a_delivery_of_what_was_put_aside_violates_an_invariant(store: Store, spool: Spool, aside: Path) -> None:
    with store.write() as connection:
        from node.storage import schema

        connection.execute(
            schema.delivery.insert().values(result_id=1, peer="pacs", state="QUEUED", due_at=NOW, created_at=NOW)
        )
    assert of(invariants.verify(store, spool, NOW, deep=False), "I6") == [
        "I6: result 1 of job 1: 1 deliveries, 0 destinations"
    ]


def test_a_file_put_aside_without_a_row_is_a_stray(store: Store, spool: Spool, aside: Path) -> None:
    stray = spool.quarantine_path("2.25.3")
    spool.write("t", b"x", stray)
    later = stray.stat().st_mtime + 100
    assert of(invariants.verify(store, spool, later, deep=False), "I3") == [
        f"I3: the file {spool.relative(stray)} has no row (its job was given up)"
    ]


def test_it_is_purged_with_its_reasons_as_results_are(store: Store, spool: Spool, aside: Path) -> None:
    (delivery,) = deliveries.claim(store, "pacs", 8, now=NOW, lease=60)
    deliveries.sent(store, delivery, status=0, note="", now=NOW)
    gone = [(p.kind, p.reason) for p in upkeep.purge(store, Retention(), NOW + 366 * DAY)]
    assert ("result", "quarantined, older than 365 days") in gone
    assert not aside.exists() and not aside.with_suffix(".txt").exists()
    assert quarantine.waiting(store) == 0
