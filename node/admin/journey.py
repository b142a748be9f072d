"""A synthetic study's way in: by our own listener, settled, routed, read, reported and checked as every study is.

Each function yields steps and waits no longer than it says; `Journey` holds what the next one needs. The way out is
`handover`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.admin import step
from node.admin.phantom import make_study
from node.admin.probe import Probe
from node.admin.step import Step
from node.domain import Job, JobState, Study, StudyState
from node.errors import NoSuchStudy, SettingsError
from node.network.query import Sought
from node.network.sender import Outcome, Sender
from node.network.tls import fingerprint_of
from node.pipeline.ourselves import address_of
from node.pipeline.peers import identity
from node.storage import events, hosts, jobs, negotiated, roles, studies
from node.storage.bell import Bell
from node.storage.spool import Spool
from node.storage.store import Store
from node.storage.trials import PATIENT_ID

LOOK_SECONDS = 0.1
SETTLE_SECONDS = 15.0
"""What a node may take to settle and route beyond the time that its settings have it wait."""
WORK_SECONDS = 120.0
"""What models may take for the few images of a test."""
WORDS = {"sr": "report", "sc": "picture", "gsps": "presentation state", "kos": "key object selection", "pdf": "PDF"}
NEEDED = ("receive", "infer", "dispatch")


@dataclass
class Journey:
    """One test study of one peer: what is known of it so far. `proof_seconds`: how long the peer may take to prove."""

    probe: Probe
    store: Store
    spool: Spool
    bell: Bell
    proof_seconds: float
    study_instance_uid: str = ""
    arrived: bool = False
    """Our own listener took the whole study."""
    study: Study | None = None
    sendable: int = 0
    """How many results of the routes to the peer are sound."""
    withheld: bool = False
    """Whoever runs the test wants nothing stored there."""
    tried: bool = False
    """Something was sent to the peer, or may have been."""
    stored: list[Sought] = field(default_factory=list)
    """What the peer has taken."""

    @property
    def name(self) -> str:
        return self.probe.peer.name

    @property
    def routes(self) -> list[str]:
        return [route.name for route in self.probe.settings.route if self.probe.is_fed_by(route.name)]

    @property
    def us(self) -> str:
        """What the peer must know to reach our listener."""
        settings = self.probe.settings
        secure = settings.tls if settings.uses_tls(self.probe.peer) else None
        port = f"port {secure.port} with TLS" if secure else f"port {settings.listener.port}"
        return f'"{settings.node.ae_title}" with this machine\'s address and {port}'

    def found(self) -> Study | None:
        """The study as it is now, if it was received."""
        try:
            self.study = studies.find(self.store, self.study_instance_uid)
        except NoSuchStudy:
            self.study = None
        return self.study

    def remember_what_it_takes(self) -> None:
        negotiated.remember(self.store, self.name, self.probe.takes, now=self.store.now())


def send_in(journey: Journey) -> Iterator[Step]:
    """The study, by C-STORE to our own listener."""
    settings = journey.probe.settings
    said = roles.status(settings.node.data_dir, roles.processes(settings.infer.device, NEEDED))
    here = {name for name, one in said.items() if one["running"] and one["state"] == "ready"}
    elsewhere = [name for name in said if name != "receive" and hosts.runs(journey.store, name.split("-")[0])]
    if missing := [name for name in said if name not in {*here, *elsewhere}]:
        change = "start it here: `overread serve`"
        yield step.unable("study", f"the node does not run ({', '.join(missing)} not ready)", change)
        return
    yield step.waiting("study", "a synthetic study is sent to our own listener")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="overread-test-") as folder:
        wanted = [r.when for r in settings.route if r.name in journey.routes] or [{}]
        uid, paths = make_study(Path(folder), wanted, now=time.time())
        journey.study_instance_uid = uid
        try:
            outcomes = _to_ourselves(journey, said["receive"], paths)
        except SettingsError as error:
            yield step.fail("study", str(error), "correct it in the settings here")
            return
    if bad := [o for o in outcomes if o.kind != "stored"]:
        text = f"our own listener did not take the synthetic study: {bad[0].error}"
        change = "restart the node here, so that it runs with these settings"
        if settings.tls:
            change += "; with [tls], authorities must also believe this node's own certificate"
        yield step.fail("study", text, change)
        return
    journey.arrived = True
    ms = 1000 * (time.monotonic() - started)
    images = "1 synthetic image" if len(paths) == 1 else f"{len(paths)} synthetic images"
    text = f"{images} of patient {PATIENT_ID} came through our own listener in {ms:.0f} ms"
    yield step.ok("study", f"{text}; Study Instance UID {uid}")


def _to_ourselves(journey: Journey, noted: dict[str, Any], paths: Sequence[Path]) -> list[Outcome]:
    settings, secure = journey.probe.settings, "port" not in noted
    sender = Sender(
        calling_ae_title=settings.node.ae_title,
        called_ae_title=settings.node.ae_title,
        host=address_of(settings),
        port=int(noted["tls_port" if secure else "port"]),
        timeout=journey.probe.seconds,
        identity=identity(settings) if secure else None,
        fingerprint=fingerprint_of(settings.tls.certificate) if secure and settings.tls else "",
    )
    try:
        return [outcome for _, outcome in sender.send(paths)]
    finally:
        sender.close()


def analyse(journey: Journey) -> Iterator[Step]:
    """What the node makes of it: settled, routed, gated, read, reported, checked."""
    if not journey.arrived:
        yield step.unable("result", "there is no study to make a result of")
        return
    settle = journey.probe.settings.settle
    until = time.monotonic() + max(settle.quiet_seconds, settle.released_quiet_seconds) + SETTLE_SECONDS + WORK_SECONDS
    started, told = time.monotonic(), ""
    while time.monotonic() < until:
        done, text = _progress(journey)
        if done:
            yield from _analysed(journey, time.monotonic() - started)
            return
        if text != told:
            yield step.waiting("result", text)
            told = text
        time.sleep(LOOK_SECONDS)
    change = "see `overread status` here, and the node's log"
    yield step.fail("result", f"the study was not analysed in time; last: {told}", change)


def _progress(journey: Journey) -> tuple[bool, str]:
    """Whether nothing is left to wait for, and the newest line of its story."""
    study = journey.found()
    if study is None:
        return False, "to be remembered"
    story = events.of_study(journey.store, study.id)
    text = f"{story[-1].verb}: {story[-1].text}" if story else ""
    if study.state is StudyState.HELD:
        return True, text
    if study.state not in (StudyState.ROUTED, StudyState.UNROUTED):
        return False, text
    waits = [j for j in jobs.of_study(journey.store, study.id) if j.state in (JobState.QUEUED, JobState.LEASED)]
    return not waits, text


def _analysed(journey: Journey, seconds: float) -> Iterator[Step]:
    study = journey.study
    assert study, "it was found"
    if not journey.routes:
        text = f"no live route delivers to {journey.name}: no result is made, the image itself stands for one"
        yield step.left_out("result", text)
        return
    ours = [job for job in jobs.of_study(journey.store, study.id) if job.route in journey.routes]
    if not ours:
        reasons = "; ".join(f"{m.route}: {m.reason}" for m in studies.route_reasons(journey.store, study))
        text = f"no route to {journey.name} takes a synthetic image ({reasons or study.reason})"
        yield step.warn("result", text, "see when and unless of the [[route]] here", proven=False)
        return
    if dead := [job for job in ours if job.state is JobState.DEAD]:
        change = "see `overread check` and the node's log here"
        yield step.fail("result", f"the analysis was given up: {dead[0].reason}", change)
        return
    made = [r for r in jobs.results(journey.store, study.id) if r.route in journey.routes]
    if bad := [r for r in made if r.quarantine]:
        text = f"a {WORDS[bad[0].kind]} failed its self-check: {bad[0].quarantine}"
        yield step.fail("result", text, "this is a fault of Overread: report it, with this line")
        return
    journey.sendable = len(made)
    counted = ", ".join(WORDS[kind] for kind in dict.fromkeys(r.kind for r in made))
    text = f"{len(made)} results ({counted}) in {seconds:.1f} s, each passed its self-check; {_endings(ours)}"
    yield step.ok("result", text)


def _endings(ours: Sequence[Job]) -> str:
    return "; ".join(f"{job.route}: {job.state}" + (f" ({job.reason})" if job.reason else "") for job in ours)
