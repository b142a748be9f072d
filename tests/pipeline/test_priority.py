"""What is urgent is read and sent first, whatever waits; what is not is never forgotten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from whole_house import Whole

from config.settings import Route
from node.domain import JobState, Priority
from node.pipeline import infer
from node.pipeline.deliver import Courier
from node.pipeline.route import urgency
from node.storage import deliveries, jobs, turnaround

Make = Callable[..., Path]


def header(*requests: str, own: str = "") -> Dataset:
    ds = Dataset()
    if own:
        ds.RequestedProcedurePriority = own
    if requests:
        items = []
        for said in requests:
            items.append(Dataset())
            items[-1].RequestedProcedurePriority = said
        ds.RequestAttributesSequence = Sequence(items)
    return ds


def route(priority: Any = None) -> Route:
    return Route(name="chest", bundle="cardiomegaly", mode="shadow", priority=priority)


@pytest.mark.parametrize(
    ("said", "by_route", "found"),
    [
        (header(), None, Priority.ROUTINE),
        (header(), "low", Priority.LOW),
        (header(own="STAT"), None, Priority.STAT),
        (header(own="STAT"), "low", Priority.STAT),
        (header(own="LOW"), "high", Priority.HIGH),
        (header(own="LOW"), None, Priority.LOW),
        (header(own="MEDIUM"), None, Priority.ROUTINE),
        (header("LOW", "HIGH"), None, Priority.HIGH),
        (header("LOW", own="STAT "), None, Priority.STAT),
        (header(own="ASAP"), None, Priority.ROUTINE),
        (header(""), "stat", Priority.STAT),
    ],
)
def test_the_more_urgent_of_images_and_route_counts(said: Dataset, by_route: Any, found: Priority) -> None:
    assert urgency(route(by_route), [said]) is found


def test_the_most_urgent_image_of_a_study_decides() -> None:
    assert urgency(route(), [header(own="LOW"), header("STAT"), header()]) is Priority.STAT


def test_the_images_of_a_study_say_how_urgent_job_and_deliveries_are(whole: Whole, image: Make) -> None:
    (request,) = header("STAT").RequestAttributesSequence
    whole.house.receive(image(RequestAttributesSequence=Sequence([request])))
    whole.route()
    whole.infer()
    (job,) = jobs.of_study(whole.house.store, 1)
    assert job.priority is Priority.STAT
    with whole.house.store.read() as connection:
        found = connection.exec_driver_sql("SELECT priority FROM delivery").scalars().all()
    assert found == [0, 0]


def studies_of(whole: Whole, image: Make, n: int, **more: Any) -> list[str]:
    uids = [generate_uid() for _ in range(n)]
    for uid in uids:
        whole.house.receive(image(StudyInstanceUID=uid, **more))
        whole.house.now += 0.01
    whole.route(after=10)
    return uids


def arrived(whole: Whole) -> list[str]:
    """Studies in the order in which the PACS got their first object."""
    paths = sorted(whole.pacs.received(), key=lambda p: p.stat().st_mtime_ns)
    return list(dict.fromkeys(str(dcmread(p, stop_before_pixels=True).StudyInstanceUID) for p in paths))


@pytest.mark.slow
def test_an_urgent_study_overtakes_a_backlog_of_two_hundred(whole: Whole, image: Make) -> None:
    """It comes when one batch is being read and delivered; that is not interrupted, and all the others wait."""
    routine = studies_of(whole, image, 200)
    worker = whole.worker()
    assert worker.run_batch() == 8
    (urgent,) = studies_of(whole, image, 1, RequestedProcedurePriority="STAT")
    assert worker.run_batch() == 1
    whole.deliver()
    assert arrived(whole)[0] == urgent, "its results overtook those that waited to be sent, too"
    assert set(arrived(whole)) == {urgent, *routine[:8]}
    with whole.house.store.read() as connection:
        left = connection.exec_driver_sql("SELECT count(*) FROM job WHERE state = 'QUEUED'").scalar()
    assert left == 192
    (waited, rest) = turnaround.turnaround(whole.house.store, since=0)
    assert (waited.priority, waited.studies, rest.priority, rest.studies) == (Priority.STAT, 1, Priority.ROUTINE, 8)
    assert waited.stored.median is not None and waited.stored.median < 11


def test_what_is_not_urgent_gets_every_eighth_batch(whole: Whole, image: Make) -> None:
    (low,) = studies_of(whole, image, 1, RequestedProcedurePriority="LOW")
    whole.house.settings = whole.house.settings.model_copy(
        update={"infer": whole.house.settings.infer.model_copy(update={"batch": 1})}
    )
    studies_of(whole, image, infer.TURN + 1, RequestedProcedurePriority="STAT")
    worker = whole.worker()
    for _ in range(infer.TURN - 1):
        assert worker.run_batch() == 1
    (job,) = jobs.of_study(whole.house.store, 1)
    assert job.state is JobState.QUEUED
    assert worker.run_batch() == 1
    (job,) = jobs.of_study(whole.house.store, 1)
    assert (job.state, job.priority) == (JobState.DONE, Priority.LOW)
    assert low


def test_what_is_not_urgent_is_delivered_too_while_urgent_results_keep_coming(
    whole: Whole, image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.pipeline.deliver.BATCH", 1)
    (low,) = studies_of(whole, image, 1, RequestedProcedurePriority="LOW")
    whole.infer()
    studies_of(whole, image, 5, RequestedProcedurePriority="STAT")
    whole.infer()
    courier = Courier(
        whole.house.store,
        whole.house.settings.peer[0],
        spool=whole.house.spool,
        settings=whole.house.settings,
        clock=lambda: whole.house.now,
    )
    for _ in range(8):
        assert courier.deliver_due() == 1
    courier.close()
    assert arrived(whole)[-1] == low
    assert len(deliveries.peers(whole.house.store)) == 1, "most of the urgent ones still wait"
