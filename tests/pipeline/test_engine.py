"""A worker whose models run elsewhere: while that place is away its jobs wait, and no attempt is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import models_made
import numpy as np
import pytest
from house import House
from test_route import run

from config.settings import Settings
from models.engine import EngineAway, Prediction
from node.domain import JobState
from node.pipeline.engine import MOST_SECONDS, Standing, engine_of
from node.pipeline.infer import Worker
from node.pipeline.route import Planned, route_study
from node.pipeline.settle import settle_due
from node.storage import jobs, studies


class FakePredictor:
    device = "ray /GPU:0"

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine

    def predict(self, pixels: Sequence[Any]) -> list[Prediction]:
        self._engine.see()
        return [Prediction({"Cardiomegaly": 0.83}, None, {"Cardiomegaly": np.eye(7, dtype=np.float32)}) for _ in pixels]

    def verify(self) -> None:
        self._engine.see()


class FakeEngine:
    """An engine that is there or not."""

    away = ""

    def see(self) -> None:
        if self.away:
            raise EngineAway(self.away)

    def predictor(self, _bundle: Any) -> FakePredictor:
        return FakePredictor(self)


class Known:
    def find(self, _ref: str) -> Any:
        return models_made.bundle()


def worker_of(house: House, engine: FakeEngine) -> Worker:
    made = Worker(
        house.store,
        house.spool,
        settings=house.settings,
        registry=Known(),  # type: ignore[arg-type]
        bell=house.bell,
        name="w",
        device="auto",
        clock=lambda: house.now,
        engine=engine,  # type: ignore[arg-type]
    )
    made.standing = Standing(lambda: house.now)
    return made


def test_jobs_wait_for_an_engine_that_is_away_for_long_and_count_no_attempt(
    house: House, image: Callable[..., Path]
) -> None:
    engine = FakeEngine()
    worker = worker_of(house, engine)
    worker.begin()
    house.receive(image())
    study = run(house)
    engine.away = "the head is dead"
    for _ in range(50):  # far more often than a job may be tried
        worker.run_batch()
        house.now += MOST_SECONDS + 1
    (job,) = jobs.of_study(house.store, study.id)
    assert (job.state, job.attempts, job.crashes) == (JobState.QUEUED, 0, 0)
    assert worker.standing.why == "the head is dead"
    engine.away = ""
    assert worker.run_batch() == 1
    (job,) = jobs.of_study(house.store, study.id)
    assert (job.state, job.attempts) == (JobState.DONE, 1)
    assert worker.standing.why == ""
    assert len(jobs.findings(house.store, job.id)) == 1


def test_a_worker_begins_while_the_engine_is_away_and_takes_nothing(house: House, image: Callable[..., Path]) -> None:
    engine = FakeEngine()
    engine.away = "not there yet"
    worker = worker_of(house, engine)
    worker.begin()
    house.receive(image())
    study = run(house)
    assert worker.run_batch() == 0
    (job,) = jobs.of_study(house.store, study.id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_the_wait_doubles_up_to_a_minute_and_begins_anew() -> None:
    now = 0.0
    standing = Standing(lambda: now)
    waits = []
    for _ in range(8):
        standing.lost("away")
        began = now
        while not standing.is_due:
            now += 1
        waits.append(now - began)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    standing.found()
    standing.lost("away")
    now += 2
    assert standing.is_due


def test_a_pool_is_asked_for_a_batch_of_each_replica_at_once(house: House, image: Callable[..., Path]) -> None:
    asked: list[int] = []

    class Counting(FakePredictor):
        def predict(self, pixels: Sequence[Any]) -> list[Prediction]:
            asked.append(len(pixels))
            return super().predict(pixels)

    engine = FakeEngine()
    engine.predictor = lambda _bundle: Counting(engine)  # type: ignore[method-assign]
    rules = {"address": "gpu1:6379", "replicas_max": 3}
    pool = Settings(infer={"engine": "ray", "batch": 2, "deadline_seconds": 300}, ray=rules)  # type: ignore[arg-type]
    house.settings = house.settings.model_copy(update={"infer": pool.infer, "ray": pool.ray})
    worker = worker_of(house, engine)
    for n in range(8):
        house.receive(image(StudyInstanceUID=f"1.2.{n}", SOPInstanceUID=f"1.2.{n}.1"))
    house.now += 5
    settle_due(house.store, house.settings, house.now)
    for study in studies.latest(house.store, 10):
        plans = [Planned(r, f"{r.bundle}@1.0.0") for r in house.settings.route]
        route_study(house.store, study, plans, house.now)
    assert (worker.run_batch(), asked) == (6, [6])
    many = pool.model_copy(update={"ray": pool.ray.model_copy(update={"replicas_max": 1000})})
    assert (many.at_once, Settings().at_once) == (256, 8)


def test_without_a_word_networks_run_here() -> None:
    assert engine_of(Settings()) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"infer": {"engine": "ray"}}, "needs ray.address"),
        ({"infer": {"engine": "ray", "device": ["cpu"]}, "ray": {"address": "gpu1:6379"}}, "leave it out"),
        ({"infer": {"engine": "ray", "deadline_seconds": 60}, "ray": {"address": "gpu1:6379"}}, "answer_seconds"),
        ({"ray": {"address": "local"}}, "HOST:PORT"),
        ({"ray": {"address": "ray://gpu1:10001"}}, "HOST:PORT"),
        ({"ray": {"replicas_min": 3, "replicas_max": 2}}, "must not be less"),
        ({"ray": {"gpus": 0, "cpus": 0}}, "a part of one"),
        ({"ray": {"gpus": 1.5}}, "less than or equal to 1"),
        ({"ray": {"gpu": 1}}, "xtra"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(**given)
