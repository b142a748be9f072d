"""The judge of all result objects itself: it sees what is wrong, and the run fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLANTED = """
from pydicom.dataset import Dataset
from node.results import header

def test_that_passes():
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.1"
    ds.SoftwareVersions = ["Overread 1", "model 1"]
    header.finish(ds)
"""


@pytest.mark.slow
@pytest.mark.parametrize("spread", [[], ["-n", "2"]], ids=["alone", "spread"])
def test_a_wrong_object_in_a_test_that_passes_fails_the_run_and_is_kept(tmp_path: Path, spread: list[str]) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    base = tmp_path / "base"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "judged", f"--basetemp={base}", *spread, str(tmp_path)]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "dciodvfy judged 1 different result objects: 1 with errors" in done.stdout
    assert "StudyInstanceUID" in done.stdout
    assert len(list(base.rglob("violations/*.dcm"))) == 1
