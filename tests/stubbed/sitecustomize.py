"""Puts a predictor without a network in the place of the real one, in every Python process that finds this on its path.

For tests of what surrounds a model: it is ready at once, always says the same, and misbehaves when the file named by
`$OVERREAD_TEST_STUB` tells it to: "crash", "hang", "slow", "memory", "devour" or "raise" at the next image; the file is
then gone, unless it says "always crash". Beside it, `.asked` grows by one byte for each image that a model was asked
about. `$OVERREAD_TEST_STUB_SECONDS`: so long it takes for each image. On the path of a Ray cluster's workers it is in
the place of their predictors too, and of a role that asks them, which then replays no golden images.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import models.pool.link
import models.predictor
from models.bundle import Bundle
from models.engine import Prediction

ORDERS = "OVERREAD_TEST_STUB"
MEGABYTES_64 = 64 << 20


class Stub:
    """Takes every image for the gate's first label, and finds the first label of everybody else."""

    def __init__(self, bundle: Bundle, *, device: str = "auto", threads: int = 0) -> None:
        self._bundle = bundle
        self.device = f"stub of {device}"

    def predict(self, pixels: Sequence[Any]) -> list[Prediction]:
        return self.predict_inputs(pixels)

    def predict_inputs(self, pixels: Sequence[Any]) -> list[Prediction]:
        spec = self._bundle.spec
        if pixels and not spec.out_of_distribution:  # only the model, not its gate
            _obey()
            _count(len(pixels))
            time.sleep(len(pixels) * float(os.environ.get("OVERREAD_TEST_STUB_SECONDS", "0")))
        names = [label.name for label in spec.labels]
        found = {name: 0.97 if name == names[0] else 0.001 for name in names}
        away = 0.1 if spec.out_of_distribution else None
        grid = np.zeros((8, 8), np.float32)
        return [Prediction(found, away, dict.fromkeys(names, grid)) for _ in pixels]

    def verify(self) -> None:
        pass


def _count(images: int) -> None:
    if ORDERS in os.environ:
        with Path(f"{os.environ[ORDERS]}.asked").open("ab") as file:
            file.write(b"." * images)


def _obey() -> None:
    path = Path(os.environ.get(ORDERS, "/nonexistent"))
    try:
        order = path.read_text().strip()
    except OSError:
        return
    if not order.startswith("always"):
        path.unlink()
    match order.removeprefix("always").strip():
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(3600)
        case "slow":
            time.sleep(1.5)
        case "devour":
            held = [b"\1" * MEGABYTES_64 for _ in range(32)]
            raise AssertionError(f"nobody limits this process: it got {len(held)} times 64 MB")
        case "memory":
            raise MemoryError
        case "raise":
            raise ValueError("a score is not finite")


if "FAKETIME_TIMESTAMP_FILE" in os.environ:  # libfaketime 0.9.10 fails the sleep until a moment that Python asks for
    time.sleep = lambda seconds: threading.Event().wait(seconds)  # type: ignore[assignment,return-value]
models.predictor.Predictor = Stub  # type: ignore[assignment,misc]
models.pool.link.replay = lambda *_: None
