"""What the demo says when a result does not arrive; the demo itself is run by the acceptance tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import House, make_image
from pydicom.dataset import Dataset
from rich.console import Console

from node import demo
from node.domain import Built, JobState, Study
from node.service import Parts
from node.storage import deliveries, jobs, queue

Shown = Callable[[Study], str]


class EmptyPacs:
    """It never got anything."""

    def holds(self, _study_instance_uid: str) -> list[Dataset]:
        return []


@pytest.fixture
def shown(house: House, tmp_path: Path) -> Shown:
    def run(study: Study) -> str:
        out = Console(record=True, width=200)
        pacs: Any = EmptyPacs()
        parts = Parts(house.settings, house.store, house.spool, house.bell)
        assert not demo._show(out, pacs, parts, study, tmp_path, routed=True)
        return out.export_text()

    return run


def test_a_job_that_was_given_up_is_told_with_its_reason(
    house: House, routed: Any, shown: Shown, tmp_path: Path
) -> None:
    study = routed(make_image(tmp_path / "a.dcm"))
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    jobs.fail(house.store, work.job, "no memory", attempts=1, now=house.now, retry_after=0)
    said = shown(study)
    assert "The analysis was given up: no memory" in said
    assert "0 of 0" not in said


def test_a_delivery_that_was_given_up_is_told_with_its_reason(
    house: House, routed: Any, shown: Shown, tmp_path: Path
) -> None:
    study = routed(make_image(tmp_path / "a.dcm"))
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    built = Built("sr", 1, "2.25.9", "1.2", "2.25.8", house.spool.results / "r.dcm", "d", 1)
    jobs.finish(house.store, work.job, JobState.DONE, [], [built], reason="", now=house.now)
    assert "Only 0 of 1 results arrived" in shown(study)
    (delivery,) = deliveries.claim(house.store, "pacs", 8, now=house.now, lease=60)
    deliveries.give_up(house.store, delivery, status=0xA700, reason="out of resources", now=house.now)
    assert "Sending the sr to pacs was given up: out of resources" in shown(study)
