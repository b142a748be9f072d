"""Networks to start from. TensorFlow is imported inside functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.predictor import HEAD, POOL

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


MIDDLE, LAST = "block_13_expand_relu", "out_relu"


def mobilenet_v2(size: int, weights: Path | None, *, middle: bool = False) -> Any:
    """MobileNetV2 1.0 without its top, for (size, size, 3) standardised by ImageNet's mean and deviation.

    Gives (size / 32, size / 32, 1280) features; with `middle` (size / 16, size / 16, 1856): those, each repeated over
    2 x 2 positions, beside the 576 of block 13, which are less tied to ImageNet's classes and twice as fine.

    Keras pads stride-2 layers at the bottom and right only; the published weights were trained with padding on both
    sides. So the network is rebuilt with symmetric padding, and gives torchvision's features to 3e-5 (Sandler et al.,
    CVPR 2018). `weights` None: Keras fetches its own ImageNet weights for its own padding.
    """
    import keras

    inputs = keras.Input((size, size, 3))
    if weights is None:
        stock = keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights="imagenet")
        return keras.Model(inputs, _parts(stock, middle)(inputs, training=False))
    return keras.Model(
        inputs, _parts(_symmetric(size, weights), middle)(keras.layers.ZeroPadding2D(1)(inputs), training=False)
    )


def _parts(network: Any, middle: bool) -> Any:
    import keras

    if not middle:
        return network
    fine, last = (network.get_layer(name).output for name in (MIDDLE, LAST))
    together = keras.layers.Concatenate()([fine, keras.layers.UpSampling2D(2)(last)])
    return keras.Model(network.input, together)


def _symmetric(size: int, weights: Path) -> Any:
    import keras

    stock = keras.applications.MobileNetV2(input_shape=(size + 2, size + 2, 3), include_top=False, weights=None)

    def symmetric(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name == "Conv1":
            config["padding"] = "valid"
        if isinstance(layer, keras.layers.ZeroPadding2D):
            config["padding"] = ((1, 1), (1, 1))
        return type(layer).from_config(config)

    network = keras.models.clone_model(stock, clone_function=symmetric)
    network.load_weights(weights)
    return network


def with_head(backbone: Any, kernel: Any, bias: Any) -> Any:
    """The backbone, global average pooling and one dense layer with the given weights, named as the node expects."""
    import keras

    pooled = keras.layers.GlobalAveragePooling2D(name=POOL)(backbone.output)
    head = keras.layers.Dense(kernel.shape[1], name=HEAD)
    model = keras.Model(backbone.input, head(pooled))
    head.set_weights([kernel, bias])
    return model
