"""The bundles that ship, on the real network. What the gate lets through is in `test_gate.py`."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from films_made import film

from models.bundle import Bundle, BundleError
from models.predictor import DeviceError, Predictor
from models.registry import Registry

pytestmark = pytest.mark.model
SHIPPED = ("body-part@1.0.0", "chest-findings@1.0.0", "chest-abnormal@1.0.0")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry()


@pytest.fixture(scope="module")
def predictors(registry: Registry) -> dict[str, Predictor]:
    return {ref: Predictor(registry.find(ref), device="cpu") for ref in SHIPPED}


@pytest.mark.parametrize("ref", SHIPPED)
def test_a_shipped_bundle_replays_its_golden_images(predictors: dict[str, Predictor], ref: str) -> None:
    predictors[ref].verify()


@pytest.mark.parametrize("ref", SHIPPED)
def test_a_shipped_bundle_is_small_and_says_that_it_is_for_research(registry: Registry, ref: str) -> None:
    bundle = registry.find(ref)
    assert bundle.file("model.keras").stat().st_size <= 10_000_000
    card = bundle.file("MODEL_CARD.md").read_text()
    assert "Research use only. Not a medical device." in card
    assert "NIH Clinical Center" in card and "CVPR 2017" in card
    assert bundle.audit_verdict in ("pass", "warn"), "its routes are live"


def test_both_chest_bundles_ask_the_same_gate_and_read_adults_only(registry: Registry) -> None:
    findings, abnormal = registry.find("chest-findings").spec, registry.find("chest-abnormal").spec
    assert findings.gate == abnormal.gate and findings.gate is not None
    assert (findings.gate.bundle, findings.gate.accept) == ("body-part", ["chest"])
    assert (findings.task, len(findings.labels), abnormal.task) == ("multilabel", 8, "binary")
    assert {label.name for label in registry.find("body-part").spec.labels} >= {"chest", "abdomen", "hand", "other"}
    assert findings.accepts.min_age_years == abnormal.accepts.min_age_years == 18


def test_other_golden_scores_are_noticed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(registry.find("body-part"), device="cpu")
    predictor._kernel = predictor._kernel * 0
    predictor.verify()  # the maps are not part of it
    real = predictor.predict

    def shifted(pixels: list[np.ndarray]) -> list[object]:
        return real([np.clip(p + 0.3 * (p > 0.5), 0, 1) ** 3 for p in pixels])

    monkeypatch.setattr(predictor, "predict", shifted)
    with pytest.raises(BundleError, match="replaying"):
        predictor.verify()


@pytest.mark.parametrize("ref", SHIPPED)
def test_the_cpus_way_gives_features_and_outputs_of_the_network_itself(
    registry: Registry, predictors: dict[str, Predictor], ref: str
) -> None:
    import keras

    bundle = registry.find(ref)
    model = keras.saving.load_model(bundle.file("model.keras"), compile=False)
    pool = model.get_layer("pool")
    whole = keras.Model(model.inputs[0], [pool.input, pool.output, model.output])
    given = bundle.spec.input
    image = np.random.default_rng(5).normal(size=(1, given.height, given.width, given.channels)).astype(np.float32)
    own = predictors[ref]._forward(image)
    for got, expected in zip(own, whole(image, training=False), strict=True):
        assert got.shape == expected.shape and np.abs(expected).max() > 0
        assert np.allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 8, 9])
def test_the_batch_does_not_change_the_scores(predictors: dict[str, Predictor], count: int) -> None:
    predictor = predictors["chest-findings@1.0.0"]
    pictures = [film(64 + 8 * i).astype(np.float32) / 4095 for i in range(count)]
    together = predictor.predict(pictures)
    alone = [predictor.predict([p])[0] for p in pictures]
    assert len(together) == count
    for a, b in zip(together, alone, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)
    assert predictor.predict([]) == []


def test_maps_are_small_grids_between_0_and_1(predictors: dict[str, Predictor]) -> None:
    found = predictors["body-part@1.0.0"].predict([film(100).astype(np.float32) / 4095])[0]
    assert set(found.saliency) == set(found.scores) >= {"chest", "abdomen"}
    assert sum(found.scores.values()) == pytest.approx(1)
    for grid in found.saliency.values():
        assert grid.ndim == 2 and max(grid.shape) <= 32 and grid.dtype == np.float32
        assert grid.min() >= 0 and grid.max() <= 1
    assert found.distance is not None and found.distance > 0


def test_a_device_that_is_not_there_is_named_with_those_that_are(registry: Registry) -> None:
    with pytest.raises(DeviceError, match=r"gpu:7.*have: auto, cpu"):
        Predictor(registry.find("body-part"), device="gpu:7")


def test_a_bundle_whose_input_differs_from_its_network_is_refused(registry: Registry) -> None:
    sound = registry.find("body-part")
    spec = sound.spec.model_copy(update={"input": sound.spec.input.model_copy(update={"height": 99})})
    with pytest.raises(BundleError, match="99"):
        Predictor(Bundle(sound.path, spec, sound.digest), device="cpu")


PLACED = """
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.bundle import Bundle
from models.predictor import Predictor

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
bundle = Bundle.load(Path(sys.argv[1]))
for wanted in ("cpu:1", "cpu:2"):
    predictor = Predictor(bundle, device=wanted)
    call, outputs = predictor._call, []
    predictor._call = lambda x: outputs.extend(call(x)) or outputs
    predictor.predict([np.random.default_rng(1).random((64, 64), np.float32)])
    print(wanted, predictor.device, *sorted({part.device.rpartition("/device:")[2] for part in outputs}))
"""


def test_the_network_runs_on_the_device_that_was_asked_for(registry: Registry) -> None:
    """A parted processor stands for more devices; in a fresh process, as it can be parted only before it is used."""
    folder = registry.find("body-part").path
    done = subprocess.run([sys.executable, "-c", PLACED, folder], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["cpu:1 /CPU:1 CPU:1", "cpu:2 /CPU:2 CPU:2"], done.stderr[-2000:]
