"""The two bundles that ship, on the real network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from films_made import film
from PIL import Image

from models.bundle import Bundle, BundleError
from models.findings import Presence, Reader
from models.pixels import read
from models.predictor import DeviceError, Predictor
from models.registry import Registry

pytestmark = pytest.mark.model
SHIPPED = ("chest-abdomen@1.0.0", "cardiomegaly@1.0.0")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry()


@pytest.fixture(scope="module")
def predictors(registry: Registry) -> dict[str, Predictor]:
    return {ref: Predictor(registry.find(ref), device="cpu") for ref in SHIPPED}


@pytest.fixture(scope="module")
def reader(registry: Registry) -> Reader:
    return Reader(registry, registry.find("cardiomegaly"), device="cpu")


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
    assert bundle.audit_verdict in ("warn", "fail"), "checks are missing: it cannot be a pass"


def test_other_golden_scores_are_noticed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(registry.find("chest-abdomen"), device="cpu")
    predictor._weights = predictor._weights * 0
    predictor.verify()  # the maps are not part of it
    real = predictor.predict

    def shifted(pixels: list[np.ndarray]) -> list[object]:
        return real([np.clip(p + 0.3 * (p > 0.5), 0, 1) ** 3 for p in pixels])

    monkeypatch.setattr(predictor, "predict", shifted)
    with pytest.raises(BundleError, match="replaying"):
        predictor.verify()


@pytest.mark.parametrize("count", [1, 2, 8, 9])
def test_the_batch_does_not_change_the_scores(predictors: dict[str, Predictor], count: int) -> None:
    predictor = predictors["cardiomegaly@1.0.0"]
    pictures = [film(64 + 8 * i).astype(np.float32) / 4095 for i in range(count)]
    together = predictor.predict(pictures)
    alone = [predictor.predict([p])[0] for p in pictures]
    assert len(together) == count
    for a, b in zip(together, alone, strict=True):
        assert a.scores["Cardiomegaly"] == pytest.approx(b.scores["Cardiomegaly"], abs=1e-4)
    assert predictor.predict([]) == []


def test_maps_are_small_grids_between_0_and_1(predictors: dict[str, Predictor]) -> None:
    found = predictors["chest-abdomen@1.0.0"].predict([film(100).astype(np.float32) / 4095])[0]
    assert set(found.saliency) == set(found.scores) == {"chest", "abdomen"}
    assert sum(found.scores.values()) == pytest.approx(1)
    for grid in found.saliency.values():
        assert grid.shape == (7, 7) and grid.dtype == np.float32
        assert grid.min() >= 0 and grid.max() <= 1
    assert found.distance is not None and found.distance > 1, "a drawn picture is no film"


def test_a_device_that_is_not_there_is_named_with_those_that_are(registry: Registry) -> None:
    with pytest.raises(DeviceError, match=r"gpu:7.*have: auto, cpu"):
        Predictor(registry.find("chest-abdomen"), device="gpu:7")


def test_a_bundle_whose_input_differs_from_its_network_is_refused(registry: Registry) -> None:
    sound = registry.find("chest-abdomen")
    spec = sound.spec.model_copy(update={"input": sound.spec.input.model_copy(update={"height": 99})})
    with pytest.raises(BundleError, match="99"):
        Predictor(Bundle(sound.path, spec, sound.digest), device="cpu")


def test_real_chest_films_of_other_sources_pass_the_gate(
    reader: Reader, dicom_dir: Path, pydicom_file: Callable[[str], Path]
) -> None:
    paths = [
        pydicom_file("RG1_UNCR.dcm"),
        dicom_dir / "RG1_J2KI.dcm",
        dicom_dir / "966_fixed.dcm",
        dicom_dir / "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm",
        dicom_dir / "1.3.6.1.4.1.11129.5.5.110503645592756492463169821050252582267888.dcm",
    ]
    for path, reading in zip(paths, reader.read([read(p) for p in paths]), strict=True):
        assert reading.status == "analysed", f"{path.name}: {reading.reason}"
        assert reading.findings[0].presence in Presence


@pytest.mark.parametrize(
    "name",
    [
        "RG2_JPLL.dcm",
        "RG2_JLSN.dcm",
        "RG2_JPLY_fixed.dcm",
        "RG3_J2KI.dcm",
        "NM_Kakadu44_SOTmarkerincons.dcm",
        "331_DDH_138.dcm",
        "Fake_MONOHR1.dcm",
    ],
)
def test_hip_leg_hand_pelvis_and_a_negative_are_refused_by_their_pixels(
    reader: Reader, dicom_dir: Path, tmp_path: Path, name: str
) -> None:
    """As PNG, so that no header helps."""
    path = tmp_path / "twin.png"
    Image.fromarray(np.rint(read(dicom_dir / name).pixels * 255).astype(np.uint8)).save(path)
    (reading,) = reader.read([read(path)])
    assert reading.status == "refused" and reading.code in ("gate", "out_of_distribution"), reading.gate


def test_a_lower_leg_is_refused_by_its_header_first(reader: Reader, pydicom_file: Callable[[str], Path]) -> None:
    (reading,) = reader.read([read(pydicom_file("RG3_UNCR.dcm"))])
    assert (reading.status, reading.code) == ("refused", "body_part")


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constants_and_noise_are_refused(reader: Reader, value: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(int(value * 10))
    for pixels in (np.full((200, 200), int(255 * value)), rng.integers(0, 256, (200, 200))):
        path = tmp_path / "picture.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        assert reader.read([read(path)])[0].status == "refused"


def test_a_dicom_film_and_its_png_twin_get_the_same_score(
    reader: Reader,
    predictors: dict[str, Predictor],
    dicom_dir: Path,
    pydicom_file: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    for source in (dicom_dir / "966_fixed.dcm", pydicom_file("RG1_UNCR.dcm")):
        path = tmp_path / "twin.png"
        Image.fromarray(np.rint(read(source).pixels * 255).astype(np.uint8)).save(path)
        for predictor in predictors.values():
            dicom, png = predictor.predict([read(source).pixels, read(path).pixels])
            for label, score in dicom.scores.items():
                assert png.scores[label] == pytest.approx(score, abs=0.01)


PLACED = """
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.bundle import Bundle
from models.predictor import Predictor

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
bundle = Bundle.load(Path(sys.argv[1]))
for wanted in ("cpu", "cpu:1"):
    predictor = Predictor(bundle, device=wanted)
    call, outputs = predictor._call, []
    predictor._call = lambda x: outputs.extend(call(x)) or outputs
    predictor.predict([np.random.default_rng(1).random((64, 64), np.float32)])
    print(wanted, predictor.device, *sorted({part.device.rpartition("/device:")[2] for part in outputs}))
"""


def test_the_network_runs_on_the_device_that_was_asked_for(registry: Registry) -> None:
    """A processor parted in two stands for two devices; a fresh process, as it can be parted only before it is used."""
    folder = registry.find("chest-abdomen").path
    done = subprocess.run([sys.executable, "-c", PLACED, folder], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["cpu /CPU:0 CPU:0", "cpu:1 /CPU:1 CPU:1"], done.stderr[-2000:]
