"""The demo shows what it promises, with a real PACS and with the stand-in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

pytestmark = [pytest.mark.model, pytest.mark.slow]


def demo(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node.cli", "demo", "--keep", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


def see(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    for verb in ("receive", "settle", "route", "report", "deliver"):
        assert f" {verb} " in done.stdout
    assert "Cardiomegaly" in done.stdout and "of these 8 above its threshold" in done.stdout
    assert "body-part@1.0.0" in done.stdout
    assert "Not analysed" in done.stdout
    assert "Modality CT is not in CR, DX" in done.stdout
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == 2
    for path in pictures:
        with Image.open(path) as picture:
            assert min(picture.size) > 300


@pytest.mark.orthanc
def test_with_a_real_pacs(tmp_path: Path, program: Callable[[str], str]) -> None:
    program("Orthanc")
    done = demo(tmp_path)
    assert "The PACS is Orthanc" in done.stdout
    see(done, tmp_path)


def test_with_the_stand_in(tmp_path: Path) -> None:
    done = demo(tmp_path, "--stand-in")
    assert "stand-in" in done.stdout
    see(done, tmp_path)
