"""The Reader without a network: what is asked in which order, and what is said."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import findings
from models.bundle import BundleError
from models.engine import Prediction
from models.findings import Presence, Reader
from models.pixels import Frame, Header, NotAnalysable
from models.registry import Registry

GATE: dict[str, Any] = {"bundle": "chest-abdomen", "accept": ["chest"], "at_least": 0.9}
HEART: dict[str, Any] = {"modality": ["DX"], "body_part": ["CHEST"], "view_refused": ["LL"], "min_age_years": 18}
DX = Header(modality="DX", body_part="CHEST", view_position="PA", age_years=50)


class Network:
    """Reads its answers out of the image: [0, 0] is the chest score, [0, 1] the distance, [0, 2] the finding."""

    def __init__(self, bundle: Any, *, device: str, threads: int) -> None:
        self.bundle, self.device, self.seen = bundle, f"{device}/{threads}", 0

    def predict(self, pixels: Sequence[Any]) -> list[Prediction]:
        self.seen += len(pixels)
        return [self.one(*(float(v) for v in p[0])) for p in pixels]

    def one(self, chest: float, distance: float, score: float) -> Prediction:
        if self.bundle.spec.name == "chest-abdomen":
            return Prediction({"chest": chest, "abdomen": 1 - chest}, distance, {})
        return Prediction({"Cardiomegaly": score}, None, {"Cardiomegaly": np.ones((2, 2), np.float32)})


def image(*, chest: float = 0.99, distance: float = 0.5, score: float = 0.8, header: Header = DX) -> Frame:
    return Frame(np.array([[chest, distance, score]], np.float32), header)


@pytest.fixture
def registry(bundle_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setattr(findings, "Predictor", Network)
    code = {"value": "1", "scheme": "SCT", "meaning": "Chest"}
    label = {"finding": code, "site": code, "threshold": 0.9, "lower": 0.1, "operating_point": "fixed"}
    bundle_folder(root=tmp_path, gate=GATE, accepts=HEART)
    gate = bundle_folder(
        root=tmp_path,
        name="chest-abdomen",
        version="1.0.0",
        task="multiclass",
        labels=[label | {"name": "chest"}, label | {"name": "abdomen"}],
        calibration={"method": "temperature", "slope": [1, 1], "intercept": [0, 0]},
        out_of_distribution={"method": "mahalanobis", "file": "metrics.json", "limit": 1.0},
    )
    assert gate.is_dir()
    return Registry([tmp_path])


@pytest.fixture
def reader(registry: Registry) -> Reader:
    return Reader(registry, registry.find("heart"))


@pytest.mark.parametrize(
    ("score", "presence"),
    [
        (0.5, Presence.PRESENT),
        (1.0, Presence.PRESENT),
        (0.4999, Presence.UNDETERMINED),
        (0.25, Presence.UNDETERMINED),
        (0.2499, Presence.ABSENT),
        (0.0, Presence.ABSENT),
    ],
)
def test_the_operating_point_decides_the_presence(reader: Reader, score: float, presence: Presence) -> None:
    (reading,) = reader.read([image(score=score)])
    (finding,) = reading.findings
    assert reading.status == "analysed" and reading.code == reading.reason == ""
    assert finding.presence is presence and finding.score == pytest.approx(score)
    assert finding.calibrated and finding.finding.meaning == "Cardiomegaly"
    assert reading.gate["chest"] == pytest.approx(0.99) and reading.gate_bundle == "chest-abdomen@1.0.0"
    assert reading.saliency["Cardiomegaly"].shape == (2, 2)


def test_what_the_gate_does_not_take_is_refused_with_score_and_limit(reader: Reader) -> None:
    (reading,) = reader.read([image(chest=0.123)])
    assert (reading.status, reading.code, reading.findings, dict(reading.scores)) == ("refused", "gate", (), {})
    assert reading.reason == "The gate chest-abdomen@1.0.0 says chest 12.3 %, at least 90.0 % is needed"


def test_what_the_gate_does_not_know_is_refused_whatever_its_score(reader: Reader) -> None:
    (reading,) = reader.read([image(chest=1.0, distance=1.23)])
    assert (reading.status, reading.code, reading.distance) == ("refused", "out_of_distribution", pytest.approx(1.23))
    assert "distance 1.23, at most 1.00 is accepted" in reading.reason


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (Header(modality="CT"), "modality"),
        (Header(body_part="HAND"), "body_part"),
        (Header(view_position="LL"), "view"),
        (Header(age_years=17.9), "age"),
        (Header(age_years=0.0), "age"),
    ],
)
def test_a_header_that_contradicts_is_refused_and_the_gate_is_still_asked(
    reader: Reader, header: Header, code: str
) -> None:
    (reading,) = reader.read([image(header=header)])
    assert (reading.status, reading.code) == ("refused", code)
    assert reading.reason and not reading.findings and not reading.scores
    assert reading.gate


def test_sop_class_and_presentation_intent_are_asked_too(
    registry: Registry, bundle_folder: Any, tmp_path: Path
) -> None:
    accepts = {"sop_classes": ["1.2.3"], "presentation_intent_refused": ["FOR PROCESSING"]}
    bundle_folder(root=tmp_path, version="2.0.0", accepts=accepts)
    reader = Reader(registry, registry.find("heart"))
    raw = Header(sop_class_uid="1.2.3", presentation_intent="FOR PROCESSING")
    codes = [r.code for r in reader.read([image(header=Header(sop_class_uid="1.2.4")), image(header=raw)])]
    assert codes == ["sop_class", "presentation_intent"]


def test_a_picture_without_header_contradicts_nothing(reader: Reader) -> None:
    (reading,) = reader.read([image(header=Header(rows=1, columns=3))])
    assert reading.status == "analysed"


def test_every_item_gets_its_reading_in_its_place(reader: Reader) -> None:
    broken = NotAnalysable("truncated", "The pixel data ends early.")
    items = [image(score=0.9), broken, image(chest=0.1), image(header=Header(modality="MR")), image(score=0.1)]
    readings = reader.read(items)
    assert [r.status for r in readings] == ["analysed", "failed", "refused", "refused", "analysed"]
    assert (readings[1].code, readings[1].reason) == ("truncated", broken.reason)
    assert [r.findings[0].presence for r in (readings[0], readings[4])] == [Presence.PRESENT, Presence.ABSENT]
    assert reader._predictor.seen == 2, "what is refused never reaches the network"
    assert reader.read([]) == []


def test_a_gate_can_be_tightened_and_never_loosened(registry: Registry) -> None:
    heart = registry.find("heart")
    strict = Reader(registry, heart, gate_at_least=0.995)
    assert strict.read([image(chest=0.99)])[0].code == "gate"
    assert strict.gate_at_least == 0.995
    for wrong in (0.5, 1.1):
        with pytest.raises(ValueError, match=r"asks for 0\.9"):
            Reader(registry, heart, gate_at_least=wrong)
    with pytest.raises(ValueError, match="has no gate"):
        Reader(registry, registry.find("chest-abdomen"), gate_at_least=0.95)


def test_a_bundle_without_a_gate_uses_its_own_distance(registry: Registry) -> None:
    reader = Reader(registry, registry.find("chest-abdomen"))
    known, unknown = reader.read([image(), image(distance=1.5)])
    assert known.status == "analysed" and [f.label for f in known.findings] == ["chest", "abdomen"]
    assert (unknown.status, unknown.code, unknown.findings) == ("refused", "out_of_distribution", ())
    assert not known.gate and known.distance == pytest.approx(0.5)


def test_a_gate_that_is_missing_or_lacks_the_label_is_an_error(
    registry: Registry, bundle_folder: Any, tmp_path: Path
) -> None:
    bundle_folder(root=tmp_path, name="lost", gate=GATE | {"bundle": "nowhere"})
    bundle_folder(root=tmp_path, name="hand", gate=GATE | {"accept": ["hand"]})
    with pytest.raises(BundleError, match="no such bundle"):
        Reader(registry, registry.find("lost"))
    with pytest.raises(BundleError, match="no label hand"):
        Reader(registry, registry.find("hand"))


def test_device_and_threads_reach_the_network(registry: Registry) -> None:
    assert Reader(registry, registry.find("heart"), device="gpu:1", threads=3).device == "gpu:1/3"


def test_bundles_share_their_gate_and_two_readers_their_network(
    registry: Registry, bundle_folder: Any, tmp_path: Path
) -> None:
    bundle_folder(root=tmp_path, name="lung", gate=GATE)
    first, second = (Reader(registry, registry.find(name), device="cpu") for name in ("heart", "lung"))
    assert first._gate_predictor is second._gate_predictor
    assert first._predictor is not second._predictor
    assert Reader(registry, registry.find("heart"), device="cpu")._predictor is first._predictor
    elsewhere = Reader(registry, registry.find("heart"), device="cpu", threads=2)
    assert elsewhere._predictor is not first._predictor


def test_a_network_that_no_reader_holds_is_let_go(registry: Registry) -> None:
    reader = Reader(registry, registry.find("heart"), device="gpu:5")
    assert any(device == "gpu:5" for _, device, _ in findings._LOADED)
    del reader
    gc.collect()
    assert not any(device == "gpu:5" for _, device, _ in findings._LOADED)
