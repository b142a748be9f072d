from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import SETTINGS, House
from pydicom.uid import generate_uid

from config.settings import Route
from node.domain import JobState, StudyState
from node.errors import SettingsError
from node.pipeline import route as routing
from node.pipeline.route import Planned, check_keywords, explain, route_study
from node.pipeline.settle import settle_due
from node.storage import deliveries, jobs, queue, studies

Make = Callable[..., Path]


def run(house: House, *, after: float = 5.0) -> Any:
    house.now += after
    settle_due(house.store, house.settings, house.now)
    plans = [Planned(r, f"{r.bundle}@1.0.0") for r in house.settings.route]
    return route_study(house.store, house.only_study(), plans, house.now)


def test_a_matching_study_gets_one_job_with_its_images(house: House, image: Make) -> None:
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid), image(StudyInstanceUID=uid, Modality="CT"))
    study = run(house)
    assert study.state is StudyState.ROUTED
    (job,) = jobs.of_study(house.store, study.id)
    assert (job.state, job.bundle, job.revision) == (JobState.QUEUED, "cardiomegaly@1.0.0", 1)
    assert [i.modality for i in jobs.members(house.store, job.id)] == ["CR"]
    (reason,) = studies.route_reasons(house.store, study)
    assert reason.reason == "1 of 2 images match; 1 not: Modality CT is not in CR, DX"


def test_a_study_that_no_route_takes_is_unrouted_with_its_reason(house: House, image: Make) -> None:
    house.receive(image(Modality="CT"))
    study = run(house)
    assert study.state is StudyState.UNROUTED
    assert study.reason == "chest: Modality CT is not in CR, DX"
    assert jobs.of_study(house.store, study.id) == []


def test_a_job_knows_which_kinds_go_where(house: House) -> None:
    base = house.settings.route[0]
    peers = [house.settings.peer[0], house.settings.peer[1].model_copy(update={"results": ["sc"]})]
    both = base.model_copy(update={"deliver_to": ["pacs", "archive"]})
    assert routing.destinations(both, peers) == {"pacs": [], "archive": ["sc"]}
    assert routing.destinations(both.model_copy(update={"mode": "shadow"}), peers) == {}


def test_without_routes_a_study_is_unrouted(build: Callable[..., House], image: Make) -> None:
    house = build(route=[])
    house.receive(image())
    assert run(house).reason == "there are no routes in the settings"


def test_a_late_image_makes_a_job_only_where_the_route_takes_it(house: House, image: Make) -> None:
    uid = generate_uid()
    house.receive(image(StudyInstanceUID=uid))
    run(house)
    house.receive(image(StudyInstanceUID=uid, Modality="CT"))
    study = run(house)
    assert study.revision == 2
    assert len(jobs.of_study(house.store, study.id)) == 1
    house.receive(image(StudyInstanceUID=uid))
    study = run(house)
    assert [j.revision for j in jobs.of_study(house.store, study.id)] == [1, 3]


def test_routing_twice_makes_one_job(house: House, image: Make) -> None:
    house.receive(image())
    house.now += 5
    (settled,) = settle_due(house.store, house.settings, house.now).studies
    plans = [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route]
    route_study(house.store, settled, plans, house.now)
    route_study(house.store, settled, plans, house.now)
    assert len(jobs.of_study(house.store, settled.id)) == 1


def test_conditions_read_headers(build: Callable[..., House], image: Make) -> None:
    base = SETTINGS["route"][0]
    routes = [
        base | {"name": "frontal", "unless": {"ViewPosition": ["LL", "RL"]}},
        base | {"name": "absent", "when": {"Laterality": [""]}},
        base | {"name": "elsewhere", "from_peers": ["archive"]},
        base | {"name": "derived", "when": {"ImageType": "PRIMARY"}},
    ]
    house = build(route=routes)
    house.receive(image(ViewPosition="LL", ImageType=["ORIGINAL", "PRIMARY"]))
    answers = {r.name: reason for _, r, reason in explain(house.store, house.only_study(), house.settings.route)}
    assert answers == {
        "frontal": "ViewPosition LL is excluded",
        "absent": "",
        "elsewhere": "Peer pacs is not in archive",
        "derived": "",
    }


def test_a_condition_on_no_attribute_is_a_settings_error() -> None:
    route = Route(name="x", when={"Modalty": ["CR"]}, bundle="b", mode="shadow")
    with pytest.raises(SettingsError, match=r"route\[0\]\.when\.Modalty"):
        check_keywords([route])


def test_a_shadow_route_delivers_nothing(build: Callable[..., House], image: Make) -> None:
    house = build(route=[SETTINGS["route"][0] | {"mode": "shadow"}])
    house.receive(image())
    study = run(house)
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    assert jobs.finish(house.store, work.job, JobState.DONE, [], [], reason="", now=house.now)
    assert deliveries.of_study(house.store, study.id) == []


def test_a_file_that_vanished_is_lost_aloud(house: House, image: Make, caplog: pytest.LogCaptureFixture) -> None:
    house.receive(image())
    next(iter(house.spool.objects())).unlink()
    assert run(house).state is StudyState.UNROUTED
    assert "instance.lost" in caplog.text


def test_the_answer_of_a_matching_instance_is_empty() -> None:
    from pydicom.dataset import Dataset

    header = Dataset()
    header.Modality = "DX"
    assert (
        routing.mismatch(Route(name="x", when={"Modality": ["cr", "dx"]}, bundle="b", mode="shadow"), header, peer="")
        == ""
    )
