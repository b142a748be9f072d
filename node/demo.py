"""One real study there and back, on a node that exists only for it.

A PACS gets a chest radiograph, a leg and a CT; each is sent to the node; what comes back into the PACS is read there
and shown. Nothing is taken from the node itself: success means that the PACS holds the results.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from config.settings import Settings
from node.domain import DeliveryState, JobState, Study, StudyState
from node.errors import OverreadError, PeerError
from node.network.orthanc import Orthanc, find, free_port
from node.network.sender import Sender
from node.network.standin import StandIn
from node.results.text import as_text
from node.service import Parts, open_parts
from node.storage import deliveries, events, jobs, roles, studies

NODE, MODALITY = "OVERREAD", "DEMO_MODALITY"
READY_SECONDS = 90.0
DONE_SECONDS = 60.0
# One route: a second model would refuse the leg for the same reasons in the same words
SETTINGS = """\
[node]
ae_title = "{node}"
data_dir = "node"

[listener]
port = {port}
reserve_mb = 0

[web]
port = {web}

[settle]
quiet_seconds = 5
released_quiet_seconds = 0.2

[[peer]]
name = "pacs"
ae_title = "{pacs}"
host = "127.0.0.1"
port = {pacs_port}

[[peer]]
name = "modality"
ae_title = "{modality}"
networks = ["127.0.0.1"]
may = ["send"]

