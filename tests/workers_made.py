"""One training run in a process of its own, also as one of two workers: workers_made.py FOLDER [key=value ...].

`devices=2` makes so many CPUs of this machine's; `slow=0.5` draws no batch in less; `wait=5` is for the other workers.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from drawn import SIZE, films, network
from rich.console import Console

from training import fit
from training.errors import TrainingError
from training.learning import backbones
from training.learning.order import Order
from training.manifest import findings
from training.recipe import Recipe, named

LABEL = "Cardiomegaly"
SETTINGS: dict[str, Any] = {
    "size": SIZE, "copies": 0, "epochs": 6, "batch": 16, "rate": 5e-3, "folds": 1, "train_from": "input", "dropout": 0,
    "boxes": 0, "patience": 3, "distil": 0,
}  # fmt: skip


def recipe(folder: Path, changes: dict[str, Any]) -> Recipe:
    pictures = folder / "films"
    if not pictures.exists():
        pictures.mkdir()
        films(pictures, label=LABEL)
    found = named("chest_findings", {k: str(v) for k, v in (SETTINGS | changes).items()})
    concepts = {LABEL: found.concepts({})[LABEL]}
    items = films_of(pictures)
    return replace(
        found, kind="binary", concepts=lambda _: concepts, manifest=lambda *_: findings((LABEL,), items), gate=None
    )


def films_of(pictures: Path) -> list[Any]:
    """The same items as when they were drawn, their files left as they are."""
    from unittest.mock import patch

    with patch("PIL.Image.Image.save"):
        return films(pictures, label=LABEL)


def divided(devices: int) -> None:
    """This machine's CPU as several devices, for one process and for a worker, of which TensorFlow takes GPUs alone."""
    import tensorflow as tf
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)

    def local(_self: Any, _resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:CPU:{i}" for i in range(devices)), "CPU"

    CollectiveAllReduceExtended._initialize_local_devices = local


def slowed(seconds: float) -> None:
    draw = Order.parts

    def parts(self: Any, fixed: Any) -> Any:
        for said in draw(self, fixed):
            time.sleep(seconds)
            yield said

    Order.parts = parts  # type: ignore[method-assign]


def main() -> int:
    folder, changes = Path(sys.argv[1]), dict(pair.split("=", 1) for pair in sys.argv[2:])
    backbones.BACKBONES = {"mobilenet_v2": network, "inception_v3": network}
    slowed(float(changes.pop("slow", 0)))
    wait = float(changes.pop("wait", 120))
    devices = int(changes.pop("devices", 1))
    if devices > 1:
        divided(devices)
    console = Console(file=sys.stdout)
    try:
        found = recipe(folder, changes)
        place = fit.run(
            found, folder, out=folder / "out", weights="none", work=folder / "work", console=console, wait=wait
        )
    except TrainingError as error:
        print(f"overread-train: {error}", file=sys.stderr)
        return 2
    print(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
