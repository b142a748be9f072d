from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import preprocess
from models.predictor import HEAD, POOL
from training.errors import BackboneError
from training.learning import backbones
from training.learning.backbones import BACKBONES, build, joined, with_head

pytestmark = pytest.mark.model
SIZE = 96
FEATURES = {
    "mobilenet_v2": (3, 3, 1280),
    "vgg16": (3, 3, 512),
    "inception_v3": (1, 1, 2048),
    "densenet121": (3, 3, 1024),
    "efficientnet_v2_b0": (3, 3, 1280),
}


def films(count: int = 2, size: int = SIZE) -> Any:
    return np.random.default_rng(0).random((count, size, size, 1), dtype=np.float32)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_builds_without_weights_and_takes_grey_films(name: str) -> None:
    found = build(name, SIZE, weights=None, train_from="head")
    maps = np.asarray(found.trained(found.frozen(films())))
    assert maps.shape == (2, *FEATURES[name]) and np.isfinite(maps).all()
    assert not found.frozen.trainable_variables and not found.trained.trainable_variables


@pytest.mark.parametrize("train_from", ["input", "middle", "head"])
def test_a_network_is_the_same_wherever_it_is_cut(train_from: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from drawn import network

    monkeypatch.setattr(backbones, "BACKBONES", {"drawn": network})
    whole = build("drawn", SIZE, weights=None, train_from="head")
    cut = build("drawn", SIZE, weights=None, train_from=train_from)
    expected = np.asarray(whole.trained(whole.frozen(films())))
    assert np.allclose(cut.trained(cut.frozen(films())), expected, atol=1e-5)
    one = joined(cut)
    assert np.allclose(one.trained(one.frozen(films())), expected, atol=1e-5)
    assert one.frozen.output_shape == (None, SIZE, SIZE, 1)
    assert len(one.trained.trainable_variables) == len(cut.trained.trainable_variables)
    assert bool(cut.trained.trainable_variables) == (train_from != "head")


def test_behind_the_last_layer_only_the_head_is_trained() -> None:
    found = build("vgg16", SIZE, weights=None, train_from="block5_pool")
    assert found.frozen.output_shape == found.trained.output_shape == (None, 3, 3, 512)
    assert not found.trained.trainable_variables


def test_every_network_gets_the_channels_that_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """0, a half and 1 of a grey film, as each publication scales them."""
    expected = {
        "mobilenet_v2": [(0 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        "vgg16": [0 - 103.939, 127.5 - 116.779, 255 - 123.68],
        "inception_v3": [-1, 0, 1],
        "densenet121": [(0 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225],
        "efficientnet_v2_b0": [-1, 0, 1],
    }
    for name, values in expected.items():
        found = build(name, SIZE, weights=None, train_from="input")
        scaled = [np.asarray(found.frozen(np.full((1, SIZE, SIZE, 1), v, np.float32)))[0, 9, 9] for v in (0, 0.5, 1)]
        assert [scaled[k][k] for k in range(3)] == pytest.approx(values, abs=1e-3)


def test_what_does_not_exist_is_named_with_what_does(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"'resnet': no such network \(have: mobilenet_v2, vgg16"):
        build("resnet", SIZE, weights=None, train_from="head")
    with pytest.raises(BackboneError, match=r"train_from = 'top': vgg16 has no such layer .*block5_pool"):
        build("vgg16", SIZE, weights=None, train_from="top")
    with pytest.raises(BackboneError, match=r"none\.h5: no such file with starting weights"):
        build("vgg16", SIZE, weights=tmp_path / "none.h5", train_from="head")
    with pytest.raises(BackboneError, match=r"weights = 'vgg16\.h5': a Path, \"imagenet\" or \"none\" is needed"):
        build("vgg16", SIZE, weights="vgg16.h5", train_from="head")
    with pytest.raises(BackboneError, match=r"size = 40: .*75"):
        build("inception_v3", 40, weights=None, train_from="head")


def test_a_file_that_holds_no_such_weights_is_named(tmp_path: Path) -> None:
    from drawn import network

    (tmp_path / "text.weights.h5").write_text("no weights")
    network(SIZE, None).network.save_weights(tmp_path / "drawn.weights.h5")
    for name, known_as in (("vgg16", "VGG16"), ("mobilenet_v2", "mobilenet_v2")):
        for file in ("text", "drawn"):
            with pytest.raises(BackboneError, match=rf"{file}.weights.h5: does not hold the weights of {known_as}"):
                build(name, SIZE, weights=tmp_path / f"{file}.weights.h5", train_from="head")


@pytest.mark.parametrize("train_from", ["input", "middle", "exact"])
def test_a_network_with_a_head_survives_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_from: str
) -> None:
    import keras
    from drawn import network

    monkeypatch.setattr(backbones, "BACKBONES", {"drawn": network})
    cut = build("drawn", SIZE, weights=None, train_from=train_from)
    kernel, bias = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32), np.arange(3, dtype=np.float32)
    model = with_head(cut, cut.trained, kernel, bias)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    assert np.allclose(again(films()), model(films()), atol=1e-5)
    maps = np.asarray(cut.trained(cut.frozen(films())))
    assert np.allclose(model(films()), maps.mean(axis=(1, 2)) @ kernel + bias, atol=1e-4)
    assert again.get_layer(POOL).output.shape[1:] == (48,) and again.get_layer(HEAD).output.shape[1:] == (3,)


@pytest.mark.data
def test_mobilenets_weights_are_torchvisions_with_symmetric_padding(weights_dir: Path) -> None:
    import keras

    file = weights_dir / "mobilenet_v2_imagenet_notop.weights.h5"
    stock = backbones.mobilenet_v2(64, file)
    assert stock.padded and stock.network.output_shape == (None, 2, 2, 1280)
    paddings = [layer.padding for layer in stock.network.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert len(paddings) == 4 and all(p == ((1, 1), (1, 1)) for p in paddings)
    assert stock.network.get_layer("Conv1").padding == "valid"
    found = build("mobilenet_v2", 64, weights=file, train_from="block_6_project_BN")
    head = build("mobilenet_v2", 64, weights=file, train_from="exact")
    expected = np.asarray(head.frozen(films(size=64)))
    assert np.allclose(found.trained(found.frozen(films(size=64))), expected, atol=1e-4)


@pytest.mark.data
def test_mobilenet_sees_the_palace_on_a_grey_picture(weights_dir: Path) -> None:
    """The ImageNet classes of the same weights are told only with the right padding and scaling."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("china.jpg")[:, 100:527].mean(axis=2).astype(np.float32) / 255
    film = preprocess.resize(grey, height=224, width=224)[None, ..., None]
    found = build(
        "mobilenet_v2", 224, weights=weights_dir / "mobilenet_v2_imagenet_notop.weights.h5", train_from="head"
    )
    with np.load(weights_dir / "mobilenet_v2_imagenet_head.npz") as head:
        kernel, bias = head["kernel"].astype(np.float32), head["bias"].astype(np.float32)
    model = with_head(found, found.trained, kernel, bias)
    logits = np.asarray(model(film))[0]
    assert logits.argmax() == 698, "palace"
    assert logits[698] - np.sort(logits)[-2] > 1.5


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file"),
    [("vgg16", "vgg16_notop.weights.h5"), ("inception_v3", "inception_v3_u8_notop.weights.h5")],
)
def test_the_other_weight_files_fit_their_networks(weights_dir: Path, name: str, file: str) -> None:
    found = build(name, SIZE, weights=weights_dir / file, train_from="head")
    random = build(name, SIZE, weights=None, train_from="head")
    one, other = (np.asarray(b.frozen(films())) for b in (found, random))
    assert np.isfinite(one).all() and not np.allclose(one, other, rtol=0.1)
