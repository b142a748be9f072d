"""Small Keras networks as people save them, written to files. Loads TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIDE = 64


def vgg(outputs: int = 2, activation: str | None = "softmax", *, side: int = SIDE, seed: int = 1) -> Any:
    """VGG16 in small with the head of the published COVID classifier: average pooling, dense, dropout, dense."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((side, side, 3), name="input_1")
    for block, filters in ((1, 4), (2, 8), (3, 8)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{block}_conv1")(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = layers.AveragePooling2D((4, 4), name="average_pooling2d")(x)
    x = layers.Dense(16, activation="relu", name="dense")(layers.Flatten(name="flatten")(x))
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(outputs, activation=activation, name="dense_1")(x), name="model_1")


def nested(activation: str | None = "softmax") -> Any:
    """A backbone and a head, each a network of its own, as transfer learning is often written."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(2)
    inputs = keras.Input((SIDE, SIDE, 3))
    features = layers.Conv2D(6, 3, strides=4, activation="relu", name="conv")(inputs)
    backbone = keras.Model(inputs, layers.MaxPooling2D()(features), name="backbone")
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3, activation=activation)], name="head")
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), backbone, head])


def with_lambda() -> Any:
    """A network with a program in it."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Lambda(lambda x: x / 255, output_shape=(SIDE, SIDE, 3), name="scaling"),
            layers.Conv2D(2, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )


def save_as_keras_2(model: Any, path: Path) -> Path:
    """The HDF5 file that Keras 2.3 would have written: no modules, old names, lists as nodes."""
    import h5py

    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["class_name"] = "Model"
        for layer in config["config"]["layers"]:
            own = layer["config"]
            own["dtype"] = "float32"
            if layer["class_name"] == "InputLayer":
                own["batch_input_shape"] = own.pop("batch_shape")
                del own["optional"], own["ragged"]
            for key in [k for k, value in own.items() if isinstance(value, dict)]:
                own[key] = {"class_name": own[key]["class_name"], "config": {}}
            layer["inbound_nodes"] = [
                [[*argument["config"]["keras_history"], {}] for argument in node["args"]]
                for node in layer["inbound_nodes"]
            ]
        for key in ("input_layers", "output_layers"):
            config["config"][key] = [config["config"][key]]
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.3.1"
    return path
