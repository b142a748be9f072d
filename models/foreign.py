"""Opens a Keras file that was made elsewhere, and finds out how its network ends.

The file's description is read first: one that could run code while it is loaded is refused before Keras opens it.
Never trusts the file, never guesses what a score means.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from models.bundle import BundleError
from models.predictor import outer_output

HDF5 = (".h5", ".hdf5")
DESCRIPTION_BYTES = 16 * 1024**2
"""A thousand layers are described in one."""
RUNS_CODE = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
"""Layers that hold a program, or fetch one."""
# Where Keras keeps what a network is made of; keras.utils, which can fetch files, is not among them
MODULES = re.compile(
    r"builtins|keras(\.src)?(\.(layers|models|engine|initializers|regularizers|constraints|activations|ops|"
    r"dtype_policies|mixed_precision)(\..+)?)?"
)
ACTIVATIONS = ("softmax", "sigmoid", "linear")


class ImportRefused(BundleError):
    """A Keras file, or what was said about it, of which no bundle can be made."""


def open_network(path: Path) -> Any:
    """The Keras model in a .keras file, or in an HDF5 file of Keras 2 or 3.

    Raises:
        ImportRefused: no such file, no whole network in it, something that could run code, nothing that Keras can read,
            or several inputs or outputs.
    """
    if not path.is_file():
        raise ImportRefused(f"{path}: no such file")
    if path.suffix.lower() not in (".keras", *HDF5):
        raise ImportRefused(f"{path}: a file of Keras is needed (.keras, {', '.join(HDF5)})")
    description = _description(path)
    try:
        for part in _parts(description):
            _refuse_code(path, part)
    except RecursionError:
        raise ImportRefused(f"{path}: its description of the network is nested too deeply") from None
    import keras

    with tempfile.TemporaryDirectory() as folder:
        readable = path
        if path.suffix != path.suffix.lower():  # Keras goes by the name
            readable = shutil.copyfile(path, Path(folder) / f"network{path.suffix.lower()}")
        if readable.suffix in HDF5:
            readable = _without_groups(readable, description, Path(folder))
        try:
            model = keras.saving.load_model(readable, compile=False, safe_mode=True)
        except Exception as error:  # of a damaged file Keras, TensorFlow and zipfile raise what they please
            # Keras may quote the whole description of a network
            said = next(iter(str(error).splitlines()), "")[:300] or type(error).__name__
            raise ImportRefused(f"{path}: Keras {keras.__version__} cannot read it: {said}") from None
    if not model.built or not len(model.inputs) == len(model.outputs) == 1:
        raise ImportRefused(f"{path}: a network with one input of a stated shape and one output is needed")
    # Keras 2 and Keras 3 differ in whether one input is a list of one
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def read_json(path: Path, kind: TypeAdapter[Any]) -> Any:
    """What a person wrote for an import, checked.

    Raises:
        ImportRefused: the file cannot be read, or holds something else; says where.
    """
    try:
        return kind.validate_json(path.read_bytes())
    except OSError as error:
        raise ImportRefused(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ImportRefused(f"{path}: {in_words(error)}") from None


def in_words(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))


def input_shape(model: Any) -> tuple[int, int, int]:
    """Height, width and channels.

    Raises:
        ImportRefused: it takes no image, or a size that is left open.
    """
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or None in shape:
        raise ImportRefused(f"the network takes {shape}; (height, width, channels) with fixed numbers is needed")
    return shape


def as_logits(model: Any) -> tuple[Any, str]:
    """The network without its last activation, and which that was: softmax, sigmoid or linear. Alters `model`.

    Raises:
        ImportRefused: it ends in something else, so that nobody can tell what its scores mean.
    """
    import keras

    shape = tuple(model.outputs[0].shape)
    if len(shape) != 2 or shape[1] is None:
        raise ImportRefused(f"the network gives {shape[1:]}; one row of scores for each image is needed")
    layer = _last_layer(model)
    if isinstance(layer, keras.layers.Softmax) and layer in model.layers:
        return keras.Model(model.inputs[0], layer.input), "softmax"
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    if activation not in ACTIVATIONS:
        what = f"{type(layer).__name__} {activation}".rstrip()
        raise ImportRefused(
            f"the network ends in the layer {layer.name!r} ({what}); "
            f"a layer with one of the activations {', '.join(ACTIVATIONS)} is needed"
        )
    layer.activation = keras.activations.linear
    return model, activation


def feature_layer(model: Any) -> str:
    """The last layer that gives a feature map of more than one position and does not pool: what Grad-CAM weighs.

    Raises:
        ImportRefused: there is none.
    """
    import keras

    for layer in reversed(model.layers):
        shape: tuple[int | None, ...] = tuple(getattr(outer_output(layer), "shape", ()))
        if isinstance(layer, keras.layers.InputLayer) or "Pooling" in type(layer).__name__:
            continue
        if len(shape) == 4 and None not in shape[1:3] and shape[1:3] != (1, 1):
            return str(layer.name)
    raise ImportRefused("the network has no layer with a feature map, so nothing could be shown of what it looked at")


def _last_layer(model: Any) -> Any:
    """The layer that gives the output, also when it lies inside of a nested network."""
    import keras

    for layer in reversed(model.layers):
        if outer_output(layer) is model.outputs[0]:
            return _last_layer(layer) if isinstance(layer, keras.Model) else layer
    raise ImportRefused(f"the layer that gives the output of {model.name!r} cannot be found")


def _description(path: Path) -> dict[str, Any]:
    """What the file says the network is made of. Reads JSON and nothing else."""
    if path.suffix.lower() in HDF5:
        import h5py

        try:
            with h5py.File(path) as file:
                text = file.attrs.get("model_config")
        except OSError as error:
            raise ImportRefused(f"{path}: is no HDF5 file: {error}") from None
        if text is None:
            raise ImportRefused(f"{path}: holds weights only; save the whole network, with model.save(...)")
    else:
        try:
            with zipfile.ZipFile(path) as file:
                size = file.getinfo("config.json").file_size
                if size > DESCRIPTION_BYTES:
                    raise ImportRefused(f"{path}: its description of the network is {size} bytes long")
                text = file.read("config.json")
        except (zipfile.BadZipFile, KeyError) as error:
            raise ImportRefused(f"{path}: is no .keras file of Keras 3, or was cut off: {error}") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportRefused(f"{path}: its description of the network is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ImportRefused(f"{path}: its description of the network is no JSON object")
    found.pop("compile_config", None)  # the loss and the optimizer: never loaded, and often somebody's own
    return found


def _parts(node: Any) -> Iterator[dict[str, Any]]:
    """Every object with a class, at any depth."""
    if isinstance(node, dict):
        if "class_name" in node:
            yield node
        for inner in node.values():
            yield from _parts(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _parts(inner)


def _refuse_code(path: Path, part: dict[str, Any]) -> None:
    kind, module = str(part["class_name"]), part.get("module")
    config = part.get("config")
    name = config.get("name", "") if isinstance(config, dict) else ""
    if kind in RUNS_CODE:
        raise ImportRefused(
            f"{path}: holds a {kind} layer {name!r}. That is program code, which would run on this machine with all "
            "its rights, so it is not loaded. Build the network from Keras' own layers and save it again"
        )
    # A dotted name would be looked up elsewhere than its module says
    if not kind.isidentifier() or not (module is None or MODULES.fullmatch(str(module))):
        raise ImportRefused(f"{path}: {kind!r} of {module!r} is no part of Keras that a network is made of")


def _without_groups(path: Path, description: dict[str, Any], folder: Path) -> Path:
    """A copy without `groups` of depthwise convolutions, where there are some: Keras 2 wrote it, Keras 3 stops at it.

    It says nothing there: a depthwise convolution has one group for each channel.
    """
    dated = [
        p["config"]
        for p in _parts(description)
        if p["class_name"] == "DepthwiseConv2D" and "groups" in (p.get("config") or {})
    ]
    if not dated:
        return path
    import h5py

    for config in dated:
        del config["groups"]
    copy = shutil.copyfile(path, folder / f"{path.stem}.h5")
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(description)
    return copy
