"""The README's walk-through "A public Orthanc that can never push to you", its own lines, against a real Orthanc.

It knows no modality, asks for a user and a password, and lets that user read only; the films and the models are real.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_cohort_figures import cohort
from test_web_sources import Public

from config.settings import Settings
from node.network.orthanc import free_port
from node.service import open_parts
from node.storage import deliveries, instances, invariants, jobs, pulled, roles, studies
from node.storage.store import Store

pytestmark = [pytest.mark.orthanc, pytest.mark.model, pytest.mark.data, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
WALK = "### A public Orthanc that can never push to you"
PROGRAMS = {"overread": "node.start", "overread-train": "training.cli"}
EACH = 4
"""Films of each of three kinds."""
NODE = """
[node]
data_dir = "data"
[listener]
port = {port}
reserve_mb = 0
[web]
port = {web}
[settle]
quiet_seconds = 2
released_quiet_seconds = 0.2
[infer]
device = "cpu"

[[peer]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}

[[route]]
name = "chest-findings"
when = {{ Modality = ["CR", "DX"] }}
bundle = "chest-findings"
deliver_to = ["pacs"]

[[route]]
name = "everything"
when = {{ Modality = ["CR", "DX"] }}
bundle = "chest-findings"
deliver_to = ["pacs"]
"""


@dataclass
class Walker:
    """Somebody who has read the README, in a folder of his own."""

    folder: Path
    labels: list[dict[str, str]]

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}

    def line(self, begins: str) -> str:
        """The walk-through's own line, without its comment."""
        (found,) = [line for line in commands() if line.startswith(begins)]
        return found

    def run(self, line: str, *, code: int = 0) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done.stdout + done.stderr

    def start(self, line: str) -> subprocess.Popen[bytes]:
        with (self.folder / "node.log").open("ab") as log:
            return subprocess.Popen(line.split(), cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def log(self) -> str:
        file = self.folder / "node.log"
        return file.read_text()[-3000:] if file.exists() else ""

    def settings(self) -> Settings:
        return Settings.load(self.folder / "overread.toml")

    def wait_for(self, condition: Callable[[], object], seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.log()
            time.sleep(0.005)

    def scores(self) -> list[dict[str, str]]:
        self.run(self.line("overread results export"))
        with (self.folder / "scores.csv").open(newline="") as file:
            return list(csv.DictReader(file))


def walk() -> str:
    return (ROOT / "README.md").read_text().partition(WALK)[2].partition("\n## ")[0]


def commands() -> list[str]:
    (block,) = re.findall(r"^```\n((?:.+\n)+?)```", walk(), re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in block.splitlines()]


def peer(api: str, url: str) -> str:
    """The walk-through's own [[peer]], for this server."""
    (block,) = re.findall(r"```toml\n(.*?)```", walk(), re.DOTALL)
    block = block.replace("https://orthanc.university", url, 1).replace('"guest"', '"reader"')
    return block if api == "dicomweb" else block.replace("/dicom-web", "", 1).replace("#api =", "api =")


@pytest.fixture(params=["dicomweb", "orthanc"])
def public(
    program: Callable[[str], str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[str, Public]]:
    program("Orthanc")
    plugged: dict[str, object] = {}
    if request.param == "dicomweb":
        plugin = request.getfixturevalue("dicomweb")
        plugged = {"Plugins": [str(plugin)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    (tmp_path / "orthanc").mkdir()
    made = Public(tmp_path / "orthanc", **plugged)
    made.start()
    yield request.param, made
    made.stop()


@pytest.fixture
def walker(public: tuple[str, Public], data_dir: Path, tmp_path: Path) -> Walker:
    api, orthanc = public
    labels = cohort(data_dir / "nih_adleberg", tmp_path / "films", EACH)
    for film in sorted((tmp_path / "films").glob("*.dcm")):
        orthanc.upload(film)
    folder = tmp_path / "walker"
    (folder / "bin").mkdir(parents=True)
    for name, module in PROGRAMS.items():
        (folder / "bin" / name).write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -c "from {module} import main; main()" "$@"\n'
        )
        (folder / "bin" / name).chmod(0o755)
    (tmp_path / "films" / "labels.csv").rename(folder / "labels.csv")
    (folder / "public.password").write_text("r\n")
    (folder / "public.password").chmod(0o600)
    base = NODE.format(port=free_port(), web=free_port(), pacs=free_port())
    (folder / "overread.toml").write_text(base + peer(api, f"http://127.0.0.1:{orthanc.http}"))
    return Walker(folder, labels)


@pytest.fixture
def node(walker: Walker) -> Iterator[Store]:
    """The walk-through's node, and its rows."""
    process = walker.start(walker.line("overread serve").removesuffix(" &"))
    with open_parts(walker.settings()) as parts:
        yield parts.store
        process.terminate()
        process.wait(40)
        assert invariants.verify(parts.store, parts.spool, time.time()) == []


def test_the_walk_through_as_it_is_written(walker: Walker, node: Store) -> None:
    uids = {row["StudyInstanceUID"] for row in walker.labels}
    assert commands()[0] == "source .venv/bin/activate"
    assert "public" in walker.run(walker.line("overread peer echo"))
    tested = walker.run("overread peer test public")
    assert tested.count('public may only "query"') == 5, "study, result, store, proof, inbound"
    pull = walker.line("overread pull")
    # killed in the middle, once some films are here, and gone on with
    process = walker.start(pull)
    walker.wait_for(lambda: len(studies.latest(node, 99)) >= 3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(studies.latest(node, 99)) < len(uids)
    assert f"{len(uids)} of {len(uids)} studies are here" in walker.run("overread pull --resume 1")
    # a second pull brings nothing twice
    assert f"{len(uids)} of {len(uids)} studies are here" in walker.run(pull)
    came = studies.latest(node, 99)
    assert {study.study_instance_uid for study in came} == uids
    assert [i.receipts for study in came for i in instances.of_study(node, study.id)] == [1] * len(uids)
    walker.wait_for(lambda: _is_read(node), seconds=240)
    rows = walker.scores()
    assert {row["study_instance_uid"] for row in rows} == uids
    assert {(row["route"], row["mode"], row["bundle"]) for row in rows} == {
        ("chest-findings", "shadow", "chest-findings@1.0.0")
    }
    assert {row["status"] for row in rows} <= {"ANALYSED", "REFUSED"}
    assert sum(row["status"] == "ANALYSED" for row in rows) > len(rows) / 2
    said = walker.run(walker.line("overread-train evaluate"))
    assert "Cardiomegaly" in said and "AUC" in said
    # nothing is delivered, and no other route was asked
    for study in came:
        assert deliveries.of_study(node, study.id) == []
        assert {job.route for job in jobs.of_study(node, study.id)} == {"chest-findings"}
        assert {one.mode for one in pulled.of_study(node, study.id)} == {"shadow"}
    running = roles.status(walker.settings().node.data_dir)
    assert all(said["running"] for said in running.values())


def _is_read(store: Store) -> bool:
    found = [jobs.of_study(store, study.id) for study in studies.latest(store, 99)]
    return all(ran and all(job.finished_at for job in ran) for ran in found)
