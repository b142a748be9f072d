"""Several hosts that are one node: each with its roles, its data folder and, where that is allowed, its own network.

The hosts are network namespaces on a bridge; without the right to make those they are processes on the loopback, which
share nothing either but the database and the spool. PostgreSQL and the PACS (DCMTK's `storescp`) are beside them. They
make reports alone: pictures would take the processors that all of them share.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import needed
from databases_made import QUICK, fresh
from network.peers import listens
from pydicom import dcmread

from config.settings import Settings
from node.network.orthanc import free_port
from node.service import Parts, open_parts
from node.storage import roles, studies

STUBBED = Path(__file__).with_name("stubbed")
UNFINISHED = ("RECEIVING", "SETTLED", "QUEUED", "LEASED")
SETTINGS = """
[node]
data_dir = "data"
[database]
url = "{url}"
[spool]
dir = "{spool}"
[listener]
bind = "{address}"
port = {port}
reserve_mb = 0
[web]
port = {web}
[settle]
quiet_seconds = 3
released_quiet_seconds = 0.5
[infer]
device = ["cpu"]
threads = 1
lease_seconds = 60
deadline_seconds = 50
[deliver]
retry_base_seconds = 0.2
retry_cap_seconds = 1
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "{pacs}"
port = {pacs_port}
may = ["receive"]
proof = "none"
[[peer]]
name = "modality"
ae_title = "MODALITY"
networks = ["{network}"]
may = ["send"]
[[route]]
name = "chest"
when = {{ Modality = ["CR", "DX"] }}
bundle = "chest-findings"
results = ["sr"]
deliver_to = ["pacs"]
"""


class Network:
    """A bridge, and a namespace for each host on it; where the system does not allow that, the loopback."""

    def __init__(self) -> None:
        self.name = f"ov{os.getpid() % 10000}"
        self.prefix = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        self._spaces: list[str] = []
        self.real = self._ip("link", "add", self.name, "type", "bridge") and self._ip(
            "addr", "add", f"{self.prefix}.1/24", "dev", self.name
        )
        if self.real:
            self.real = self._ip("link", "set", self.name, "up")
        self.here = f"{self.prefix}.1" if self.real else "127.0.0.1"

    def _ip(self, *arguments: str) -> bool:
        program = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        return program is not None and subprocess.run([program, *arguments], capture_output=True).returncode == 0

    def host(self, number: int) -> tuple[str, list[str]]:
        """The address of a new host, and what stands before a command that is to run there."""
        if not self.real:
            return "127.0.0.1", []
        space, inner, outer = f"{self.name}n{number}", f"{self.name}i{number}", f"{self.name}o{number}"
        address = f"{self.prefix}.{number + 10}"
        self._spaces.append(space)
        for step in (
            f"netns add {space}",
            f"link add {outer} type veth peer name {inner}",
            f"link set {inner} netns {space}",
            f"link set {outer} master {self.name} up",
            f"-n {space} addr add {address}/24 dev {inner}",
            f"-n {space} link set {inner} up",
            f"-n {space} link set lo up",
        ):
            assert self._ip(*step.split()), step
        return address, ["ip", "netns", "exec", space]

    def close(self) -> None:
        for space in self._spaces:
            self._ip("netns", "del", space)
        self._ip("link", "del", self.name)


class Host:
    """One machine of the fleet."""

    def __init__(self, folder: Path, name: str, wanted: Sequence[str], address: str, under: Sequence[str]) -> None:
        self.folder, self.name, self.roles, self.address, self.port = folder, name, tuple(wanted), address, free_port()
        self.file = folder / "overread.toml"
        self.variables: dict[str, str] = {}
        self.under = list(under)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "node.log").read_text()

    @property
    def settings(self) -> Settings:
        return Settings.load(self.file)

    def start(self) -> None:
        paths = f"{STUBBED}{os.pathsep}{STUBBED.parent.parent}"
        stub = {"PYTHONPATH": paths, "OVERREAD_TEST_STUB": str(self.folder / "stub")}
        command = [*self.under, sys.executable, "-m", "node.cli", "serve", "--config", str(self.file)]
        command += ["--roles", ",".join(self.roles)]
        with (self.folder / "node.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | stub | self.variables
            )

    def said(self) -> dict[str, dict[str, object]]:
        found = roles.status(self.settings.node.data_dir, roles.processes(["cpu"], self.roles))
        return {name: said for name, said in found.items() if said["running"]}

    def is_ready(self) -> bool:
        said = self.said()
        return len(said) == len(self.roles) and all(one["state"] == "ready" for one in said.values())

    def kill(self, role: str = "") -> None:
        """SIGKILL to one role's process, or to all of them and their supervisor, as when the machine's power fails."""
        if self.process and not role:
            self.process.kill()
            self.process.wait()
            self.process = None
        for name, one in self.said().items():
            if role in ("", name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(str(one["pid"])), signal.SIGKILL)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None


class Fleet:
    """A database, a spool, a PACS, and hosts that are added one by one."""

    def __init__(self, folder: Path, *, rules: dict[str, str] = QUICK) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.network = Network()
        self.hosts: list[Host] = []
        self.spool = folder / "spool"
        self.spool.mkdir(mode=0o700)
        self.server = fresh(rules | {"listen_addresses": "*"})
        with (self.server.folder / "data" / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {self.network.prefix}.0/24 trust\n")
        self.server.start()
        self.url = self.server.new().replace("127.0.0.1", self.network.here)
        self.pacs_port = free_port()
        self._pacs: subprocess.Popen[bytes] | None = None
        self._parts: Parts | None = None

    def __enter__(self) -> Fleet:
        program = shutil.which("storescp")
        if program is None:
            self.close()
            needed.missing("storescp (DCMTK)")
        (self.folder / "pacs").mkdir()
        command = [program, "-aet", "PACS", "-od", str(self.folder / "pacs"), "--fork", "+xa", str(self.pacs_port)]
        self._pacs = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def host(self, name: str, *wanted: str, more: str = "", **variables: str) -> Host:
        """A new machine with these roles; it is not started. `more` settings stand at the end of the common ones."""
        folder = self.folder / name
        folder.mkdir()
        address, under = self.network.host(len(self.hosts))
        host = Host(folder, name, wanted, address, under)
        host.variables = variables
        host.file.write_text(
            SETTINGS.format(
                url=self.url,
                spool=self.spool,
                address=address,
                port=host.port,
                web=free_port(),
                pacs=self.network.here,
                pacs_port=self.pacs_port,
                network=f"{self.network.prefix}.0/24" if self.network.real else "127.0.0.1",
            )
            + more
        )
        self.hosts.append(host)
        return host

    def start(self, *hosts: Host, seconds: float = 90) -> None:
        for host in hosts or self.hosts:
            host.start()
        self.wait(lambda: all(host.is_ready() for host in hosts or self.hosts), seconds=seconds)

    @property
    def parts(self) -> Parts:
        """The rows and files, as one more host sees them that has no role."""
        if self._parts is None:
            self._parts = open_parts(self.hosts[0].settings)
        return self._parts

    def wait(self, condition: object, *, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not condition():  # type: ignore[operator]
            if time.monotonic() > until:
                logs = "\n".join(f"--- {host.name}\n{host.log[-2500:]}" for host in self.hosts if host.folder.exists())
                raise AssertionError(f"waited {seconds} s for {condition}\n{logs}")
            time.sleep(0.1)

    def is_done(self) -> bool:
        counts = studies.counts(self.parts.store)
        return not any(n for key, n in counts.items() if key.rpartition(".")[2] in UNFINISHED)

    def came_back(self) -> Counter[tuple[str, str]]:
        """How many objects of each modality the PACS holds of each study."""
        tags = ["StudyInstanceUID", "Modality"]
        found: Counter[tuple[str, str]] = Counter()
        for path in (self.folder / "pacs").iterdir():
            ds = dcmread(path, stop_before_pixels=True, specific_tags=tags)
            found[str(ds.StudyInstanceUID), str(ds.Modality)] += 1
        return found

    def close(self) -> None:
        for host in self.hosts:
            host.stop()
        if self._parts:
            self._parts.close()
        if self._pacs:
            self._pacs.kill()
            self._pacs.wait()
        self.server.end()
        self.network.close()


@contextlib.contextmanager
def fleet(folder: Path, **how: dict[str, str]) -> Iterator[Fleet]:
    with Fleet(folder, **how) as made:
        until = time.monotonic() + 10
        while not listens(made.pacs_port) and time.monotonic() < until:
            time.sleep(0.05)
        yield made
