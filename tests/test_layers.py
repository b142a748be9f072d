"""The floors of the house, and what must never be loaded where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_imports_go_down_only_and_third_parties_have_one_home() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_receiver_loads_no_tensorflow_no_highdicom_no_pixels() -> None:
    loaded = python(
        "import sys, node.service, node.network.listener, node.pipeline.receive, node.results.uids;"
        "print([m for m in ('tensorflow', 'keras', 'highdicom', 'models.pixels', 'sklearn') if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_the_composition_root_loads_no_role() -> None:
    loaded = python(
        "import sys, node.service;"
        "heavy = ('pynetdicom', 'tensorflow', 'highdicom', 'apscheduler', 'fastapi', 'uvicorn');"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_modules_stay_small() -> None:
    sources = [p for room in ("node", "models", "training", "config") for p in (ROOT / room).rglob("*.py")]
    large = {str(p.relative_to(ROOT)): n for p in sources if (n := len(p.read_text().splitlines())) > 350}
    assert large == {}
