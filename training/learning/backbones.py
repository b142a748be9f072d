"""Networks to start from, each split in two: a part that stays as it is, and a part that is trained.

Every network takes (size, size, 1) grey in [0, 1] and does its own scaling, so that all recipes share one
preprocessing. TensorFlow is imported inside functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.predictor import HEAD, POOL
from training.errors import BackboneError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)

Start = Path | str | None
"""Starting weights: a file; "imagenet", which Keras fetches; "none" or None."""


@dataclass(frozen=True)
class Stock:
    """A network as it was published: what its three channels must be, and whether its weights need a border of one
    pixel of zeros around them."""

    network: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padded: bool = False


@dataclass(frozen=True)
class Backbone:
    """`frozen` (size, size, 1) to the activations where training starts; `trained` from there to feature maps."""

    frozen: Any
    trained: Any


def build(name: str, size: int, *, weights: Start, train_from: str) -> Backbone:
    """A network without its top.

    `train_from`: the layer behind which everything is trained; "exact" and "head" train nothing but the head that
    comes later, "input" all.

    Raises:
        BackboneError: there is no such network or layer, or the weights do not fit.
    """
    import keras

    if name not in BACKBONES:
        raise BackboneError(f"backbone = {name!r}: no such network (have: {', '.join(BACKBONES)})")
    if isinstance(weights, str) and weights not in ("imagenet", "none"):
        raise BackboneError(f'weights = {weights!r}: a Path, "imagenet" or "none" is needed')
    try:
        stock = BACKBONES[name](size, weights)
    except ValueError as error:
        raise BackboneError(f"size = {size}: {name}: {error}") from None
    network = stock.network
    inputs = keras.Input((size, size, 1))
    if train_from in ("exact", "head", "input"):
        cut = network.input if train_from == "input" else network.output
    else:
        try:
            cut = network.get_layer(train_from).output
        except ValueError:
            last = [layer.name for layer in network.layers if layer.name.endswith(("add", "concat", "pool", "out"))]
            raise BackboneError(f"train_from = {train_from!r}: {name} has no such layer (for one: {last})") from None
    x = _scaled(size, stock)(inputs)
    frozen = keras.Model(inputs, x if train_from == "input" else keras.Model(network.input, cut)(x, training=False))
    frozen.trainable = False
    same = cut is network.output  # behind the last layer there is only the head
    return Backbone(frozen, _as_it_is(cut.shape[1:]) if same else keras.Model(cut, network.output))


def joined(backbone: Backbone) -> Backbone:
    """The same network with nothing before its trained part, in which the frozen layers stay frozen."""
    import keras

    inputs = keras.Input(backbone.frozen.input_shape[1:])
    whole = keras.Model(inputs, backbone.trained(backbone.frozen(inputs, training=False)))
    return Backbone(_as_it_is(inputs.shape[1:]), whole)


def with_head(backbone: Backbone, trained: Any, kernel: Any, bias: Any) -> Any:
    """What a bundle holds: both parts, global average pooling and one dense layer, named as the node expects.

    `trained`: the trained copy of `backbone.trained`; `kernel` (features, labels), `bias` (labels).
    """
    import keras

    inputs = keras.Input(backbone.frozen.input_shape[1:])
    maps = trained(backbone.frozen(inputs, training=False), training=False)
    head = keras.layers.Dense(kernel.shape[1], name=HEAD, dtype="float32")
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D(name=POOL, dtype="float32")(maps)))
    head.set_weights([kernel, bias])
    return model


def _as_it_is(shape: tuple[int, ...]) -> Any:
    import keras

    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def mobilenet_v2(size: int, weights: Start) -> Stock:
    """MobileNetV2 1.0 (Sandler et al., CVPR 2018): (size / 32, size / 32, 1280) features.

    Keras pads stride-2 layers at the bottom and right only; torchvision's published weights were trained with padding
    on both sides. So for a file the network is rebuilt with symmetric padding, and gives torchvision's features to
    3e-5; "imagenet" are Keras' own weights for its own padding.
    """
    import keras

    if not isinstance(weights, Path):
        return Stock(_stock("MobileNetV2", size, weights), IMAGENET_MEAN, IMAGENET_STD)
    stock = keras.applications.MobileNetV2(input_shape=(size + 2, size + 2, 3), include_top=False, weights=None)

    def symmetric(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name == "Conv1":
            config["padding"] = "valid"
        if isinstance(layer, keras.layers.ZeroPadding2D):
            config["padding"] = ((1, 1), (1, 1))
        return type(layer).from_config(config)

    network = keras.models.clone_model(stock, clone_function=symmetric)
    _load(network, weights, "mobilenet_v2")
    return Stock(network, IMAGENET_MEAN, IMAGENET_STD, padded=True)


def vgg16(size: int, weights: Start) -> Stock:
    """VGG16 (Simonyan and Zisserman, ICLR 2015): (size / 32, size / 32, 512) features. Mean-free values to 255."""
    mean = tuple(m / 255 for m in CAFFE_MEAN)
    return Stock(_stock("VGG16", size, weights), mean, (1 / 255,) * 3)


def inception_v3(size: int, weights: Start) -> Stock:
    """InceptionV3 (Szegedy et al., CVPR 2016): 2048 features. Values from -1 to 1."""
    return Stock(_stock("InceptionV3", size, weights), (0.5,) * 3, (0.5,) * 3)


def densenet121(size: int, weights: Start) -> Stock:
    """DenseNet121 (Huang et al., CVPR 2017): (size / 32, size / 32, 1024) features."""
    return Stock(_stock("DenseNet121", size, weights), IMAGENET_MEAN, IMAGENET_STD)


def efficientnet_v2_b0(size: int, weights: Start) -> Stock:
    """EfficientNetV2-B0 (Tan and Le, ICML 2021): (size / 32, size / 32, 1280) features. Values from -1 to 1."""
    return Stock(_stock("EfficientNetV2B0", size, weights, include_preprocessing=False), (0.5,) * 3, (0.5,) * 3)


BACKBONES: Mapping[str, Callable[[int, Start], Stock]] = {
    "mobilenet_v2": mobilenet_v2,
    "vgg16": vgg16,
    "inception_v3": inception_v3,
    "densenet121": densenet121,
    "efficientnet_v2_b0": efficientnet_v2_b0,
}


def _stock(name: str, size: int, weights: Start, **options: Any) -> Any:
    """A network of keras.applications; without weights or with a file's no network connection is made."""
    import keras

    start = "imagenet" if weights == "imagenet" else None
    make = getattr(keras.applications, name)
    try:
        network = make(input_shape=(size, size, 3), include_top=False, weights=start, **options)
    except ValueError:
        raise
    except Exception as error:  # Keras raises a bare one when it cannot fetch its weights
        if start is None:
            raise
        raise BackboneError(
            f'weights = "imagenet": Keras could not fetch them ({error}); give a file with --weights FILE, or "none"'
        ) from None
    if isinstance(weights, Path):
        _load(network, weights, name)
    return network


def _load(network: Any, weights: Path, name: str) -> None:
    if not weights.is_file():
        raise BackboneError(f"{weights}: no such file with starting weights")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that a file does not hold
            network.load_weights(weights)
    except (ValueError, OSError, UserWarning) as error:
        said = "" if isinstance(error, UserWarning) else f": {str(error).splitlines()[0]}"
        raise BackboneError(
            f"{weights}: does not hold the weights of {name}, perhaps another network's{said}"
        ) from None


def _scaled(size: int, found: Stock) -> Any:
    """(size, size, 1) to three equal channels, each less the mean and divided by the deviation."""
    import keras

    inputs = keras.Input((size, size, 1))
    x = keras.layers.Concatenate(name="grey_to_rgb")([inputs] * 3)
    variance = [s * s for s in found.std]
    x = keras.layers.Normalization(mean=list(found.mean), variance=variance, name="standardised")(x)
    return keras.Model(inputs, keras.layers.ZeroPadding2D(1, name="border")(x) if found.padded else x)
