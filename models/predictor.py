"""Runs one bundle's network. Loads TensorFlow, and only when a predictor is built.

Fixed shapes, warmed at construction. On the CPU our own networks run in LiteRT, converted in memory; everything else
is a traced function. Scores, features and activation maps come from the same pass. Knows no headers and no gates.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from models import explain, preprocess, scores
from models.bundle import MODEL, Bundle, BundleError, Imported
from models.engine import Floats, Prediction, replay

BATCHES: dict[str, tuple[int, ...]] = {"CPU": (1, 4), "GPU": (1, 16)}
"""Images in one call of a traced function. On a CPU more gain little and cost 20 MB each; LiteRT takes single ones."""
POOL, HEAD = "pool", "logits"
"""Names of the pooling layer and of the dense layer behind it, which training gives to every network. A bundle whose
network ends otherwise says so in `imported`."""


class DeviceError(Exception):
    """The device that was asked for is not there."""


class Predictor:
    """A loaded, warmed network.

    `device`: "auto" (the first GPU, else the CPU), "cpu", "gpu:0" ...; `threads`: operator threads, 0 = TensorFlow's
    choice; it counts for the whole process and must be the same for all predictors in it.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto", threads: int = 0) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _without_chatter():
            import keras
            import tensorflow as tf
        tf.get_logger().setLevel("ERROR")

        self._bundle, self._tf = bundle, tf
        _use_threads(tf, threads)
        self.device = _device(tf, device)
        spec = bundle.spec
        self._names = [label.name for label in spec.labels]
        outputs = spec.imported.outputs if spec.imported else self._names
        self._columns = [outputs.index(name) for name in self._names]
        self._exclusive = spec.imported.exclusive if spec.imported else spec.task == "multiclass"
        reference = spec.out_of_distribution
        self._reference = scores.Reference.load(bundle.file(reference.file)) if reference else None
        with tf.device(self.device):
            model = keras.saving.load_model(bundle.file(MODEL), compile=False, safe_mode=True)
            shape = (spec.input.height, spec.input.width, spec.input.channels)
            if tuple(model.input_shape[1:]) != shape:
                raise BundleError(f"{bundle.ref}: input {shape} in bundle.json, {model.input_shape[1:]} in {MODEL}")
            self._kernel: Any = None if spec.imported else np.asarray(model.get_layer(HEAD).kernel, np.float32)
            network = tf.function(_explained(model, spec.imported), reduce_retracing=False)
            self._call, self._sizes = network, BATCHES["GPU" if "GPU" in self.device else "CPU"]
            if self.device == "/CPU:0" and not spec.imported:
                self._call, self._sizes = _litert(tf, network, shape, threads=threads), (1,)
            for size in self._sizes:
                self._forward(np.zeros((size, *shape), np.float32))

    def predict(self, pixels: Sequence[Floats]) -> list[Prediction]:
        """One prediction for each (rows, columns) array of grey in [0, 1], in order.

        Raises:
            ValueError: the network gave a score that is not finite.
        """
        return self.predict_inputs([preprocess.run(self._bundle.spec.steps, p) for p in pixels])

    def predict_inputs(self, inputs: Sequence[Floats]) -> list[Prediction]:
        """One prediction for each (height, width, channels) array that the bundle's preprocessing gave, in order.

        Raises:
            ValueError: as `predict`.
        """
        found: list[Prediction] = []
        while len(found) < len(inputs):
            left = inputs[len(found) :]
            size = self._sizes[0] if len(left) == 1 else self._sizes[-1]
            found += self._predict_batch(left[:size], size)
        return found

    def verify(self) -> None:
        """Replay golden.npz.

        Raises:
            BundleError: as `replay`.
        """
        replay(self._bundle, self.predict)

    def _predict_batch(self, inputs: Sequence[Floats], size: int) -> list[Prediction]:
        batch = np.zeros((size, *inputs[0].shape), np.float32)
        batch[: len(inputs)] = inputs
        features, pooled, outputs, *slopes = (part[: len(inputs)] for part in self._forward(batch))
        spec = self._bundle.spec
        # A softmax whose outputs are all labels stays one; calibration scales it as a whole
        multiclass = spec.task == "multiclass"
        logits = outputs if multiclass else scores.kept(outputs, self._columns, exclusive=self._exclusive)
        calibration = spec.calibration
        table = scores.calibrated(
            logits, task=spec.task, slope=np.array(calibration.slope), intercept=np.array(calibration.intercept)
        )
        classes = logits.argmax(axis=1)  # 0 throughout when there is one label
        distances = self._reference.distance(pooled, classes) if self._reference else None
        if not np.isfinite(table).all() or (distances is not None and not np.isfinite(distances).all()):
            raise ValueError(f"{self._bundle.ref}: a score is not finite")
        return [
            Prediction(
                {name: float(v) for name, v in zip(self._names, table[i], strict=True)},
                None if distances is None else float(distances[i]),
                self._maps(features[i], slopes[0][i] if slopes else self._kernel),
            )
            for i in range(len(inputs))
        ]

    def _maps(self, features: Floats, weights: Floats) -> dict[str, Floats]:
        """The activation map of each label, from features (height, width, channels) and weights (channels, outputs)."""
        told_apart = explain.contrast(weights) if self._exclusive else weights
        found = zip(self._names, self._columns, strict=True)
        return {name: explain.activation_map(features, told_apart[:, k]) for name, k in found}

    def _forward(self, batch: Floats) -> list[Floats]:
        with self._tf.device(self.device):
            return [np.asarray(part, np.float32) for part in self._call(self._tf.constant(batch))]


