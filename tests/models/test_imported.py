"""From somebody's own Keras file to a bundle whose scores are the network's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks_made import SIDE, nested, save_as_keras_2, vgg

from models import imported, predictor
from models.bundle import Bundle, GateSpec
from models.foreign import ImportRefused
from models.imported import Request
from models.predictor import Predictor
from models.seal import golden_images

pytestmark = pytest.mark.model


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., Request]:
    """Save a network and ask for its import."""

    def save(model: Any, *labels: str, suffix: str = ".keras", **said: Any) -> Request:
        path = tmp_path / f"own{suffix}"
        model.save(path)
        return Request(path, "own", "1.0.0", labels=labels, preprocessing="unit", **said)

    return save


def fed() -> Any:
    """The golden images as the preset `unit` makes them."""
    from models import families

    return families.inputs(families.steps("unit", (SIDE, SIDE, 3)), (SIDE, SIDE, 3))


def predicted(folder: Path) -> tuple[Bundle, Any]:
    bundle = Bundle.load(folder)
    own = Predictor(bundle, device="cpu")
    own.verify()
    return bundle, own.predict([p.astype(np.float32) / 255 for p in golden_images()])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_two_class_softmax_becomes_one_finding_with_the_networks_own_score(
    request_for: Callable[..., Request], suffix: str, tmp_path: Path
) -> None:
    model = vgg()
    folder = imported.make(request_for(model, "covid", "normal", suffix=suffix), tmp_path / "out")
    bundle, found = predicted(folder)
    assert bundle.spec.task == "binary" and [x.name for x in bundle.spec.labels] == ["covid"]
    assert bundle.audit_verdict == "absent" and bundle.spec.calibration.method == "none"
    expected = np.asarray(model(fed()))[:, 0]
    assert [p.scores["covid"] for p in found] == pytest.approx(expected.tolist(), abs=1e-4)
    assert not (tmp_path / "out" / ".building").exists()


def test_a_file_of_keras_2_becomes_a_bundle(request_for: Callable[..., Request], tmp_path: Path) -> None:
    model = vgg(seed=5)
    request = request_for(model, "normal", "covid", suffix=".h5")
    save_as_keras_2(model, request.model)
    _, found = predicted(imported.make(request, tmp_path))
    assert [p.scores["covid"] for p in found] == pytest.approx(np.asarray(model(fed()))[:, 1].tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("activation", "labels", "task", "becomes"),
    [
        ("softmax", ("chest", "abdomen", "hand"), None, "multiclass"),
        ("softmax", ("covid", "pneumonia", "normal"), None, "multilabel"),
        ("sigmoid", ("effusion", "pneumonia", "No Finding"), None, "multilabel"),
        ("sigmoid", ("effusion", "pneumonia", "mass"), "multilabel", "multilabel"),
        (None, ("chest", "abdomen", "hand"), "multiclass", "multiclass"),
        (None, ("effusion", "pneumonia", "mass"), "multilabel", "multilabel"),
    ],
)
def test_every_kind_of_output_keeps_its_scores(
    activation: str | None, labels: tuple[str, ...], task: Any, becomes: str, request_for: Any, tmp_path: Path
) -> None:
    import keras

    model = vgg(3, activation)
    bundle, found = predicted(imported.make(request_for(model, *labels, task=task), tmp_path))
    assert bundle.spec.task == becomes
    end = {"multiclass": "softmax", "multilabel": "sigmoid"}.get(task) if activation is None else None
    expected = np.asarray(keras.activations.get(end)(np.asarray(model(fed()))))
    for label in bundle.spec.labels:
        column = expected[:, labels.index(label.name)]
        assert [p.scores[label.name] for p in found] == pytest.approx(column.tolist(), abs=1e-4)


def test_one_sigmoid_is_a_finding_by_itself(request_for: Callable[..., Request], tmp_path: Path) -> None:
    model = vgg(1, "sigmoid")
    bundle, found = predicted(imported.make(request_for(model, "covid"), tmp_path))
    assert bundle.spec.task == "binary"
    assert [p.scores["covid"] for p in found] == pytest.approx(np.asarray(model(fed()))[:, 0].tolist(), abs=1e-4)


def test_maps_are_grad_cam_on_the_last_feature_map(request_for: Callable[..., Request], tmp_path: Path) -> None:
    """By the definition: slopes of the output, averaged over positions, times the features."""
    import keras
    import tensorflow as tf

    model = vgg(1, "sigmoid", seed=3)
    plain = vgg(1, None, seed=3)
    plain.set_weights(model.get_weights())
    both = keras.Model(plain.input, [plain.get_layer("block3_conv1").output, plain.output])
    with tf.GradientTape() as tape:
        features, output = both(tf.constant(fed()))
    steep = np.asarray(tape.gradient(output, features)).mean(axis=(1, 2))
    expected = np.maximum(np.einsum("nhwc,nc->nhw", np.asarray(features), steep), 0)
    _, found = predicted(imported.make(request_for(model, "covid"), tmp_path))
    for said, map_ in zip(found, expected, strict=True):
        assert said.saliency["covid"].shape == (16, 16)
        assert np.allclose(said.saliency["covid"], map_ / max(map_.max(), 1e-12), atol=1e-3)
    assert any(map_.max() > 0 for map_ in expected)


def test_a_nested_network_is_explained_too(request_for: Callable[..., Request], tmp_path: Path) -> None:
    bundle, found = predicted(imported.make(request_for(nested(), "covid", "pneumonia", "normal"), tmp_path))
    assert bundle.spec.imported and bundle.spec.imported.features == "backbone"
    assert {name: m.shape for name, m in found[0].saliency.items()} == {"covid": (8, 8), "pneumonia": (8, 8)}


def test_the_card_says_what_is_known_and_what_is_not(request_for: Callable[..., Request], tmp_path: Path) -> None:
    gate = GateSpec(bundle="body-part", accept=["chest"], at_least=0.9)
    folder = imported.make(request_for(vgg(), "covid", "normal", gate=gate), tmp_path)
    card = (folder / "MODEL_CARD.md").read_text()
    for words in (
        "Research use only. Not a medical device.",
        "accept_unaudited = true",
        "On which images and patients it was trained and tested",
        "no probabilities",
        "COVID-19 (840539006, SCT)",
        "Not reported, as they name no finding: normal",
        "body-part must see chest first",
        "Youngest patient: 18 years",
    ):
        assert words in card
    assert json.loads((folder / "metrics.json").read_text()) == {"figures": []}


def test_an_existing_folder_is_left_as_it_is(request_for: Callable[..., Request], tmp_path: Path) -> None:
    request = request_for(vgg(), "covid", "normal")
    folder = imported.make(request, tmp_path)
    before = (folder / "SHA256SUMS").read_bytes()
    with pytest.raises(ImportRefused, match="is there already"):
        imported.make(request, tmp_path)
    assert (folder / "SHA256SUMS").read_bytes() == before


@pytest.mark.filterwarnings("ignore:.*softmax over axis:UserWarning")  # Keras' own, of a softmax of one output
@pytest.mark.parametrize(
    ("outputs", "activation", "labels", "changes", "words"),
    [
        (2, "softmax", ("covid",), {}, "the network has 2 outputs; a name of its own for each"),
        (2, "softmax", ("covid", "COVID"), {}, "a name of its own for each"),
        (2, "softmax", ("normal", "healthy"), {}, "none of them names a finding"),
        (1, "softmax", ("covid",), {}, "softmax of one output, which is always 1"),
        (2, None, ("covid", "flu"), {}, "say --task multiclass .* or --task multilabel"),
        (2, "softmax", ("covid", "flu"), {"task": "multilabel"}, "--task multilabel: does not fit 2 outputs"),
        (2, "sigmoid", ("covid", "flu"), {"task": "binary"}, "--task binary: does not fit .* findings covid, flu"),
        (2, "softmax", ("covid", "normal"), {"name": "My Net"}, "name: String should match"),
        (2, "softmax", ("covid", "normal"), {"version": "1"}, "version: String should match"),
        (2, "softmax", ("covid", "normal"), {"threshold": 50.0}, "threshold: .*less than or equal to 1"),
        (2, "softmax", ("covid", "normal"), {"preprocessing": "resnet"}, "resnet: is neither one of"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_leaves_nothing(
    outputs: int, activation: str | None, labels: Any, changes: Any, words: str, request_for: Any, tmp_path: Path
) -> None:
    request = replace(request_for(vgg(outputs, activation), *labels), **changes)
    with pytest.raises(ImportRefused, match=words):
        imported.make(request, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_bundle_that_would_not_give_the_networks_scores_is_not_made(
    request_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = predictor.scores.kept
    monkeypatch.setattr(predictor.scores, "kept", lambda *a, **k: kept(*a, **k) + 1)
    with pytest.raises(ImportRefused, match="differ from the network's own"):
        imported.make(request_for(vgg(), "covid", "normal"), tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_the_gate_is_said_in_one_word() -> None:
    assert imported.gate("body-part:chest,abdomen:0.9").accept == ["chest", "abdomen"]
    for wrong in ("body-part", "body-part:chest:high", "body-part:chest:2", "body-part::0.9"):
        with pytest.raises(ImportRefused, match="BUNDLE:LABEL:SCORE is needed"):
            imported.gate(wrong)


@pytest.mark.data
@pytest.mark.slow
def test_a_real_vgg16_is_imported(weights_dir: Path, request_for: Any, tmp_path: Path) -> None:
    """VGG16 at 224 px with the published head, as its authors' HDF5."""
    import keras
    from keras import layers

    base = keras.applications.VGG16(
        include_top=False, weights=weights_dir / "vgg16_notop.weights.h5", input_shape=(224, 224, 3)
    )
    x = layers.Flatten()(layers.AveragePooling2D((4, 4))(base.output))
    x = layers.Dropout(0.5)(layers.Dense(64, activation="relu")(x))
    model = keras.Model(base.input, layers.Dense(2, activation="softmax")(x))
    request = replace(request_for(model, "covid", "normal", suffix=".h5"), preprocessing="vgg16")
    bundle, found = predicted(imported.make(request, tmp_path))
    from models import families

    own = np.asarray(model(families.inputs(bundle.spec.preprocessing, (224, 224, 3))))[:, 0]
    assert [p.scores["covid"] for p in found] == pytest.approx(own.tolist(), abs=1e-3)
    assert found[0].saliency["covid"].shape == (14, 14)
