"""What a result was computed with, as its job remembers it: models by digest, settings, device, versions.

`replay` computes a past result again from this and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import node as overread
from config.settings import Route, Settings
from models.bundle import Bundle
from node.domain import Work

BEARING = (
    ("tensorflow", "tensorflow-cpu"),
    ("keras",),
    ("numpy",),
    ("pydicom",),
    ("pyjpegls",),
    ("pylibjpeg-libjpeg",),
    ("pylibjpeg-openjpeg",),
    ("pylibjpeg-rle",),
    ("pillow",),
    ("highdicom",),
)
"""Distributions that bear on a score or on the bytes of a result, the first name that is installed."""


def ran_with(
    work: Work, route: Route, settings: Settings, *, bundle: Bundle, gate: Bundle | None, device: str
) -> dict[str, Any]:
    """All that bears on the results of a job, ready to be written as JSON."""
    return {
        "bundle": bundle.ref,
        "bundle_digest": bundle.digest,
        "gate": gate.ref if gate else "",
        "gate_digest": gate.digest if gate else "",
        "route": route.model_dump(mode="json"),
        "node": settings.node.model_dump(mode="json", include={"ae_title", "organisation"}),
        "infer": settings.infer.model_dump(mode="json", include={"batch", "threads", "pixel_budget_mb"}),
        "device": device,
        "versions": versions(),
        "inputs": [instance.sop_instance_uid for instance in work.instances],
        "missing": list(work.missing),
        "predecessors": [result.sop_instance_uid for result in work.predecessors],
    }


def versions() -> dict[str, str]:
    """This program's and its libraries' versions."""
    found = {"overread": overread.__version__}
    return found | {names[0]: said for names in BEARING if (said := _version(names))}


def _version(names: Sequence[str]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