[[route]]
name = "chest-findings"
when = {{ Modality = ["CR", "DX"] }}
bundle = "chest-findings"
deliver_to = ["pacs"]
"""


@dataclass(frozen=True)
class Sample:
    """A real file, and what must become of it."""

    file: str
    what: str
    expected: str


SAMPLES = (
    Sample("RG1_UNCR.dcm", "chest radiograph (CR, PA)", "it is analysed; a Structured Report and a picture come back"),
    Sample("RG3_UNCR.dcm", "radiograph of a lower leg (CR)", "the gate refuses it; a report that says why comes back"),
    Sample("693_UNCR.dcm", "CT of a head", "no route takes it: it stays UNROUTED, and the reason is kept"),
)


class Pacs(Protocol):
    """What the demo needs of the PACS that it answers to."""

    name: str
    ae_title: str
    port: int

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def put(self, path: Path) -> None: ...
    def send(self, study_instance_uid: str) -> None: ...
    def holds(self, study_instance_uid: str) -> list[Dataset]: ...


class RealPacs:
    """An Orthanc: it is given the images, and sends them to the node itself."""

    name = "Orthanc"

    def __init__(self, folder: Path, node_port: int) -> None:
        self._orthanc = Orthanc(folder, node_ae_title=NODE, node_port=node_port)
        self.ae_title, self.port = self._orthanc.ae_title, self._orthanc.port

    def start(self) -> None:
        self._orthanc.start()

    def stop(self) -> None:
        self._orthanc.stop()

    def put(self, path: Path) -> None:
        self._orthanc.upload(path)

    def send(self, study_instance_uid: str) -> None:
        self._orthanc.send_study(study_instance_uid)

    def holds(self, study_instance_uid: str) -> list[Dataset]:
        return [dcmread(io.BytesIO(data)) for data in self._orthanc.instances(study_instance_uid).values()]


class SmallPacs:
    """The stand-in where no Orthanc is installed: it keeps results; the demo sends the images in its name."""

    name = "a small stand-in PACS (install Debian's `orthanc` to see a real one)"

    def __init__(self, folder: Path, node_port: int) -> None:
        self._scp = StandIn(folder, report_to=("127.0.0.1", node_port))
        self._node_port = node_port
        self._images: dict[str, Path] = {}
        self.ae_title, self.port = "STANDIN", 0

    def start(self) -> None:
        self._scp.start()
        self.port = self._scp.port

    def stop(self) -> None:
        self._scp.stop()

    def put(self, path: Path) -> None:
        self._images[str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)] = path

    def send(self, study_instance_uid: str) -> None:
        sender = Sender(
            calling_ae_title=MODALITY, called_ae_title=NODE, host="127.0.0.1", port=self._node_port, timeout=20
        )
        for _, outcome in sender.send([self._images[study_instance_uid]]):
            if outcome.kind != "stored":
                raise PeerError(f"the node did not take the image: {outcome.error}")
        sender.close()

    def holds(self, study_instance_uid: str) -> list[Dataset]:
        kept = [dcmread(path) for path in self._scp.received()]
        return [ds for ds in kept if ds.StudyInstanceUID == study_instance_uid]


def run(out: Console, *, folder: Path | None = None, stand_in: bool = False) -> int:
    """Run the demo.

    Returns:
        0 only if the PACS holds the results that it must.
    """
    samples = _samples(out)
    if samples is None:
        return 2
    home = folder or Path(tempfile.mkdtemp(prefix="overread-demo-"))
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    pacs: Pacs = SmallPacs(home / "pacs", port) if stand_in or find() is None else RealPacs(home / "pacs", port)
    out.print(f"The PACS is {pacs.name}. Everything happens in {home}.")
    node: subprocess.Popen[bytes] | None = None
    try:
        pacs.start()
        file = home / "overread.toml"
        file.write_text(
            SETTINGS.format(
                node=NODE,
                port=port,
                web=free_port(),
                pacs=pacs.ae_title,
                pacs_port=pacs.port,
                modality=MODALITY,
            )
        )
        settings = Settings.load(file)
        node = _start(file, home)
        _wait_until_ready(out, settings, node, home)
        with open_parts(settings) as parts:
            return _there_and_back(out, pacs, samples, parts, home)
    except (OverreadError, OSError) as error:
        out.print(f"The demo failed: {error}", style="bold red", markup=False)
        out.print(f"The node's log is {home / 'node.log'}.")
        return 1
    finally:
        if node is not None:
            node.terminate()
            node.wait()
        pacs.stop()
        if folder is None:
            for scratch in ("node", "pacs"):
                shutil.rmtree(home / scratch, ignore_errors=True)


def _samples(out: Console) -> dict[str, tuple[Sample, Path]] | None:
    """The sample files by Study Instance UID."""
    found = {}
    for sample in SAMPLES:
        path = get_testdata_file(sample.file, download=False)
        if path is None:
            out.print("The demo needs the sample images of `pydicom-data`: pip install 'overread[demo]'", style="red")
            return None
        found[str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)] = (sample, Path(str(path)))
    return found


def _start(file: Path, home: Path) -> subprocess.Popen[bytes]:
    with (home / "node.log").open("ab") as log:
        command = [sys.executable, "-m", "node.cli", "serve", "--config", str(file)]
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _wait_until_ready(out: Console, settings: Settings, node: subprocess.Popen[bytes], home: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        bar = progress.add_task("starting the node")
        while time.monotonic() < until:
            said = roles.status(settings.node.data_dir)
            waiting = [r for r, s in said.items() if not (s["running"] and s["state"] == "ready")]
            if not waiting:
                return
            if node.poll() is not None:
                raise OverreadError(f"the node ended with exit code {node.returncode}")
            progress.update(bar, description=f"starting the node: waiting for {', '.join(waiting)}")
            time.sleep(0.05)
    raise OverreadError(f"the node was not ready after {READY_SECONDS:g} s; see {home / 'node.log'}")


def _there_and_back(out: Console, pacs: Pacs, samples: dict[str, tuple[Sample, Path]], parts: Parts, home: Path) -> int:
    good = True
    for uid, (sample, path) in samples.items():
        out.rule(f"{sample.what}  ({sample.file})", align="left")
        out.print(f"expected: {sample.expected}\n", style="italic")
        pacs.put(path)
        pacs.send(uid)
        study = _follow(out, parts, uid)
        good = _show(out, pacs, parts, study, home, routed=sample is not SAMPLES[-1]) and good
    out.rule(align="left")
    _whats_next(out, home, good=good)
    return 0 if good else 1


def _follow(out: Console, parts: Parts, uid: str) -> Study:
    """Print a study's story as it happens, until there is nothing left to wait for."""
    until = time.monotonic() + DONE_SECONDS
    told = 0
    while time.monotonic() < until:
        try:
            study = studies.find(parts.store, uid)
        except OverreadError:
            time.sleep(0.02)
            continue
        ended = _ended(parts, study)
        story = events.of_study(parts.store, study.id)
        for event in story[told:]:
            out.print(f"  [bold cyan]{event.verb:<8}[/] ", end="")
            out.print(event.text, markup=False)
        told = len(story)
        if ended:
            return study
        time.sleep(0.02)
    raise OverreadError(f"the study was not finished after {DONE_SECONDS:g} s")


