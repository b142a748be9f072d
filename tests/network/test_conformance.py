"""pynetdicom's own tests, with our server in the place of its: what it promises as an acceptor holds for ours too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 280


@pytest.mark.slow
# each in a process of its own: they depend on their order, with pynetdicom's own server too
@pytest.mark.parametrize(
    ("module", "servers"),
    [
        ("service_verification", 10),
        ("service_storage", 20),
        ("events", 0),
        ("transport", 3),
        ("assoc", 200),
        ("acse", 100),
    ],
)
def test_pynetdicoms_own_tests_pass_with_our_server(module: str, servers: int, tmp_path: Path) -> None:
    pytest.importorskip("pyfakefs", reason="their tests need pyfakefs")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "swapped", "-p", "no:cacheprovider", "-c", os.devnull]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)])}
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "--pyargs", f"pynetdicom.tests.test_{module}"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    found = re.search(r"servers of ours: (\d+)", done.stdout)
    assert found and int(found[1]) >= servers
