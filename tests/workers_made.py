"""One training run in a process of its own, also as one of two workers: workers_made.py FOLDER [key=value ...]."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from drawn import SIZE, films, network
from rich.console import Console

from training import fit
from training.errors import TrainingError
from training.learning import backbones, tune
from training.manifest import findings
from training.recipe import Recipe, named

LABEL = "Cardiomegaly"
SETTINGS: dict[str, Any] = {
    "size": SIZE, "copies": 0, "epochs": 4, "batch": 16, "rate": 5e-3, "folds": 1, "train_from": "input", "dropout": 0,
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


def main() -> int:
    folder, changes = Path(sys.argv[1]), dict(pair.split("=", 1) for pair in sys.argv[2:])
    backbones.BACKBONES = {"mobilenet_v2": network, "inception_v3": network}
    slow = float(changes.pop("slow", 0))
    if slow:
        import time

        draw = tune._Order.parts

        def parts(self: Any, fixed: Any) -> Any:
            for said in draw(self, fixed):
                time.sleep(slow)
                yield said

        tune._Order.parts = parts  # type: ignore[method-assign]
    try:
        found = recipe(folder, changes)
        place = fit.run(
            found, folder, out=folder / "out", weights="none", work=folder / "work", console=Console(quiet=True)
        )
    except TrainingError as error:
        print(f"overread-train: {error}", file=sys.stderr)
        return 2
    print(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
