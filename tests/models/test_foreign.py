"""Keras files of other people: what is opened, what is refused before it is opened, and how a network ends."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks_made import SIDE, nested, save_as_keras_2, vgg, with_lambda

from models import foreign
from models.foreign import ImportRefused

pytestmark = pytest.mark.model


def picture() -> Any:
    return np.random.default_rng(3).random((2, SIDE, SIDE, 3), np.float32)


def altered(path: Path, **changes: str) -> Path:
    """The .keras file with texts of its description replaced."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    text = parts["config.json"].decode()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (parts | {"config.json": text.encode()}).items():
            file.writestr(name, content)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_saved_network_is_opened_and_gives_its_own_scores(suffix: str, tmp_path: Path) -> None:
    model = vgg()
    model.save(tmp_path / f"m{suffix}")
    opened = foreign.open_network(tmp_path / f"m{suffix}")
    assert np.allclose(opened(picture()), model(picture()), atol=1e-6)
    assert foreign.input_shape(opened) == (SIDE, SIDE, 3)


def test_a_file_of_keras_2_is_opened(tmp_path: Path) -> None:
    model = vgg()
    opened = foreign.open_network(save_as_keras_2(model, tmp_path / "m.h5"))
    assert np.allclose(opened(picture()), model(picture()), atol=1e-6)


def test_the_groups_that_keras_2_wrote_for_depthwise_convolutions_do_not_stop_keras_3(tmp_path: Path) -> None:
    import h5py
    import keras

    layers = [keras.Input((SIDE, SIDE, 3)), keras.layers.DepthwiseConv2D(3), keras.layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    path = tmp_path / "m.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    before = path.read_bytes()
    assert np.allclose(foreign.open_network(path)(picture()), model(picture()), atol=1e-6)
    assert path.read_bytes() == before, "a person's file is only read"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_layer_is_refused_before_the_file_is_loaded(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    path = tmp_path / f"m{suffix}"
    with_lambda().save(path)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_a, **_k: pytest.fail("it was loaded"))
    with pytest.raises(ImportRefused, match=r"Lambda layer 'scaling'.*program code.*not loaded"):
        foreign.open_network(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"module": "keras.layers", "class_name": "Flatten"', '"module": "os", "class_name": "system"'),
        ('"module": "keras.layers", "class_name": "Flatten"', '"module": "keras", "class_name": "layers.Lambda"'),
        ('"module": "keras.layers", "class_name": "Flatten"', '"module": "keras.utils", "class_name": "get_file"'),
        ('"module": "keras.layers", "class_name": "Flatten"', '"module": "keras.layers", "class_name": "TFSMLayer"'),
    ],
)
def test_what_is_no_part_of_a_network_is_refused(old: str, new: str, tmp_path: Path) -> None:
    vgg().save(tmp_path / "m.keras")
    with pytest.raises(ImportRefused, match=r"no part of Keras|program code"):
        foreign.open_network(altered(tmp_path / "m.keras", **{old: new}))


def test_a_custom_layer_gets_keras_own_words(tmp_path: Path) -> None:
    vgg().save(tmp_path / "m.keras")
    with pytest.raises(ImportRefused, match=r"m\.keras: Keras .* cannot read it"):
        foreign.open_network(altered(tmp_path / "m.keras", **{'"class_name": "Flatten"': '"class_name": "Mine"'}))


def test_files_that_hold_no_network_are_named(tmp_path: Path) -> None:
    model = vgg()
    model.save_weights(tmp_path / "only.weights.h5")
    (tmp_path / "text.keras").write_text("hello")
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "m.pt").write_text("hello")
    for name, words in (
        ("gone.keras", "no such file"),
        ("m.pt", r"a file of Keras is needed \(.keras, .h5, .hdf5\)"),
        ("text.keras", "no .keras file of Keras 3"),
        ("text.h5", "no HDF5 file"),
        ("only.weights.h5", "holds weights only"),
    ):
        with pytest.raises(ImportRefused, match=words):
            foreign.open_network(tmp_path / name)


def test_a_network_of_several_inputs_or_without_a_stated_one_is_refused(tmp_path: Path) -> None:
    import keras

    a, b = keras.Input((4,)), keras.Input((4,))
    keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Add()([a, b]))).save(tmp_path / "two.keras")
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)]).save(tmp_path / "open.keras")
    for name in ("two", "open"):
        with pytest.raises(ImportRefused, match="one input of a stated shape and one output"):
            foreign.open_network(tmp_path / f"{name}.keras")


@pytest.mark.parametrize("shape", [(None, None, 3), (10,)])
def test_an_input_that_is_no_image_of_a_fixed_size_is_refused(shape: tuple[int | None, ...]) -> None:
    import keras

    model = keras.Sequential([keras.Input(shape), keras.layers.Dense(2)])
    with pytest.raises(ImportRefused, match=r"\(height, width, channels\) with fixed numbers is needed"):
        foreign.input_shape(model)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
@pytest.mark.parametrize("make", [lambda a: vgg(3, a), nested])
def test_the_last_activation_is_found_and_taken_off_also_inside_of_a_nested_network(
    make: Any, activation: str | None, tmp_path: Path
) -> None:
    import keras

    make(activation).save(tmp_path / "m.keras")
    model = foreign.open_network(tmp_path / "m.keras")
    before = np.asarray(model(picture()))
    logits, found = foreign.as_logits(model)
    assert found == (activation or "linear")
    after = keras.activations.get(activation)(np.asarray(logits(picture())))
    assert np.allclose(after, before, atol=1e-6)


def test_a_softmax_layer_is_taken_off() -> None:
    import keras

    plain = vgg(2, None)
    model = keras.Model(plain.input, keras.layers.Softmax()(plain.output))
    logits, found = foreign.as_logits(model)
    assert found == "softmax" and np.allclose(logits(picture()), plain(picture()))


def test_a_network_whose_scores_nobody_can_read_is_refused() -> None:
    import keras

    with pytest.raises(ImportRefused, match=r"ends in the layer 'dense_1' \(Dense tanh\).*softmax, sigmoid, linear"):
        foreign.as_logits(vgg(2, "tanh"))
    plain = vgg()
    with pytest.raises(ImportRefused, match="one row of scores"):
        foreign.as_logits(keras.Model(plain.input, plain.get_layer("block3_pool").output))


def test_grad_cam_weighs_the_last_map_that_is_not_pooled() -> None:
    import keras

    assert foreign.feature_layer(vgg()) == "block3_conv1"
    assert foreign.feature_layer(nested()) == "backbone"
    flat = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(ImportRefused, match="no layer with a feature map"):
        foreign.feature_layer(flat)


def test_a_description_out_of_all_proportion_is_refused(tmp_path: Path) -> None:
    long, deep = tmp_path / "long.keras", tmp_path / "deep.keras"
    for path, text in ((long, "{" + " " * 20_000_000 + "}"), (deep, "[" * 100_000)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("config.json", text)
    with pytest.raises(ImportRefused, match="is 20000002 bytes long"):
        foreign.open_network(long)
    with pytest.raises(ImportRefused, match="its description of the network"):
        foreign.open_network(deep)


def test_a_damaged_network_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.keras"
    config = {"class_name": "Functional", "module": "keras", "config": {"layers": [{"class_name": "DepthwiseConv2D"}]}}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("model.weights.h5", b"no HDF5")
    with pytest.raises(ImportRefused, match=r"damaged\.keras: Keras .* cannot read it"):
        foreign.open_network(path)
