"""What a person decides about studies, and what the program answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from house import House, make_image
from pydicom import dcmread

from config.settings import Settings
from node.domain import Built, DeliveryState, InstanceState, JobState, Study, StudyState
from node.pipeline.deliver import orphans
from node.storage import deliveries, instances, jobs, queue

Routed = Callable[[Path], Study]


def again(house: House, first: Path, second: Path, **changed: Any) -> None:
    """The same UIDs with something else in it, while the association stays open."""
    ds = dcmread(first)
    same = {k: ds[k].value for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    house.put(make_image(second, **same, **changed))


@pytest.fixture
def given_up(house: House, routed: Routed, tmp_path: Path) -> Callable[[], Study]:
    """A study with a dead job."""

    def run() -> Study:
        study = routed(make_image(tmp_path / "a.dcm"))
        (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
        jobs.fail(house.store, work.job, "no memory", attempts=1, now=house.now, retry_after=0)
        return study

    return run


def undelivered(house: House) -> None:
    """The job of the only study is done, and its result could not be delivered."""
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    built = Built("sr", 1, "2.25.9", "1.2", "2.25.8", house.spool.results / "r.dcm", "d", 1)
    jobs.finish(house.store, work.job, JobState.DONE, [], [built], reason="", now=house.now)
    (delivery,) = deliveries.claim(house.store, "pacs", 8, now=house.now, lease=60)
    deliveries.give_up(house.store, delivery, status=None, reason="refused", now=house.now)


def test_a_peer_that_goes_is_said_to_leave_a_result_behind(
    house: House, overread: Any, routed: Routed, tmp_path: Path
) -> None:
    routed(make_image(tmp_path / "a.dcm"))
    undelivered(house)
    file = tmp_path / "overread.toml"
    file.write_text(file.read_text().replace('deliver_to = ["pacs"]', 'mode = "shadow"'))
    done = overread("peer", "remove", "pacs")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == ["1 result that it has not got will then never be sent."]
    assert json.loads(overread("status", "--json").stdout)["counts"]["delivery"] == {"DEAD": 1}
    orphans(house.store, Settings.load(file), house.now)
    said = json.loads(overread("status", "--json").stdout)
    assert said["counts"]["delivery"] == {"stopped": 1}
    assert not [alarm for alarm in said["alarms"] if "not delivered" in alarm]
    assert "no [[peer]] named pacs is in the settings" in overread("show", "1").stdout


def test_settle_ends_the_waiting(house: House, overread: Any, tmp_path: Path) -> None:
    house.begin()
    house.put(make_image(tmp_path / "a.dcm"))
    done = overread("settle", "1")
    assert (done.exit_code, done.stdout) == (0, "study 1 settled\n")
    study = house.only_study()
    assert (study.state, study.settled_by) == (StudyState.SETTLED, "a person said so")
    assert overread("settle", "1").exit_code == 2


def test_settle_says_why_it_did_not(house: House, overread: Any, tmp_path: Path) -> None:
    house.begin()
    house.put(make_image(tmp_path / "a.dcm"))
    again(house, tmp_path / "a.dcm", tmp_path / "b.dcm", pixels=np.zeros((64, 48), np.uint16))
    done = overread("settle", "1")
    assert done.exit_code == 1
    assert "did not settle: its instances contradict each other" in done.stderr
    assert house.only_study().state is StudyState.HELD


def test_settle_says_so_when_an_instance_arrives_meanwhile(
    house: House, overread: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.begin()
    house.put(make_image(tmp_path / "a.dcm"))
    monkeypatch.setattr("node.pipeline.settle.settle", lambda *_: None)
    done = overread("settle", "1", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (
        1,
        {"study": 1, "settled": False, "state": "RECEIVING", "reason": "an instance arrived meanwhile: try again"},
    )


def test_settle_says_so_when_the_pixels_cannot_be_compared_now(
    house: House, overread: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> bool:
        raise OSError(12, "Cannot allocate memory")

    house.begin()
    house.put(make_image(tmp_path / "a.dcm"))
    monkeypatch.setattr("node.pipeline.settle.compare", busy)
    done = overread("settle", "1")
    assert done.exit_code == 1
    assert "could not be compared: Cannot allocate memory" in done.stderr


def test_settling_a_study_with_nothing_new_is_no_failure(
    house: House, routed: Routed, overread: Any, tmp_path: Path
) -> None:
    routed(make_image(tmp_path / "a.dcm"))
    house.begin()
    again(house, tmp_path / "a.dcm", tmp_path / "b.dcm", StudyDescription="said later")
    assert house.only_study().state is StudyState.RECEIVING
    done = overread("settle", "1")
    assert (done.exit_code, done.stdout) == (0, "study 1: nothing new to analyse, it is ROUTED\n")


def test_held_studies_are_listed_and_decided(house: House, contradicted: Any, overread: Any) -> None:
    contradicted()
    assert "'P1' was, 'P2' came" in overread("held", "list").stdout
    assert overread("held", "accept", "1").exit_code == 0
    assert house.only_study().state is StudyState.RECEIVING
    assert overread("held", "list").stdout == "Nothing is held.\n"


@pytest.mark.parametrize(
    ("verb", "said", "state"),
    [("accept", "accepted", InstanceState.CURRENT), ("reject", "rejected", InstanceState.REJECTED)],
)
def test_decisions_answer_programs_too(
    house: House, contradicted: Any, overread: Any, verb: str, said: str, state: InstanceState
) -> None:
    contradicted()
    assert json.loads(overread("held", verb, "1", "--json").stdout) == {"study": 1, said: 1}
    assert instances.of_study(house.store, 1)[-1].state is state


def test_retry_wakes_the_dead_jobs_of_a_study(house: House, given_up: Any, overread: Any) -> None:
    given_up()
    assert "1 job and 0 deliveries of study 1" in overread("retry", "1").stdout
    assert json.loads(overread("retry", "1", "--json").stdout) == {"study": 1, "jobs": 0, "deliveries": 0, "proofs": 0}
    (job,) = jobs.of_study(house.store, 1)
    assert job.state is JobState.QUEUED


def test_retry_all_wakes_every_study(house: House, given_up: Any, overread: Any) -> None:
    given_up()
    said = json.loads(overread("retry", "--all", "--json").stdout)
    assert said == {"study": None, "jobs": 1, "deliveries": 0, "proofs": 0}
    (job,) = jobs.of_study(house.store, 1)
    assert job.state is JobState.QUEUED


def test_retry_of_one_peer_wakes_what_it_did_not_get_and_nothing_else(
    house: House, routed: Routed, overread: Any, tmp_path: Path
) -> None:
    routed(make_image(tmp_path / "a.dcm"))
    undelivered(house)
    done = overread("retry", "--peer", "modality")
    assert "0 jobs and 0 deliveries to modality of all studies" in done.stdout
    assert "0 jobs and 1 delivery to pacs of all studies" in overread("retry", "--peer", "pacs").stdout
    (delivery,) = deliveries.of_study(house.store, 1)
    assert delivery.state is DeliveryState.QUEUED


@pytest.mark.parametrize("what", [(), ("1", "--all"), ("--all", "--peer", "pacs"), ("1", "--peer", "pacs")])
def test_retry_wants_to_know_one_thing(overread: Any, what: tuple[str, ...]) -> None:
    done = overread("retry", *what)
    assert done.exit_code == 2
    assert "one of STUDY, --all and --peer" in done.stderr


def test_retry_of_an_unknown_peer_names_those_that_are_there(overread: Any) -> None:
    done = overread("retry", "--peer", "nobody")
    assert done.exit_code == 2
    assert "have: pacs, modality" in done.stderr


def test_route_again_opens_a_revision_that_is_routed_anew(
    house: House, routed: Routed, overread: Any, tmp_path: Path
) -> None:
    house.begin()
    house.put(make_image(tmp_path / "early.dcm"))
    done = overread("route", "again", "1")
    assert (done.exit_code, "is RECEIVING" in done.stderr) == (2, True)
    house.receiver.on_end("a" * 12, "released")
    routed(tmp_path / "early.dcm")
    said = json.loads(overread("route", "again", "1", "--json").stdout)
    assert said == {"study": 1, "state": "SETTLED", "revision": 2}
    assert house.only_study().state is StudyState.SETTLED


def test_a_result_that_failed_its_check_is_an_alarm_and_its_study_says_why(
    house: House, overread: Any, routed: Routed, tmp_path: Path
) -> None:
    routed(make_image(tmp_path / "a.dcm"))
    (work,) = queue.claim(house.store, "w", 8, now=house.now, lease=60)
    wrong = "PatientID is not the source's"
    path = house.spool.quarantine_path("2.25.9")
    built = Built("sr", 1, "2.25.9", "1.2", "2.25.8", path, "d", 1, quarantine=wrong)
    jobs.finish(house.store, work.job, JobState.DONE, [], [built], reason="", now=house.now)
    status = overread("status", "--json")
    alarms = json.loads(status.stdout)["alarms"]
    assert "1 result failed its self-check and was not sent: `overread show STUDY`" in alarms
    assert status.exit_code == 1
    shown = overread("show", "1").stdout
    assert f"failed its self-check, not sent: {wrong}" in " ".join(shown.split())
    (result,) = json.loads(overread("show", "1", "--json").stdout)["results"]
    assert (result["quarantine"], result["path"]) == (wrong, str(path))


def test_nothing_held_is_said(house: House, overread: Callable[..., Any]) -> None:
    assert overread("held", "list").stdout == "Nothing is held.\n"
    assert overread("held", "list", "--json").stdout == ""
