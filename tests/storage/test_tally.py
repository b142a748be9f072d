"""What happened is counted once, whenever and however often anybody counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from rows import NOW, built, received

from node.domain import FindingRow, JobState, Study
from node.storage import canaries, deliveries, instances, jobs, queue, studies, tally, trace
from node.storage.store import Store


def finish(store: Store, *rows: FindingRow, now: float) -> None:
    (work,) = queue.claim(store, "w", 1, now=now, lease=60)
    found = [FindingRow(**(vars(row) | {"instance_id": work.instances[0].id})) for row in rows]
    state = JobState.DONE if any(row.label for row in rows) else JobState.REFUSED
    results = [built(store, f"2.25.{work.job.id}")]
    assert jobs.finish(store, work.job, state, found, results, reason="", now=now)


def send(store: Store, now: float) -> None:
    for delivery in deliveries.claim(store, "pacs", 10, now=now, lease=60):
        deliveries.sent(store, delivery, status=0, note="", now=now)


def counted(store: Store, name: str) -> dict[tuple[str, ...], int]:
    return {tuple(c.labels[k] for k in sorted(c.labels)): c.n for c in tally.counts(store) if c.name == name}


FOUND = FindingRow(0, "analysed", "", "Effusion", 0.83, "PRESENT")
LOW = FindingRow(0, "analysed", "", "Mass", 0.1, "ABSENT")
REFUSED = FindingRow(0, "refused", "The gate says chest 3 %", code="gate")


def test_jobs_findings_and_refusals_are_counted_by_words_that_are_few(
    store: Store, routed: Callable[..., Study]
) -> None:
    routed("1.2.1")
    finish(store, FOUND, LOW, now=NOW + 5)
    routed("1.2.2")
    finish(store, REFUSED, now=NOW + 6)
    tally.advance(store)
    bundle = "cardiomegaly@1.0.0"
    assert counted(store, "jobs") == {(bundle, "DONE"): 1, (bundle, "REFUSED"): 1}
    assert counted(store, "images") == {(bundle, "", "analysed"): 1, (bundle, "gate", "refused"): 1}
    assert counted(store, "findings") == {(bundle, "Effusion", "PRESENT"): 1, (bundle, "Mass", "ABSENT"): 1}
    assert counted(store, "settled") == {(): 2}


def test_counting_again_counts_nothing_twice(store: Store, routed: Callable[..., Study]) -> None:
    routed("1.2.1")
    finish(store, FOUND, now=NOW + 5)
    tally.advance(store)
    before = tally.counts(store)
    assert tally.advance(store) == 0
    assert tally.counts(store) == before
    send(store, NOW + 9)
    tally.advance(store)
    assert counted(store, "sent") == {("pacs",): 1}
    assert tally.behind(store) == 0


def test_seconds_of_each_step_are_classed_by_urgency(store: Store, routed: Callable[..., Study]) -> None:
    routed("1.2.1", now=NOW + 2)
    finish(store, FOUND, now=NOW + 7)
    send(store, NOW + 27)
    tally.advance(store)
    found = tally.histograms([c for c in tally.counts(store) if c.name == "seconds"], tally.SECONDS)
    steps = {one.labels["step"]: one for one in found}
    assert {one.labels["priority"] for one in steps.values()} == {"ROUTINE"}
    assert {step: one.total for step, one in steps.items()} == {"settle": 2, "infer": 5, "deliver": 20}
    infer = dict(steps["infer"].buckets)
    assert (infer[3.0], infer[10.0], infer[math.inf]) == (0, 1, 1)


def test_events_of_one_step_are_not_parted(
    store: Store, routed: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "LINES", 2)
    for n in range(5):
        routed(f"1.2.{n}", now=NOW + n)
        finish(store, FOUND, now=NOW + 50 + n)
    tally.advance(store)
    assert sum(counted(store, "jobs").values()) == 5


def test_a_canary_is_counted_nowhere(store: Store, routed: Callable[..., Study]) -> None:
    routed("1.2.1")
    finish(store, FOUND, now=NOW + 5)
    ran = canaries.begin(store, bundle="b@1", route="chest", study_instance_uid="1.2.9", now=NOW)
    canary = routed("1.2.9", now=NOW + 1)
    finish(store, FOUND, now=NOW + 6)
    tally.advance(store)
    assert sum(counted(store, "jobs").values()) == 1
    counts = studies.counts(store)
    assert (counts["study.ROUTED"], counts["job.DONE"], counts["delivery.QUEUED"]) == (1, 1, 1)
    assert [s.study_instance_uid for s in studies.latest(store, 10)] == ["1.2.1"]
    assert canaries.of_study(store, canary) is not None
    canaries.end(store, ran, ok=True, reason="", seconds={}, now=NOW + 9)
    assert canaries.unfinished(store) == []
    with pytest.raises(Exception, match="No row was found"):
        studies.by_id(store, canary.id)


def test_what_comes_after_a_canary_was_forgotten_is_counted(store: Store, routed: Callable[..., Study]) -> None:
    """Its rows' numbers are given out again; whoever follows events must not take the new ones for seen."""
    ran = canaries.begin(store, bundle="b@1", route="chest", study_instance_uid="1.2.9", now=NOW)
    routed("1.2.9")
    finish(store, FOUND, now=NOW + 6)
    tally.advance(store)
    with store.read() as connection:
        before = trace.last(connection)
    canaries.end(store, ran, ok=True, reason="", seconds={}, now=NOW + 9)
    routed("1.2.1", now=NOW + 20)
    with store.read() as connection:
        assert trace.last(connection) <= before
    finish(store, FOUND, now=NOW + 26)
    tally.advance(store)
    assert sum(counted(store, "jobs").values()) == 1


def test_forgetting_a_canary_deletes_its_files_and_nobody_elses(store: Store, routed: Callable[..., Study]) -> None:
    ran = canaries.begin(store, bundle="b@1", route="chest", study_instance_uid="1.2.9", now=NOW)
    routed("1.2.9")
    routed("1.2.1")
    paths: dict[str, Any] = {}
    for uid in ("1.2.9", "1.2.1"):
        path = paths[uid] = received(store, uid).path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    finish(store, FOUND, now=NOW + 5)
    canaries.end(store, ran, ok=False, reason="late", seconds={"receive": 1.0}, now=NOW + 9)
    assert (paths["1.2.9"].exists(), paths["1.2.1"].exists()) == (False, True)
    assert [note.name for note in store.spool.notes.rglob("*.json")] == []
    (latest,) = canaries.latest(store)
    assert (latest.ok, latest.reason, latest.seconds) == (False, "late", {"receive": 1.0})
    assert instances.known(store, "1.2.1.1", f"{1:064x}") is not None
