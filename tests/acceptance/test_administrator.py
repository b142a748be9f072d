"""What an administrator does with a node that runs, with the programs that he has."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from running import RunningNode

from node.network.orthanc import Orthanc

pytestmark = [pytest.mark.orthanc, pytest.mark.model, pytest.mark.slow]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def overread(running: RunningNode) -> Run:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "node.cli", *map(str, arguments), "--config", str(running.file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture
def echoscu(program: Callable[[str], str], running: RunningNode) -> Run:
    command = program("echoscu")

    def run(calling: str, called: str) -> subprocess.CompletedProcess[str]:
        where = ["-aet", calling, "-aec", called, "127.0.0.1", str(running.port)]
        return subprocess.run([command, "-v", *where], capture_output=True, text=True, timeout=20, check=False)

    return run


def test_a_known_peer_is_answered(echoscu: Run) -> None:
    assert echoscu("MODALITY", "OVERREAD").returncode == 0


@pytest.mark.parametrize(
    ("calling", "called", "said"),
    [
        ("MODALITY", "SOMEBODY", "Called AE Title Not Recognized"),
        ("STRANGER", "OVERREAD", "Calling AE Title Not Recognized"),
        ("ELSEWHERE", "OVERREAD", "Calling AE Title Not Recognized"),
    ],
)
def test_nobody_else_associates_and_the_log_says_which_rule(
    running: RunningNode, echoscu: Run, calling: str, called: str, said: str
) -> None:
    done = echoscu(calling, called)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    rejected = [line for line in running.log.splitlines() if "association.rejected" in line][-1]
    rule = {"STRANGER": "has this calling AE title", "ELSEWHERE": "peer elsewhere may not come from"}
    assert rule.get(calling, "called-ae-title") in rejected


def test_check_finds_everything_in_order(overread: Run) -> None:
    done = overread("check", "--json")
    said = {line["check"]: line["verdict"] for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout
    assert set(said.values()) <= {"ok", "warn"}
    assert {"settings", "modules", "data_dir", "database", "listener", "bundle", "peer"} <= set(said)


def test_status_says_that_all_is_well(overread: Run) -> None:
    done = overread("status", "--json")
    assert (done.returncode, json.loads(done.stdout)["well"]) == (0, True)


def test_a_study_can_be_sent_shown_and_explained(
    running: RunningNode, orthanc: Orthanc, overread: Run, film: Callable[..., Path]
) -> None:
    assert overread("peer", "echo", "pacs").returncode == 0
    path = film(AccessionNumber="ACC4711")
    uid = str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
    orthanc.upload(path)
    orthanc.send_study(uid)
    running.finish(uid)
    shown = overread("show", "ACC4711")
    assert "of these 8 above its threshold" in shown.stdout.replace("nothing else", "nothing")
    assert "sr to pacs: SENT" in shown.stdout
    (job,) = json.loads(overread("show", "ACC4711", "--json").stdout)["jobs"]
    assert {"Cardiomegaly", "Pneumothorax"} < {row["label"] for row in job["findings"]}
    assert "matches" in overread("route", "explain", "ACC4711").stdout
    assert overread("verify").returncode == 0


def test_every_object_that_was_sent_is_valid(running: RunningNode, program: Callable[[str], str]) -> None:
    validator = Path(sys.executable).with_name("dciodvfy")
    written = sorted(running.parts.spool.results.rglob("*.dcm"))
    assert written
    for path in written:
        done = subprocess.run([validator, "-new", path], capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert not [line for line in said.splitlines() if line.startswith("Error")], said
        if dcmread(path, stop_before_pixels=True).Modality == "SR":
            subprocess.run([program("dsrdump"), path], check=True, capture_output=True)