def outer_output(layer: Any) -> Any:
    """What a layer gives in the network around it. A nested network's own `output` is a tensor of its inside."""
    import keras

    return keras.Layer.output.fget(layer)


def _explained(model: Any, imported: Imported | None) -> Callable[[Any], list[Any]]:
    """From a batch to features, their mean over positions, the raw outputs, and Grad-CAM's weights where needed."""
    import keras
    import tensorflow as tf

    if imported is None:
        pool, head = model.get_layer(POOL), model.get_layer(HEAD)
        whole = keras.Model(model.inputs[0], [pool.input, pool.output, head.output])
        return lambda x: list(whole(x, training=False))
    both = keras.Model(model.inputs[0], [outer_output(model.get_layer(imported.features)), model.outputs[0]])

    def call(x: Any) -> list[Any]:
        features, outputs = both(x, training=False)
        return [features, tf.reduce_mean(features, axis=(1, 2)), outputs, explain.slopes(features, outputs)]

    return call


def _litert(tf: Any, network: Any, shape: tuple[int, ...], *, threads: int) -> Callable[[Any], list[Floats]]:
    """The network for one image on the CPU: two to three times as fast as a traced function, the same to 1e-4."""
    content = _converted(tf, network, shape)
    # The conversion's quarter of a gigabyte would stay with the process; its graphs refer to each other
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with _without_chatter(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the interpreter announces that it will move to another package
        interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads or len(os.sched_getaffinity(0)))
        interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    given = sorted(interpreter.get_output_details(), key=lambda detail: detail["name"])  # Identity, Identity_1 ...

    def call(batch: Any) -> list[Floats]:
        interpreter.set_tensor(taken["index"], batch)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in given]

    return call


def _converted(tf: Any, network: Any, shape: tuple[int, ...]) -> bytes:
    """The network for one image as LiteRT's flat buffer, its weights constants and its batch normalisation folded."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = network.get_concrete_function(tf.TensorSpec((1, *shape), tf.float32))
    with _without_chatter():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(traced)])
        return bytes(converter.convert())


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Hide what TensorFlow's native code writes to standard error while it is loaded; no setting of its own does.

    What matters there comes as an exception of the import.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _use_threads(tf: Any, threads: int) -> None:
    if not threads or tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise DeviceError(f"threads = {threads}: TensorFlow already runs here with another number") from None


def find_device(wanted: str) -> str:
    """TensorFlow's name of a device that is asked for as in `Predictor`.

    Raises:
        DeviceError: it is not there.
    """
    with _without_chatter():
        import tensorflow as tf
    return _device(tf, wanted)


def _device(tf: Any, wanted: str) -> str:
    """TensorFlow's name of the device; memory is taken as needed, so that others can use it too."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # already running: it was set when the first predictor was built
            break
    # Logical devices: one GPU may be parted into several, and for tests so may the CPU
    have = [f"{kind.lower()}:{i}" for kind in ("CPU", "GPU") for i in range(len(tf.config.list_logical_devices(kind)))]
    name = ("gpu:0" if gpus else "cpu:0") if wanted == "auto" else "cpu:0" if wanted == "cpu" else wanted
    if name not in have:
        raise DeviceError(f"device = {wanted!r}: not there (have: auto, cpu, {', '.join(have)})")
    return f"/{name.upper()}"
