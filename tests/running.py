"""A real node in processes of its own, as an administrator would run it, for tests that go the whole way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from databases_made import WANTED, server

from config.settings import Settings
from node.domain import Delivery, DeliveryState, JobState, Study, StudyState
from node.failpoint import VARIABLE
from node.network.orthanc import free_port
from node.service import Parts, open_parts
from node.storage import deliveries, invariants, jobs, roles, studies

STUBBED = Path(__file__).with_name("stubbed")
SETTINGS = """
[node]
data_dir = "data"

[listener]
port = {port}
reserve_mb = 0
commit = {commit}

[web]
port = {web}

[settle]
quiet_seconds = {quiet}
released_quiet_seconds = {released}
expected_seconds = {expected}

[infer]
device = {devices}
threads = 1

[deliver]
retry_base_seconds = 0.2
retry_cap_seconds = 1
proof_hours = {proof_hours}

[[peer]]
name = "pacs"
ae_title = "{pacs}"
host = "127.0.0.1"
port = {pacs_port}
may = {may}
proof = "{proof}"

[[peer]]
name = "modality"
ae_title = "MODALITY"
networks = ["127.0.0.1"]
may = ["send"]

[[peer]]
name = "elsewhere"
ae_title = "ELSEWHERE"
networks = ["192.0.2.0/24"]
may = ["send"]
"""

ROUTE = """
[[route]]
name = "chest"
when = {{ Modality = ["CR", "DX"] }}
bundle = "chest-findings"
deliver_to = ["pacs"]
"""


class RunningNode:
    """`overread serve` below one folder. `pacs` is (AE title, port). `stub` puts a predictor that is ready at once in
    place of the models (`tests/stubbed`); further `variables` go into its environment. Unless `proof` says otherwise,
    what the PACS answered success to is finished. Its rows are in `url`, or where `$OVERREAD_TEST_DATABASE` says: in a
    file of its own, or in a new database of the tests' PostgreSQL; its files are in `spool`."""

    ae_title = "OVERREAD"
    roles: Sequence[str] = roles.ROLES

    def __init__(
        self,
        folder: Path,
        pacs: tuple[str, int],
        *,
        port: int = 0,
        quiet: float = 5,
        released: float = 0.2,
        expected: float = 300,
        route: str = ROUTE,
        stub: bool = False,
        proof: str = "none",
        proof_seconds: float = 3600,
        commit: bool = False,
        devices: Sequence[str] = ("cpu",),
        may: Sequence[str] = ("send", "receive"),
        url: str = "",
        spool: str | Path = "data/spool",
        **variables: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._variables = variables
        if stub:
            # the checkout too: the stub is loaded before Python looks into the working directory
            paths = f"{STUBBED}{os.pathsep}{STUBBED.parent.parent}"
            self._variables |= {"PYTHONPATH": paths, "OVERREAD_TEST_STUB": str(folder / "stub")}
        self.port = port or free_port()
        self.file = folder / "overread.toml"
        self.file.write_text(
            SETTINGS.format(
                port=self.port,
                web=free_port(),
                pacs=pacs[0],
                pacs_port=pacs[1],
                quiet=quiet,
                released=released,
                expected=expected,
                proof=proof,
                proof_hours=proof_seconds / 3600,
                commit=str(commit).lower(),
                devices=json.dumps(devices),
                may=json.dumps(may),
            )
            + route.replace("{{", "{").replace("}}", "}")
        )
        if not url and WANTED == "postgresql":
            url = server().new()
        if url:
            with self.file.open("a") as file:
                files = "" if "[spool]" in route else f'[spool]\ndir = "{spool}"\n'
                file.write(f'[database]\nurl = "{url}"\n{files}')
        self.settings = Settings.load(self.file)
        self.process: subprocess.Popen[bytes] | None = None
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            self._parts = open_parts(self.settings)
        return self._parts

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text()

    def start(self, *, wait: bool = True) -> None:
        environment = os.environ | {VARIABLE: str(self.folder / "failpoint")} | self._variables
        command = [sys.executable, "-m", "node.cli", "serve", "--config", str(self.file)]
        command += ["--roles", ",".join(self.roles)]
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        if wait:
            try:
                self.wait_for(self.is_ready, seconds=60)
            except AssertionError:
                self.stop()  # whose fixture would never come to it
                raise

    def order(self, what: str) -> None:
        """How the stub is to misbehave at its next image."""
        part = self.folder / "stub.part"
        part.write_text(what)
        part.rename(self.folder / "stub")

    def asked(self) -> int:
        """How many images the stub was asked about, since this folder was made."""
        counted = self.folder / "stub.asked"
        return counted.stat().st_size if counted.exists() else 0

    def lose_the_database(self) -> None:
        """While the node does not run: what is left is the spool, and who the node is."""
        if self.settings.database.url:
            with psycopg.connect(self.settings.database.url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
        for path in (self.folder / "data").glob("overread.db*"):
            path.unlink()

    def arm(self, failpoint: str) -> None:
        """The first process that comes to this place dies there, once."""
        part = self.folder / "failpoint.part"
        part.write_text(failpoint)
        part.rename(self.folder / "failpoint")

    def went_off(self) -> bool:
        return not (self.folder / "failpoint").exists()

    def said(self) -> dict[str, dict[str, Any]]:
        """What each process last noted."""
        return roles.status(self.settings.node.data_dir, roles.processes(self.settings.infer.device, self.roles))

    def is_ready(self) -> bool:
        return all(s["running"] and s["state"] == "ready" for s in self.said().values())

    def pid(self, process: str) -> int:
        return int(self.said()[process]["pid"])

    def stop(self) -> int:
        code = 0
        if self.process is not None:
            self.process.terminate()
            code = self.process.wait(40)
            self.process = None
        if self._parts:
            self._parts.close()
            self._parts = None
        return code

    def kill(self, role: str = "") -> None:
        """SIGKILL to one role's process, or to the supervisor and all roles."""
        said = self.said()
        if self.process and not role:
            self.process.kill()
            self.process.wait()
            self.process = None
        for name, one in said.items():
            if one["running"] and role in ("", name):
                os.kill(int(one["pid"]), signal.SIGKILL)

    def wait_for(self, condition: Callable[[], Any], *, seconds: float = 30, every: float = 0.02) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = condition()
            if found:
                return found
            if self.process and self.process.poll() is not None:
                break
            time.sleep(every)
        raise AssertionError(f"waited {seconds} s for {condition}; the node's log:\n{self.log[-4000:]}")

    def study(self, uid: str) -> Study | None:
        return next((s for s in studies.latest(self.parts.store, 1000) if s.study_instance_uid == uid), None)

    def finished(self, uid: str, *, revision: int = 1) -> Study | None:
        """The study, once nothing of this revision is left to do."""
        study = self.study(uid)
        if study is None or study.revision < revision or study.state not in (StudyState.ROUTED, StudyState.UNROUTED):
            return None
        if any(j.state in (JobState.QUEUED, JobState.LEASED) for j in jobs.of_study(self.parts.store, study.id)):
            return None
        if any(self._is_open(d) for d in deliveries.of_study(self.parts.store, study.id)):
            return None
        return study

    def _is_open(self, delivery: Delivery) -> bool:
        """Whether it is still to be sent, or to be proven where its peer is asked for that."""
        peer = self.settings.peer_named(delivery.peer)
        asked = delivery.state is DeliveryState.SENT and delivery.proof_due_at is not None
        waits = delivery.state in (DeliveryState.QUEUED, DeliveryState.LEASED)
        return waits or (asked and peer is not None and peer.proof != "none")

    def finish(self, uid: str, *, revision: int = 1, seconds: float = 40) -> Study:
        study = self.wait_for(lambda: self.finished(uid, revision=revision), seconds=seconds)
        assert isinstance(study, Study)
        return study

    def problems(self) -> list[str]:
        return invariants.verify(self.parts.store, self.parts.spool, time.time())


class Host(RunningNode):
    """One of the hosts of a node: some roles with a folder of its own; rows and images are shared."""

    def __init__(self, folder: Path, pacs: tuple[str, int], url: str, shared: Path, *wanted: str, **more: Any) -> None:
        super().__init__(folder, pacs, url=url, spool=shared, **more)
        self.roles = wanted
