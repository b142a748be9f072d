"""`python -m tests.bench.predictor [THREADS]`: the warm predictor on the CPU against ONNX Runtime on the same weights.

Both, and TensorFlow's own operators, take turns in one process, so that what else the machine does hits all alike.
Prints medians with minimum and maximum, and the median of the ratios of each turn; nothing is asserted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.measured import spread

from models import predictor
from models.bundle import MODEL, Bundle
from models.predictor import HEAD, POOL, Predictor
from models.registry import Registry

TURNS, WARM = 40, 5
LOAD = """
import sys, time
from pathlib import Path
from models import predictor
from models.bundle import Bundle
if sys.argv[2] == "traced":
    predictor._litert = lambda tf, network, shape, threads: network
import tensorflow, keras
start = time.perf_counter()
predictor.Predictor(Bundle.load(Path(sys.argv[1])), device="cpu")
took = time.perf_counter() - start
status = Path("/proc/self/status").read_text()
print(took, *(int(status.split(word + ":")[1].split()[0]) / 1024 for word in ("VmRSS", "VmHWM")))
"""


def random_bundle(folder: Path, size: int) -> Bundle:
    """MobileNetV2 with eight labels at this size; random weights, and batch normalisation that does something."""
    import keras

    base = keras.applications.MobileNetV2(input_shape=(size, size, 3), include_top=False, weights=None)
    rng = np.random.default_rng(1)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([w + np.abs(rng.normal(0, 0.05, w.shape)) for w in layer.get_weights()])
    pooled = keras.layers.GlobalAveragePooling2D(name=POOL)(base.output)
    keras.Model(base.input, keras.layers.Dense(8, name=HEAD)(pooled)).save(folder / MODEL)
    shipped = next(b for b in Registry().all() if b.spec.calibration.method == "platt").spec
    label, line = shipped.labels[0], shipped.calibration
    changes = {
        "task": "multilabel",
        "input": shipped.input.model_copy(update={"height": size, "width": size, "channels": 3}),
        "labels": [label.model_copy(update={"name": f"label {k}"}) for k in range(8)],
        "calibration": line.model_copy(update={"slope": [1.0] * 8, "intercept": [0.0] * 8}),
        "out_of_distribution": None,
        "imported": None,
    }
    return Bundle(folder, shipped.model_copy(update=changes), "")


def rivals(bundle: Bundle, threads: int) -> dict[str, Callable[[Any], Any]]:
    """Three ways from a batch to features, pooled features and logits."""
    import keras
    import onnxruntime
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    own = Predictor(bundle, device="cpu", threads=threads)
    model = keras.saving.load_model(bundle.file(MODEL), compile=False)
    traced = tf.function(predictor._explained(model, None))
    shape = (None, bundle.spec.input.height, bundle.spec.input.width, bundle.spec.input.channels)
    # constants that the function captures would become inputs of the exported graph
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function(tf.TensorSpec(shape)))
    names = [[tensor.name for tensor in tensors] for tensors in (frozen.inputs, frozen.outputs)]
    exported, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(), input_names=names[0], output_names=names[1], opset=17
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return {
        "ONNX Runtime": lambda x: session.run(None, {name: x}),
        "predictor": lambda x: [own._forward(x[i : i + 1]) for i in range(len(x))],
        "traced function": lambda x: [np.asarray(part) for part in traced(tf.constant(x))],
    }


def compare(bundle: Bundle, name: str, threads: int) -> None:
    found = rivals(bundle, threads)
    given = bundle.spec.input
    for count in (1, 4):
        x = np.random.default_rng(2).random((count, given.height, given.width, given.channels), np.float32)
        gap = max(
            float(np.abs(np.concatenate(a) - b).max())
            for a, b in zip(zip(*found["predictor"](x), strict=True), found["ONNX Runtime"](x), strict=True)
        )
        times: dict[str, list[float]] = {way: [] for way in found}
        for _ in range(WARM + TURNS):
            for way, call in found.items():
                start = time.perf_counter()
                call(x)
                times[way].append(1000 * (time.perf_counter() - start))
        reference = times["ONNX Runtime"][WARM:]
        print(f"{name}, {given.height} px, {count} image(s); largest difference of any output {gap:.1e}")
        for way, taken in times.items():
            kept = taken[WARM:]
            ratio = statistics.median(a / b for a, b in zip(kept, reference, strict=True))
            print(f"  {way:<20} {spread(kept)} {ratio:8.2f} x ONNX", flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    shipped = Registry().all()[0]
    print("Load in a process of its own: seconds, resident MB, most MB")
    rows: dict[str, list[list[float]]] = {"predictor": [], "traced": []}
    for _ in range(3):
        for way, found in rows.items():
            command = [sys.executable, "-c", LOAD, str(shipped.path), way]
            said = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL)
            found.append([float(value) for value in said.split()])
    for way, found in rows.items():
        print(f"  {way:<20} " + " ".join(f"{statistics.median(column):8.1f}" for column in zip(*found, strict=True)))
    print(f"{TURNS} warm turns, threads = {threads or 'all'}, ms:    median      min      max")
    compare(shipped, shipped.ref, threads)
    for size in (224, 320, 384):
        with tempfile.TemporaryDirectory() as folder:
            compare(random_bundle(Path(folder), size), "MobileNetV2", threads)


if __name__ == "__main__":
    main()
