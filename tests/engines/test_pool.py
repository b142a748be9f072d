"""A pool on a real Ray cluster: the same scores, the token, dead replicas, a dead head."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ray_made import Cluster

from models.bundle import GOLDEN
from models.engine import GOLDEN_TOLERANCE, EngineAway, Prediction
from models.pool.link import Pool
from models.predictor import Predictor
from models.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.model]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        yield made.start()
    finally:
        made.end()


@pytest.fixture(scope="module")
def pool(cluster: Cluster) -> Iterator[Pool]:
    made = cluster.pool()
    yield made
    made.close()


def golden(bundle: object) -> list[np.ndarray]:
    with np.load(bundle.file(GOLDEN), allow_pickle=False) as file:  # type: ignore[attr-defined]
        return [p.astype(np.float32) / 255 for p in file["pixels"]]


@pytest.mark.parametrize("bundle", Registry().all(), ids=lambda b: b.ref)
def test_both_engines_give_equal_scores(pool: Pool, bundle: object) -> None:
    elsewhere = pool.predictor(bundle)  # type: ignore[arg-type]
    elsewhere.verify()
    images = golden(bundle)
    there = elsewhere.predict(images)
    here = Predictor(bundle, device="cpu").predict(images)  # type: ignore[arg-type]
    for a, b in zip(there, here, strict=True):
        for label in b.scores:
            assert a.scores[label] == pytest.approx(b.scores[label], abs=1e-6) and GOLDEN_TOLERANCE > 1e-6
            np.testing.assert_allclose(a.saliency[label], b.saliency[label], atol=1e-5)
        assert a.distance == (None if b.distance is None else pytest.approx(b.distance, rel=1e-5))
    assert elsewhere.device == "ray /CPU:0"


def test_a_replica_that_dies_in_mid_request_costs_nothing(pool: Pool) -> None:
    bundle = Registry().find("chest-abnormal")
    predictor = pool.predictor(bundle)
    images = golden(bundle)
    before = predictor.predict(images)
    dead = predictor.process
    found: list[Prediction] = []
    asked = threading.Thread(target=lambda: found.extend(predictor.predict(images * 8)))
    asked.start()
    threading.Event().wait(0.1)
    os.kill(dead, signal.SIGKILL)
    asked.join(120)
    assert [p.scores for p in found] == [p.scores for p in before] * 8
    assert predictor.process != dead


def test_who_has_no_token_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    assert not cluster.pool().is_open()
    wrong = tmp_path / "token"
    wrong.write_text("not the one that it has, and as long")
    stranger = cluster.pool(token_file=wrong)
    with pytest.raises(EngineAway, match=cluster.address):
        stranger.resources()
    stranger.close()


def test_an_application_that_is_gone_is_started_again(pool: Pool) -> None:
    bundle = Registry().find("chest-abnormal")
    predictor = pool.predictor(bundle)
    predictor.verify()
    pool.end(predictor.name)
    assert predictor.name not in pool.apps()
    with pytest.raises(EngineAway, match=predictor.name):
        predictor.predict(golden(bundle)[:1])
    predictor.verify()
    assert predictor.name in pool.apps()


def test_the_caller_loads_neither_ray_nor_tensorflow(cluster: Cluster) -> None:
    program = (
        "import sys, models.findings, models.pool.link, node.pipeline.infer;"
        "assert not {'ray', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_head_that_is_killed_is_away_until_it_is_back(cluster: Cluster, pool: Pool) -> None:
    bundle = Registry().find("chest-abnormal")
    predictor = pool.predictor(bundle)
    before = predictor.predict(golden(bundle)[:1])
    cluster.kill()
    with pytest.raises(EngineAway):
        predictor.predict(golden(bundle)[:1])
    cluster.start()
    for _ in range(5):  # as the worker does: a head that is only just up refuses
        with contextlib.suppress(EngineAway):
            predictor.verify()
            break
        threading.Event().wait(2)
    assert predictor.predict(golden(bundle)[:1])[0].scores == before[0].scores
