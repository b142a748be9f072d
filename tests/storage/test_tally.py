"""What happened is counted once, whenever and however often anybody counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from databases_made import WANTED
from rows import NOW, ORIGIN, built

from node.domain import FindingRow, JobState, Study
from node.storage import canaries, deliveries, figures, instances, jobs, queue, studies, tally, trace, trials
from node.storage.store import Store
from node.storage.trials import OURSELVES, PATIENT_ID


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


@pytest.fixture
def ourselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes now is the node's own test."""
    ours = replace(ORIGIN, id="b" * 12, peer=OURSELVES)
    studies.begin_association(store, ours)
    remember = instances.remember

    def own(store: Store, one: Any, origin: Any, **rest: Any) -> Any:
        if one.study_instance_uid != "1.2.9":
            return remember(store, one, origin, **rest)
        return remember(store, replace(one, identification={"PatientID": PATIENT_ID}), ours, **rest)

    monkeypatch.setattr(instances, "remember", own)


def test_a_canary_is_counted_nowhere(store: Store, routed: Callable[..., Study], ourselves: None) -> None:
    routed("1.2.1")
    finish(store, FOUND, now=NOW + 5)
    canaries.begin(store, ["chest"], "1.2.9", now=NOW)
    canary = routed("1.2.9", now=NOW + 1)
    finish(store, FOUND, now=NOW + 6)
    tally.advance(store)
    assert sum(counted(store, "jobs").values()) == 1
    for _ in ("while it flies", "when it has ended and is still there"):
        counts = studies.counts(store)
        assert (counts["study.ROUTED"], counts["job.DONE"], counts["delivery.QUEUED"]) == (1, 1, 1)
        seen = figures.figures(store)
        assert [heap.n for heap in (*seen.studies, *seen.jobs)] == [1, 1]
        assert [s.study_instance_uid for s in studies.latest(store, 10)] == ["1.2.1"]
        canaries.end(store, "1.2.9", "chest", ok=True, reason="", seconds={}, now=NOW + 9)
    assert canaries.left_over(store) == [canary.id]
    assert trials.remove(store, store.spool, canary.id)
    assert canaries.left_over(store) == []
    assert [ran.ok for ran in canaries.latest(store)] == [True]
    assert studies.counts(store)["study.ROUTED"] == 1


def test_what_comes_after_a_canary_was_removed_is_counted(
    store: Store, routed: Callable[..., Study], ourselves: None
) -> None:
    """Its rows' numbers may be given out again; whoever follows events must not take the new ones for seen."""
    canary = routed("1.2.9")
    finish(store, FOUND, now=NOW + 6)
    tally.advance(store)
    with store.read() as connection:
        before = trace.last(connection)
    assert trials.remove(store, store.spool, canary.id)
    routed("1.2.1", now=NOW + 20)
    with store.read() as connection:
        # a file gives the numbers out again
        assert WANTED != "sqlite" or trace.last(connection) <= before
    finish(store, FOUND, now=NOW + 26)
    tally.advance(store)
    assert sum(counted(store, "jobs").values()) == 1


def test_what_canaries_are_compared_with_is_kept(store: Store) -> None:
    for n in range(3):
        canaries.begin(store, ["chest"], f"1.2.{n}", now=NOW + n)
        said = {"outcome": {"n": n}, "likeness": "a"}
        canaries.end(store, f"1.2.{n}", "chest", ok=True, reason="", seconds={}, now=NOW + n, **said)
    canaries.left_over(store)
    assert canaries.purge(store, before=NOW + 100) == 2
    assert canaries.first_like(store, "a") == {"n": 0}
    assert canaries.first_like(store, "b") is None
