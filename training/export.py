"""Writes a bundle folder and seals it. The bundle is complete and replayed, or it is not there.

Figures, audit and card come from the run's objects; nothing is typed here.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import (
    AUDIT,
    CARD,
    GOLDEN,
    METRICS,
    MODEL,
    SPEC,
    SUMS,
    Accepts,
    Bundle,
    Calibration,
    CodeSpec,
    Input,
    Label,
    OutOfDistribution,
    Spec,
    StepSpec,
)
from models.codes import Code
from models.predictor import Predictor
from models.scores import Reference
from training import card
from training.audit import Audit
from training.calibrate import Classifier
from training.evaluate import Figure
from training.manifest import Manifest
from training.recipe import Recipe
from training.reference import Refusal
from training.split import Split

REFERENCE = "reference.npz"
LICENCE = (
    "Apache-2.0 for what was trained here; the backbone holds torchvision's MobileNetV2 ImageNet weights (BSD-3-Clause)"
)
FAMILY = "MobileNetV2 (ImageNet, frozen){}, global average pooling, one dense layer"
GOLDEN_SIDE = 256


@dataclass(frozen=True)
class Product:
    """Everything that goes into a bundle. `operating` is threshold and lower end of the undetermined band."""

    recipe: Recipe
    network: Any
    classifier: Classifier
    operating: tuple[float, float]
    reference: Reference | None
    figures: Sequence[Figure]
    refusals: Sequence[Refusal]
    audit: Audit
    provenance: dict[str, Any]


def provenance(manifest: Manifest, split: Split, weights: Path | None) -> dict[str, Any]:
    """From what a model was made: data digest, split sizes, starting weights, versions."""
    start = hashlib.sha256(weights.read_bytes()).hexdigest() if weights else "keras.applications imagenet"
    packages = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "scikit-learn", "pydicom", "pillow")
    return {
        "manifest_sha256": manifest.digest(),
        "images": {part: len(getattr(split, part)) for part in ("train", "test")},
        "patients": {part: len(set(manifest.groups[getattr(split, part)])) for part in ("train", "test")},
        "starting_weights_sha256": start,
        "python": platform.python_version(),
        "packages": {name: found for name in packages if (found := _version(name))},
    }


def write(product: Product, out: Path) -> Path:
    """Make `out/name-version`; a folder of that name is replaced when the new one is complete."""
    recipe = product.recipe
    path = out / f"{recipe.name}-{recipe.version}"
    # a sibling with the final name, because a bundle's folder must bear it to be loaded
    building = out / ".building" / path.name
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    spec = specification(product)
    (building / SPEC).write_text(spec.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    product.network.save(building / MODEL, zipped=True)
    if product.reference:
        product.reference.save(building / REFERENCE)
    _write_json(building / METRICS, metrics(product))
    _write_json(building / AUDIT, product.audit.as_json())
    text = card.text(
        spec,
        figures=product.figures,
        refusals=product.refusals,
        audit=product.audit,
        data_note=recipe.data_note,
        provenance=product.provenance,
    )
    (building / CARD).write_text(text, encoding="utf-8")
    _golden(building)
    shutil.rmtree(path, ignore_errors=True)
    building.replace(path)
    building.parent.rmdir()
    return path


def specification(product: Product) -> Spec:
    """bundle.json of a product."""
    recipe, found = product.recipe, product.classifier
    size = recipe.settings.size
    threshold, lower = product.operating
    point = (
        f"score at least {threshold:.2f}"
        if recipe.task == "multiclass"
        else f"Youden on held-out training patients; band down to sensitivity {recipe.settings.lower_sensitivity:.2f}"
    )
    labels = [
        Label(
            name=name,
            finding=_code(c.finding),
            site=_code(c.site),
            threshold=round(threshold, 4),
            lower=round(lower, 4),
            operating_point=point,
        )
        for name, c in recipe.concepts.items()
    ]
    known = OutOfDistribution(method="mahalanobis", file=REFERENCE, limit=1.0) if product.reference else None
    return Spec(
        schema_version=1,
        name=recipe.name,
        version=recipe.version,
        task=recipe.task,
        accepts=Accepts.model_validate(recipe.accepts),
        preprocessing=[StepSpec(step=s.step, arguments=dict(s.arguments)) for s in recipe.steps],
        input=Input(height=size, width=size, channels=3),
        labels=labels,
        calibration=Calibration(method=found.method, slope=list(found.slope), intercept=list(found.intercept)),
        out_of_distribution=known,
        gate=recipe.gate,
        family=FAMILY.format(", last and middle features" if recipe.settings.middle else ""),
        trained_by=f"Overread {version('overread')}, overread-train fit {recipe.name.replace('-', '_')}",
        intended_use=recipe.intended_use,
        not_for=recipe.not_for,
        licence=LICENCE,
    )


def metrics(product: Product) -> dict[str, Any]:
    return {
        "figures": [figure.as_row() for figure in product.figures],
        "refusals": [asdict(r) for r in product.refusals],
        "settings": asdict(product.recipe.settings),
        "provenance": product.provenance,
    }


def seal(path: Path) -> None:
    """Write SHA256SUMS over every other file of the folder."""
    files = sorted(f for f in path.rglob("*") if f.is_file() and f.name != SUMS)
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(path).as_posix()}\n" for f in files]
    (path / SUMS).write_text("".join(lines), encoding="utf-8")


def golden_images() -> NDArray[np.uint8]:
    """Four drawn pictures (n, rows, columns): nobody's radiograph, yet with edges, shades and a bright middle."""
    y, x = np.mgrid[0:GOLDEN_SIDE, 0:GOLDEN_SIDE] / GOLDEN_SIDE - 0.5
    body = np.exp(-((x / 0.35) ** 4) - (y / 0.45) ** 4)
    lungs = sum(np.exp(-(((x - side) / 0.11) ** 2) - ((y + 0.05) / 0.25) ** 2) for side in (-0.17, 0.17))
    heart = np.exp(-(((x - 0.04) / 0.10) ** 2) - ((y - 0.12) / 0.12) ** 2)
    ribs = 0.06 * np.sin(40 * y + 12 * x**2) * body
    chest = 0.75 * body - 0.6 * lungs + 0.4 * heart + ribs
    pictures = [chest, chest[::-1], np.exp(-((x / 0.08) ** 2)) * (1 - 0.3 * y), x + y]
    scaled = [(p - p.min()) / (p.max() - p.min()) for p in pictures]
    return np.stack([np.asarray(np.rint(s * 255), np.uint8) for s in scaled])


def _golden(path: Path) -> None:
    """Run the sealed folder as the node would and keep what it says, then seal again."""
    pixels = golden_images()
    np.savez_compressed(path / GOLDEN, pixels=pixels)
    seal(path)
    said = Predictor(Bundle.load(path), device="cpu").predict([p.astype(np.float32) / 255 for p in pixels])
    table = np.array([list(one.scores.values()) for one in said], np.float32)
    away = np.array([-1.0 if one.distance is None else one.distance for one in said], np.float32)
    np.savez_compressed(path / GOLDEN, pixels=pixels, scores=table, distances=away)
    seal(path)


def _code(code: Code) -> CodeSpec:
    return CodeSpec(value=code.value, scheme=code.scheme, meaning=code.meaning)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
