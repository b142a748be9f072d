"""A past result is computed again: the same, nearly the same, different, or why it cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import models_made
import pytest
from databases_made import as_they_are
from pydicom.uid import generate_uid
from sqlalchemy import select, update
from whole_house import Reader, Whole

from config.settings import Retention
from models.predictor import DeviceError
from node.domain import Result
from node.errors import CannotReplay, NoSuchResult
from node.pipeline import infer
from node.pipeline.recall import find, withdraw
from node.pipeline.replay import Replayed, Score, replay, verdict
from node.storage import instances, jobs, routing, upkeep
from node.storage.schema import job

Make = Callable[..., Path]
DAY = 86400.0


def made(whole: Whole, kind: str = "sr") -> Result:
    return next(r for r in reversed(jobs.results(whole.house.store, 1)) if r.kind == kind)


def again(whole: Whole, uid: str) -> Replayed:
    house = whole.house
    return replay(house.store, uid, settings=house.settings, registry=whole.bundles, bell=house.bell)  # type: ignore[arg-type]


@pytest.fixture
def reported(whole: Whole, image: Make) -> Whole:
    """A study of two images with its results delivered."""
    uid = generate_uid()
    whole.house.receive(image(StudyInstanceUID=uid), image(StudyInstanceUID=uid))
    whole.work()
    return whole


@pytest.mark.parametrize("kind", ["sr", "sc"])
def test_the_same_images_and_model_give_the_same_bytes(reported: Whole, kind: str) -> None:
    said = again(reported, made(reported, kind).sop_instance_uid)
    assert (said.verdict, said.same_bytes, len(said.scores)) == ("identical", True, 2)
    assert said.then == said.now
    assert {s.then for s in said.scores} == {0.83}


def test_nothing_is_kept_or_sent(reported: Whole) -> None:
    house = reported.house
    files = {p: p.stat().st_mtime_ns for p in house.spool.root.rglob("*") if p.is_file()}
    rows = as_they_are(house.store)
    before = reported.held()
    again(reported, made(reported).sop_instance_uid)
    reported.work()
    assert {p: p.stat().st_mtime_ns for p in house.spool.root.rglob("*") if p.is_file()} == files
    assert as_they_are(house.store) == rows
    assert reported.held() == before


@pytest.mark.parametrize(("score", "expected"), [(0.8305, "within 0.1 point"), (0.84, "different"), (0.3, "different")])
def test_other_scores_are_held_against_those_of_then(
    reported: Whole, monkeypatch: pytest.MonkeyPatch, score: float, expected: str
) -> None:
    monkeypatch.setattr(Reader, "score", score)
    said = again(reported, made(reported).sop_instance_uid)
    assert said.verdict == expected, "a report writes whole tenths of a point, so its bytes may be the same"
    assert {(s.then, s.now) for s in said.scores} == {(0.83, score)}


def test_an_image_that_is_refused_now_is_a_difference(reported: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "score", None)
    said = again(reported, made(reported).sop_instance_uid)
    assert said.verdict == "different"
    assert {(s.label, s.then_said, s.now_said) for s in said.scores} == {
        ("Cardiomegaly", "PRESENT", "not mentioned"),
        ("", "not mentioned", "refused"),
    }


def test_a_result_is_known_by_the_name_of_its_form_too(reported: Whole) -> None:
    result = made(reported)
    with reported.house.store.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO form (result_id, sop_class_uid, transfer_syntax_uid, sop_instance_uid, path, digest, size) "
            f"VALUES ({result.id}, '1.2', '1.2.840.10008.1.2.1', '2.25.77', 'results/x.dcm', 'd', 1)"
        )
    assert again(reported, "2.25.77").verdict == "identical"


def test_a_revision_is_replayed_with_the_predecessor_that_it_had(reported: Whole) -> None:
    reported.version = "2.0.0"
    routing.again(reported.house.store, reported.house.only_study(), now=reported.house.now)
    reported.work()
    assert len({r.revision for r in jobs.results(reported.house.store, 1)}) == 2
    for result in jobs.results(reported.house.store, 1):
        assert again(reported, result.sop_instance_uid).verdict == "identical"


def test_settings_that_changed_since_do_not_count(reported: Whole) -> None:
    house = reported.house
    node = house.settings.node.model_copy(update={"ae_title": "RENAMED", "organisation": "Elsewhere"})
    house.settings = house.settings.model_copy(update={"node": node, "route": []})
    assert again(reported, made(reported).sop_instance_uid).verdict == "identical"


def test_a_result_outlives_the_database_and_is_replayed(reported: Whole) -> None:
    uid = made(reported).sop_instance_uid
    reported.lose_the_database()
    assert again(reported, uid).verdict == "identical"


def test_another_version_of_the_program_makes_other_bytes_of_the_same_scores(
    reported: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.__version__", "9.9.9")
    said = again(reported, made(reported).sop_instance_uid)
    assert (said.verdict, said.same_bytes) == ("within 0.1 point", False)
    assert (said.then["overread"], said.now["overread"]) != ("9.9.9", "9.9.9")
    assert said.now["overread"] == "9.9.9"


def test_the_device_of_then_is_used_where_it_is_there(reported: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[str] = []

    class Elsewhere(Reader):
        def __init__(self, registry: Any, bundle: Any, *, device: str, **_: Any) -> None:
            wanted.append(device)
            if device == "gpu:1":
                raise DeviceError("not there")
            super().__init__(registry, bundle)

    monkeypatch.setattr(infer, "Reader", Elsewhere)
    with reported.house.store.write() as connection:
        for number, ran_with in connection.execute(select(job.c.id, job.c.ran_with)).all():
            changed = update(job).where(job.c.id == number).values(ran_with=ran_with | {"device": "/GPU:1"})
            connection.execute(changed)
    said = again(reported, made(reported).sop_instance_uid)
    assert (wanted, said.then["device"], said.now["device"]) == (["gpu:1", "auto"], "/GPU:1", "/CPU:0")


def test_purged_images_are_said_with_their_date(reported: Whole) -> None:
    house = reported.house
    house.now = 1_802_700_000.0
    upkeep.purge(house.store, Retention(), house.now)
    with pytest.raises(CannotReplay, match=r"^input purged on 2027-02-1\d$"):
        again(reported, made(reported).sop_instance_uid)


def test_altered_and_lost_images_are_said(reported: Whole) -> None:
    first, second = instances.of_study(reported.house.store, 1)
    first.path.write_bytes(first.path.read_bytes()[:-1] + b"X")
    second.path.unlink()
    with pytest.raises(CannotReplay, match=r"^input (altered; input lost|lost; input altered)$"):
        again(reported, made(reported).sop_instance_uid)


def test_another_bundle_of_that_name_does_not_do(reported: Whole) -> None:
    uid = made(reported).sop_instance_uid
    reported.bundles.there["cardiomegaly@1.0.0"] = models_made.bundle(digest="f" * 64)
    with pytest.raises(CannotReplay, match=rf"bundle cardiomegaly@1\.0\.0 is not here \(digest {'1' * 64}\): the one"):
        again(reported, uid)
    del reported.bundles.there["cardiomegaly@1.0.0"]
    with pytest.raises(CannotReplay, match=r"is not here .*no such bundle"):
        again(reported, uid)


def test_what_nobody_made_and_what_nobody_computed_is_said(reported: Whole) -> None:
    house = reported.house
    with pytest.raises(NoSuchResult):
        again(reported, "1.2.3")
    found = find(house.store, "cardiomegaly@1.0.0", since=0, until=1e12)
    withdraw(house.store, house.spool, found, settings=house.settings, now=house.now)
    with pytest.raises(CannotReplay, match="a withdrawal is not computed"):
        again(reported, made(reported, "withdrawal").sop_instance_uid)
    assert again(reported, made(reported).sop_instance_uid).verdict == "identical", "withdrawn, and still known"


def test_a_job_that_noted_nothing_cannot_be_repeated(reported: Whole) -> None:
    with reported.house.store.write() as connection:
        connection.exec_driver_sql("UPDATE job SET ran_with = NULL")
    with pytest.raises(CannotReplay, match="was not noted"):
        again(reported, made(reported).sop_instance_uid)


def score(then: float | None, now: float | None, said: str = "refused") -> Score:
    return Score("1.2", "Mass", then, now, said, said)


@pytest.mark.parametrize(
    ("scores", "same_bytes", "expected"),
    [
        ([], True, "identical"),
        ([], False, "within 0.1 point"),
        ([score(0.5, 0.5)], True, "identical"),
        ([score(0.5, 0.5)], False, "within 0.1 point"),
        ([score(0.5, 0.5009)], False, "within 0.1 point"),
        ([score(0.5, 0.5011)], False, "different"),
        ([score(None, None)], True, "identical"),
        ([score(0.5, None)], False, "different"),
        ([Score("1.2", "", None, None, "refused", "failed")], False, "different"),
    ],
)
def test_the_verdict(scores: list[Score], same_bytes: bool, expected: str) -> None:
    assert verdict(scores, same_bytes) == expected