def _ended(parts: Parts, study: Study) -> bool:
    if study.state is StudyState.UNROUTED:
        return True
    if study.state is not StudyState.ROUTED:
        return False
    open_jobs = [j for j in jobs.of_study(parts.store, study.id) if j.state in (JobState.QUEUED, JobState.LEASED)]
    waiting = (DeliveryState.QUEUED, DeliveryState.LEASED)
    return not open_jobs and not [d for d in deliveries.of_study(parts.store, study.id) if d.state in waiting]


def _show(out: Console, pacs: Pacs, parts: Parts, study: Study, home: Path, *, routed: bool) -> bool:
    """What the PACS holds of one study now, and whether that is what it must hold."""
    ours = {r.sop_instance_uid: r for r in jobs.results(parts.store, study.id)}
    held = [ds for ds in pacs.holds(study.study_instance_uid) if str(ds.SOPInstanceUID) in ours]
    if not routed:
        good = study.state is StudyState.UNROUTED and bool(study.reason) and not held
        out.print(f"\n  {study.state}: {study.reason}\n", style="green" if good else "red", markup=False)
        return good
    for ds in held:
        if ds.Modality == "SR":
            out.print("\n[bold]The Structured Report, as the PACS holds it:[/]")
            out.print(as_text(ds), markup=False)
        else:
            picture = home / f"study-{study.id}-{ours[str(ds.SOPInstanceUID)].ordinal}.png"
            Image.fromarray(ds.pixel_array).save(picture)
            out.print(f"[bold]The Secondary Capture, as the PACS holds it:[/] {picture}\n")
    _times(out, parts, study)
    good = {"sr", "sc"} <= {ours[str(ds.SOPInstanceUID)].kind for ds in held} and len(held) == len(ours)
    for line in [] if good else _why_not(parts, study) or [f"Only {len(held)} of {len(ours)} results arrived."]:
        out.print(f"  {line}", style="bold red", markup=False)
    return good


def _why_not(parts: Parts, study: Study) -> list[str]:
    """What was given up, and why."""
    tried = [j for j in jobs.of_study(parts.store, study.id) if j.state is JobState.DEAD]
    sends = [d for d in deliveries.of_study(parts.store, study.id) if d.state is DeliveryState.DEAD]
    lines = [f"The analysis was given up: {j.reason}" for j in tried]
    return lines + [f"Sending the {d.kind} to {d.peer} was given up: {d.reason}" for d in sends]


def _times(out: Console, parts: Parts, study: Study) -> None:
    """How long each verb took, from the last byte received to the PACS's answer."""
    story = events.of_study(parts.store, study.id)
    last = {verb: max((e.at for e in story if e.verb == verb), default=None) for verb in ("settle", "route", "report")}
    sent = max((d.sent_at or 0.0 for d in deliveries.of_study(parts.store, study.id)), default=0.0)
    stops = [("receive", study.last_received_at), *last.items(), ("deliver", sent)]
    table = Table("verb", "ms", box=None)
    for (_, before), (verb, at) in pairwise(stops):
        if at and before:
            name = "infer + report" if verb == "report" else verb
            table.add_row(name, f"{1000 * (at - before):.0f}")
    out.print(table)


def _whats_next(out: Console, home: Path, *, good: bool) -> None:
    if good:
        out.print("The results are in the PACS.", style="bold green")
    out.print(
        f"The pictures and the node's log stay in {home}.\n"
        "Next: `overread init` writes settings for your own PACS, `overread check` looks at them,\n"
        "`overread serve` runs the node, `overread predict PATH` reads your own images. Research use only."
    )
