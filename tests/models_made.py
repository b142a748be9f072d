"""A bundle in memory and readings without a network, for tests that are not about models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle, Spec
from models.codes import FINDINGS
from models.findings import Finding, Presence, Reading


def bundle(
    *, audit: Any = "warn", digest: str = "d" * 64, gate: dict[str, Any] | None = None, **changed: Any
) -> Bundle:
    concept = FINDINGS["Cardiomegaly"]
    spec = {
        "schema_version": 1,
        "name": "cardiomegaly",
        "version": "1.0.0",
        "task": "binary",
        "accepts": {},
        "preprocessing": [{"step": "stretch", "arguments": {}}],
        "input": {"height": 8, "width": 8, "channels": 3},
        "labels": [
            {
                "name": "Cardiomegaly",
                "finding": vars(concept.finding),
                "site": vars(concept.site),
                "threshold": 0.5,
                "lower": 0.4,
                "operating_point": "Youden",
            }
        ],
        "calibration": {"method": "platt", "slope": [1.0], "intercept": [0.0]},
        "gate": gate,
        "family": "test",
        "trained_by": "Tests",
        "intended_use": "tests",
        "not_for": "anything else",
        "licence": "Apache-2.0",
    } | changed
    return Bundle(Path("nowhere"), Spec.model_validate(spec), digest, audit)


def reading(score: float | None = 0.83, *, reason: str = "", code: str = "gate", status: Any = "refused") -> Reading:
    """Analysed with this score, or (None) not analysed for this reason."""
    if score is None:
        return Reading(status, code, reason, gate={"chest": 0.1}, gate_bundle="chest-abdomen@1.0.0")
    concept = FINDINGS["Cardiomegaly"]
    presence = Presence.PRESENT if score >= 0.5 else Presence.ABSENT if score < 0.4 else Presence.UNDETERMINED
    found = Finding("Cardiomegaly", concept.finding, concept.site, score, True, 0.5, 0.4, presence, "Youden")
    saliency = {"Cardiomegaly": np.eye(7, dtype=np.float32)}
    return Reading("analysed", scores={"Cardiomegaly": score}, findings=(found,), saliency=saliency)
