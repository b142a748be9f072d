"""The commands of node/README.md, as written: only ports are others, as something else may have them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.settings import Settings
from node.network.orthanc import find, free_port

pytestmark = [pytest.mark.orthanc, pytest.mark.model, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "node" / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(title: str) -> str:
    """The commands below one heading, one after the other."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found, title
    return "\n".join(found)


@pytest.fixture
def follow(tmp_path: Path) -> Callable[[str], str]:
    """Run commands in an empty folder, with free ports; what they print. Nothing that they start outlives them."""

    def run(commands: str) -> str:
        ports = {name: str(free_port()) for name in ("4242", "8042", "11112", "8090")}
        for named, free in ports.items():
            commands = commands.replace(named, free)
        orthanc = find()
        path = os.pathsep.join([str(BIN), str(orthanc.parent) if orthanc else "", os.environ["PATH"]])
        environment = os.environ | {
            "PATH": path,
            "OVERREAD_LISTENER__PORT": ports["11112"],
            "OVERREAD_WEB__PORT": ports["8090"],
            "OVERREAD_NODE__DATA_DIR": "data",
            "PYTHONPATH": str(ROOT),
        }
        program = f'overread() {{ {shlex.quote(sys.executable)} -m node.start "$@"; }}\n'
        ended = subprocess.Popen(
            ["bash", "-euc", program + commands],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = ended.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(ended.pid, signal.SIGKILL)
            printed, _ = ended.communicate()
            logs = [file.read_text()[-2000:] for file in tmp_path.glob("*.log")]
            raise AssertionError("\n".join([printed, *logs])) from None
        finally:
            _end(ended.pid)
        assert ended.returncode == 0, printed
        return printed

    return run


def _end(group: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)


def test_orthanc_on_one_machine(follow: Callable[[str], str], program: Callable[[str], str]) -> None:
    program("Orthanc")
    program("curl")
    printed = follow(blocks("1. Orthanc on one machine") + "\nkill %1 %2; wait || true\n")
    assert re.search(r"ok +store", printed) and re.search(r"ok +proof", printed)
    assert "chest-findings@1.0.0" in printed and "sent sr" in printed


def test_a_pacs_that_routes(follow: Callable[[str], str], tmp_path: Path) -> None:
    printed = follow(blocks("2. A PACS that routes to the node"))
    assert "this node is AE title OVERREAD" in printed
    peers = Settings.load(tmp_path / "overread.toml").peer
    assert [(p.name, p.ae_title) for p in peers] == [("pacs", "PACS"), ("xray-room-1", "XRAY1"), ("ct", "CT9")]
