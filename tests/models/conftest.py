"""Fixtures that write DICOM files and bundles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from films_made import dataset, seal, spec
from numpy.typing import NDArray


@pytest.fixture
def dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a DICOM file of stored values; returns its path."""

    def write(values: NDArray[Any], *, bits: int = 12, **attributes: Any) -> Path:
        ds = dataset(values, bits=bits, **attributes)
        path = tmp_path / f"{ds.SOPInstanceUID}.dcm"
        ds.save_as(path, enforce_file_format=True)
        return path

    return write


STATUSES = {"pass": ["pass"], "warn": ["pass", "not run"], "fail": ["pass", "fail"]}


def audit(verdict: str) -> dict[str, Any]:
    """audit.json with checks from which this verdict follows; none for any other."""
    checks = [{"name": s, "status": s, "text": f"It is {s}.", "value": None} for s in STATUSES.get(verdict, [])]
    return {"verdict": verdict, "checks": checks}


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a sealed bundle without a network; keyword arguments change bundle.json."""

    def write(*, verdict: str = "warn", root: Path | None = None, **changes: Any) -> Path:
        content = spec(**changes)
        folder = (root or tmp_path / "bundles") / f"{content['name']}-{content['version']}"
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text(json.dumps(content))
        (folder / "audit.json").write_text(json.dumps(audit(verdict)))
        (folder / "metrics.json").write_text("{}")
        for name in ("model.keras", "MODEL_CARD.md", "golden.npz"):
            (folder / name).write_bytes(name.encode())
        seal(folder)
        return folder

    return write
