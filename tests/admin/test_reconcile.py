"""Every settled study has exactly one account, and what nothing explains is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from databases_made import place
from rows import NOW, ORIGIN, built, received
from sqlalchemy import delete, event, update

from node.admin.reconcile import Account, Line, reconcile, totals
from node.domain import Delivery, JobState, Matched, Study
from node.network.statuses import classify
from node.storage import deliveries, instances, jobs, proofs, queue, recalls, routing, schema, studies
from node.storage.store import Store

Make = Callable[..., Study]
DAY = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(place(tmp_path), tmp_path / "spool")
    made.open()
    made.spool.open()
    studies.begin_association(made, ORIGIN)
    yield made
    made.close()


@pytest.fixture
def settled(store: Store) -> Make:
    """A settled study, routed as said: `matches` images, to these peers."""

    def make(
        uid: str, *, matches: bool = True, to: tuple[str, ...] = ("pacs",), reason: str = "1 of 1", now: float = NOW
    ) -> Study:
        study = instances.remember(store, received(store, uid), ORIGIN, own_device_uid="", now=now).study
        study = studies.settle(store, study, "test", image_digest=uid, now=now) or study
        members = tuple(i.id for i in instances.of_study(store, study.id)) if matches else ()
        wanted = [routing.Wanted(Matched("chest", members, reason), "cardiomegaly@1.0.0", {peer: [] for peer in to})]
        return routing.route(store, study, wanted, now=now)

    return make


def finish(store: Store, uid: str, *, state: JobState = JobState.DONE, reason: str = "", results: int = 1) -> None:
    (work,) = queue.claim(store, "w", 1, now=NOW, lease=60)
    made = [built(store, f"{uid}.{n}", ordinal=n) for n in range(results)]
    assert jobs.finish(store, work.job, state, [], made, reason=reason, now=NOW)


def send(store: Store, *, prove: bool = True) -> list[Delivery]:
    claimed = deliveries.claim(store, "pacs", 100, now=NOW, lease=60)
    for delivery in claimed:
        deliveries.sent(store, delivery, status=0, note="", now=NOW, prove=prove)
    return claimed


def commit(store: Store) -> None:
    proofs.commit(store, proofs.due(store, "pacs", 100, now=NOW), "storage commitment", now=NOW)


def lines(store: Store, *, now: float = NOW) -> list[Line]:
    return reconcile(store, since=NOW - DAY, until=NOW + DAY, now=now)


def account(store: Store, *, now: float = NOW) -> tuple[Account, tuple[str, ...]]:
    (line,) = lines(store, now=now)
    return line.account, line.reasons


def test_a_study_goes_from_waiting_to_committed(store: Store, settled: Make) -> None:
    settled("1.1")
    assert account(store) == (Account.WAITING, ("chest: QUEUED",))
    finish(store, "2.25.1")
    assert account(store) == (Account.WAITING, ("sr to pacs: QUEUED",))
    send(store)
    assert account(store) == (Account.UNPROVEN, ("sr to pacs: not yet",))
    commit(store)
    assert account(store) == (Account.COMMITTED, ())


def test_what_nobody_proves_says_why(store: Store, settled: Make) -> None:
    settled("1.1")
    finish(store, "2.25.1", results=2)
    send(store, prove=False)
    assert account(store) == (Account.UNPROVEN, ("sr to pacs: nobody asks",))
    proofs.ask_anew(store, ["pacs"], now=NOW)
    proofs.refuse(store, proofs.due(store, "pacs", 9, now=NOW), "offers neither", now=NOW)
    assert account(store) == (Account.UNPROVEN, ("sr to pacs: offers neither",))


def test_half_a_delivery_waits(store: Store, settled: Make) -> None:
    settled("1.1", to=("pacs", "archive"))
    finish(store, "2.25.1")
    send(store)
    commit(store)
    assert account(store) == (Account.WAITING, ("sr to archive: QUEUED",))


def test_what_was_given_up_comes_first(store: Store, settled: Make) -> None:
    settled("1.1", to=("pacs", "archive"))
    finish(store, "2.25.1")
    (delivery,) = deliveries.claim(store, "archive", 9, now=NOW, lease=60)
    deliveries.give_up(store, delivery, status=0xA900, reason="answered 0xA900", now=NOW)
    assert account(store) == (Account.DEAD, ("sr to archive: answered 0xA900",))


def test_a_refusal_is_an_account_with_its_reason(store: Store, settled: Make) -> None:
    settled("1.1")
    finish(store, "2.25.1", state=JobState.REFUSED, reason="gate: no chest")
    send(store)
    commit(store)
    assert account(store) == (Account.REFUSED, ("chest: gate: no chest",))


def test_a_shadow_sends_nothing(store: Store, settled: Make) -> None:
    settled("1.1", to=())
    finish(store, "2.25.1")
    assert account(store) == (Account.SHADOW, ("chest",))


def test_no_route_is_an_account_with_its_reason(store: Store, settled: Make) -> None:
    settled("1.1", matches=False, reason="Modality CR is not in CT")
    assert account(store) == (Account.UNROUTED, ("chest: Modality CR is not in CT",))


def test_a_held_study_is_one_and_its_values_are_not_told(store: Store, settled: Make) -> None:
    settled("1.1")
    other = received(store, "1.1", 2)
    changed = {"patient_id": "P2", "identification": {"PatientID": "P2"}}
    instances.remember(store, type(other)(**vars(other) | changed), ORIGIN, own_device_uid="", now=NOW)
    found, reasons = account(store)
    assert found is Account.HELD
    assert "P2" not in "".join(reasons)


def test_a_study_that_an_image_reopened_waits(store: Store, settled: Make) -> None:
    settled("1.1")
    instances.remember(store, received(store, "1.1", 2), ORIGIN, own_device_uid="", now=NOW + 1)
    assert account(store) == (Account.WAITING, ("an instance arrived after it had settled",))


def test_only_what_counts_counts(store: Store, settled: Make) -> None:
    """A job that a later revision superseded says nothing any more."""
    study = settled("1.1")
    instances.remember(store, received(store, "1.1", 2), ORIGIN, own_device_uid="", now=NOW + 1)
    again = studies.settle(store, studies.by_id(store, study.id), "test", image_digest="x", now=NOW + 2)
    assert again
    members = tuple(i.id for i in instances.of_study(store, study.id))
    routing.route(store, again, [routing.Wanted(Matched("chest", members, "2"), "b@1", {"pacs": []})], now=NOW + 2)
    (work,) = queue.claim(store, "w", 9, now=NOW + 2, lease=60)
    jobs.finish(store, work.job, JobState.DONE, [], [built(store, "2.25.1")], reason="", now=NOW)
    send(store)
    commit(store)
    assert account(store) == (Account.COMMITTED, ())


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (delete(schema.delivery), "chest: its results go nowhere"),
        (update(schema.job).values(retryable=False), "routed, and no job counts"),
        (update(schema.study).values(state="UNROUTED", reason=""), "UNROUTED without a reason"),
        (update(schema.delivery).values(state="DEAD", reason=""), "DEAD without a reason"),
    ],
)
def test_what_nothing_explains_is_found(store: Store, settled: Make, broken: object, reason: str) -> None:
    settled("1.1")
    finish(store, "2.25.1")
    with store.write() as connection:
        connection.execute(broken)  # type: ignore[call-overload]
    assert account(store) == (Account.UNEXPLAINED, (reason,))


def test_a_result_that_is_missing_is_found(store: Store, settled: Make) -> None:
    settled("1.1")
    finish(store, "2.25.1", results=0)
    assert account(store) == (Account.UNEXPLAINED, ("chest: DONE without a result",))


def test_a_study_that_is_never_routed_is_found(store: Store, settled: Make) -> None:
    study = settled("1.1")
    assert routing.again(store, study, now=NOW)
    assert account(store, now=NOW + 60)[0] is Account.WAITING
    assert account(store, now=NOW + 2 * 3600) == (Account.UNEXPLAINED, ("settled, and not routed",))


def test_a_period_holds_what_settled_in_it_and_the_totals_add_up(store: Store, settled: Make) -> None:
    settled("1.1")
    settled("1.2", matches=False, reason="no")
    settled("1.3", now=NOW + 2 * DAY)
    found = lines(store)
    assert [line.study_id for line in found] == [1, 2]
    assert totals(found) == {Account.UNROUTED: 1, Account.WAITING: 1}


def test_a_study_whose_only_job_was_recalled_is_withdrawn(store: Store, settled: Make) -> None:
    study = settled("1.1")
    (job,) = jobs.of_study(store, study.id)
    recalls.stop(store, job.id, "withdrawn: recalled", now=NOW)
    assert account(store) == (Account.WITHDRAWN, ("chest: withdrawn: recalled",))


def test_what_a_peer_says_in_its_own_words_is_not_told(store: Store, settled: Make) -> None:
    """It may quote the data set: an account holds no patient data."""
    settled("1.1")
    finish(store, "2.25.1")
    (delivery,) = deliveries.claim(store, "pacs", 9, now=NOW, lease=60)
    said = classify(0xA900, "Doe^Jane is not P1")
    deliveries.give_up(store, delivery, status=said.status, reason=f"{said.error}: see there", now=NOW)
    found, (reason,) = account(store)
    assert found is Account.DEAD
    assert reason == f"sr to pacs: {classify(0xA900).error}"


def test_an_account_reads_only_the_rows_of_its_study(store: Store, settled: Make) -> None:
    settled("1")
    finish(store, "1")
    asked: list[tuple[str, Any]] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def _asked(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    account(store)
    queries = [pair for pair in asked if pair[0].startswith("SELECT")]
    with store.read() as connection:
        plans = [row.detail for q, p in queries for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {q}", p)]
    # what is grouped first is scanned once more; the tables are not
    assert [
        step for step in plans if step.startswith("SCAN") and step.split()[1] in ("result", "delivery", "job")
    ] == []
