"""The canary: a drawn film that the node sends to itself, through every room and every model, to a PACS stand-in here.

It travels as studies do, and must be read as it was the first time. Nothing of it leaves this machine, counts anywhere,
or stays. What it is compared with is kept: the same film under the same bundle, gate and route gives the same scores.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from PIL import Image
from pydicom import dcmread

from config.settings import Peer, Settings
from models.engine import GOLDEN_TOLERANCE
from node.admin.phantom import make_study
from node.domain import DeliveryState, Job, JobState, Study, StudyState
from node.errors import NoSuchStudy, OverreadError, PeerError, RoleTaken
from node.network.sender import Sender
from node.network.standin import StandIn
from node.network.tls import fingerprint_of
from node.pipeline.deliver import Courier
from node.pipeline.ourselves import address_of
from node.pipeline.peers import identity
from node.storage import canaries, deliveries, duties, jobs, roles, studies, trials
from node.storage.canaries import PEER, Ran
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

log = logging.getLogger(__name__)

FILM = Path(__file__).with_name("canary.png")
"""Drawn by a program, then changed until the gate of the shipped bundles takes it for a chest: nobody's film."""
HOUR = 3600.0
LOCK = "canary"  # whoever owns this in the data folder flies
FLIGHT = "canary.flight"
"""The same of all hosts: their duty."""
LOOK_SECONDS = 0.1
SETTLE_SECONDS = 30.0
"""To settle and route, beyond the time that the settings have a study wait."""
WORK_SECONDS = 60.0
"""To read, beyond the deadline of a batch that may be under way."""
SEND_SECONDS = 30.0
ENDED = (JobState.DONE, JobState.REFUSED, JobState.DEAD)

Say = Callable[[str, float], None]


@dataclass
class Flight:
    """One canary under way."""

    settings: Settings
    store: Store
    spool: Spool
    say: Say
    stopped: Callable[[], bool]
    uid: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def wait(self, step: str, limit: float, look: Callable[[], Any]) -> Any:
        """Look until there is something to see.

        Raises:
            OverreadError: there was nothing in time.
        """
        began = time.monotonic()
        while not (found := look()):
            if self.stopped():
                raise Stopped
            if time.monotonic() - began > limit:
                raise OverreadError(f"{step}: not done after {limit:.0f} s")
            time.sleep(LOOK_SECONDS)
        self.done(step, began)
        return found

    def done(self, step: str, began: float) -> None:
        self.seconds[step] = round(time.monotonic() - began, 3)
        self.say(step, self.seconds[step])


class Stopped(OverreadError):
    """The node was stopped while a canary was under way."""


def run(
    settings: Settings,
    store: Store,
    spool: Spool,
    *,
    say: Say = lambda step, seconds: None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Ran]:
    """Fly once; what came of each route. Whatever was left of earlier canaries goes first.

    Raises:
        RoleTaken: another one is under way; each would take the other's results.
    """
    with alone(settings, store):
        return _run(Flight(settings, store, spool, say, stopped))


@contextlib.contextmanager
def alone(settings: Settings, store: Store) -> Iterator[None]:
    taken = "another canary is under way: try again in a few minutes"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(roles.own(settings.node.data_dir, [LOCK]))
        except RoleTaken:
            raise RoleTaken(taken) from None
        held.enter_context(duties.hold(store, FLIGHT, taken))
        yield


def _run(flight: Flight) -> list[Ran]:
    store, spool = flight.store, flight.spool
    tidy(store, spool)
    routes = [route.name for route in flight.settings.route]
    if not routes:
        return []
    try:
        with spool.room("canary") as scratch:
            files = _film(flight, scratch)
            canaries.begin(store, routes, flight.uid, now=store.now())
            told = _fly(flight, files, scratch)
        for route, (ok, reason, found) in told.items():
            canaries.end(
                store, flight.uid, route, ok=ok, reason=reason, seconds=flight.seconds, **found, now=store.now()
            )
    except Stopped as error:
        canaries.end_all(store, str(error), now=store.now())
    except (OverreadError, OSError) as error:
        for route in routes:
            seconds = flight.seconds
            canaries.end(store, flight.uid, route, ok=False, reason=str(error), seconds=seconds, now=store.now())
    finally:
        tidy(store, spool)
    return [ran for ran in canaries.latest(store) if ran.route in routes]


def tidy(store: Store, spool: Spool) -> None:
    """Remove what canaries left that have ended; one that is being worked on goes the next time."""
    for study_id in canaries.left_over(store):
        trials.remove(store, spool, study_id)
    canaries.left_over(store)


Verdicts = dict[str, tuple[bool | None, str, dict[str, Any]]]


def _film(flight: Flight, scratch: Path) -> list[Path]:
    """One file for what each route asks for, with the drawn film in it. STAT: it waits for one batch only."""
    wanted = {json.dumps(route.when, sort_keys=True): route.when for route in flight.settings.route}
    flight.uid, files = make_study(scratch, wanted.values(), now=flight.store.now())
    pixels = np.asarray(Image.open(FILM).convert("L"))
    for file in files:
        ds = dcmread(file)
        ds.Rows, ds.Columns = pixels.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        ds.PixelData = pixels.tobytes()
        ds["PixelData"].VR = "OW"
        ds.RequestedProcedurePriority = "STAT"
        ds.save_as(file, enforce_file_format=True)
    return files


def _fly(flight: Flight, files: Sequence[Path], scratch: Path) -> Verdicts:
    """From our own listener to the stand-in."""
    settings, store = flight.settings, flight.store
    began = time.monotonic()
    _send(settings, files)
    flight.done("receive", began)
    rule = settings.settle
    limit = max(rule.quiet_seconds, rule.released_quiet_seconds) + SETTLE_SECONDS
    study = flight.wait("settle", limit, lambda: _routed(store, flight.uid))
    if study.state is StudyState.HELD:
        raise OverreadError("settle: somebody has sent into its study, which is held")
    limit = settings.infer.deadline_seconds + WORK_SECONDS
    made = flight.wait("infer", limit, lambda: _read(store, study)) if study.state is StudyState.ROUTED else []
    kept = _deliver(flight, study, made, scratch / "pacs")
    by_route = {job.route: [j for j in made if j.route == job.route] for job in made}
    reasons = {m.route: m.reason for m in studies.route_reasons(store, study)}
    found: Verdicts = {}
    for route in settings.route:
        if mine := by_route.get(route.name):
            found[route.name] = _judge(store, study, mine, kept)
        else:
            found[route.name] = (None, f"not tried: {reasons.get(route.name, 'no answer of the route')}", {})
    return found


def _send(settings: Settings, files: Sequence[Path]) -> None:
    said = roles.status(settings.node.data_dir)["receive"]
    if not said["running"]:
        raise OverreadError("receive: the listener does not run")
    secure = "port" not in said
    sender = Sender(
        calling_ae_title=settings.node.ae_title,
        called_ae_title=settings.node.ae_title,
        host=address_of(settings),
        port=int(said["tls_port" if secure else "port"]),
        timeout=SEND_SECONDS,
        identity=identity(settings) if secure else None,
        fingerprint=fingerprint_of(settings.tls.certificate) if secure and settings.tls else "",
    )
    try:
        for _, outcome in sender.send(files):
            if outcome.kind != "stored":
                raise PeerError(f"receive: our own listener did not take the film: {outcome.error}")
    finally:
        sender.close()


def _routed(store: Store, uid: str) -> Study | None:
    try:
        study = studies.find(store, uid)
    except NoSuchStudy:
        return None
    return study if study.state in (StudyState.ROUTED, StudyState.UNROUTED, StudyState.HELD) else None


def _read(store: Store, study: Study) -> list[Job]:
    made = jobs.of_study(store, study.id)
    return made if all(job.state in ENDED for job in made) else []


def _deliver(flight: Flight, study: Study, made: Sequence[Job], folder: Path) -> Mapping[str, str]:
    """Send all sound results to a stand-in, by the courier that sends them to peers; digests of what it keeps."""
    scp = StandIn(folder, ae_title="CANARY")
    scp.start()
    # Not a peer of the settings: its name is none that they allow
    here = Peer(name="canary", ae_title="CANARY", host="127.0.0.1", port=scp.port, may=["receive"], proof="none")
    peer = here.model_copy(update={"name": PEER})
    plain = flight.settings.model_copy(update={"tls": None})
    courier = Courier(flight.store, peer, spool=flight.spool, settings=plain)
    try:
        names = sorted({job.route for job in made})
        trials.send_results(flight.store, study, PEER, [], routes=names, now=flight.store.now())
        flight.wait("deliver", SEND_SECONDS, lambda: _sent(courier, flight.store, study))
        return {path.stem: digest_of(path) for path in scp.received()}
    finally:
        courier.close()
        scp.stop()


def _sent(courier: Courier, store: Store, study: Study) -> bool:
    courier.deliver_due()
    waits = (DeliveryState.QUEUED, DeliveryState.LEASED)
    return not any(d.state in waits for d in deliveries.of_study(store, study.id))


def _judge(
    store: Store, study: Study, mine: Sequence[Job], kept: Mapping[str, str]
) -> tuple[bool | None, str, dict[str, Any]]:
    """Whether one route's jobs came out as they must."""
    results = [r for r in jobs.results(store, study.id) if r.job_id in {job.id for job in mine}]
    for job in mine:
        if job.state is JobState.DEAD:
            return False, f"infer: the job was given up: {job.reason}", {}
    if bad := [r for r in results if r.quarantine]:
        return False, f"report: {bad[0].kind} failed its self-check", {}
    if not results:
        return False, "report: no result was made", {}
    if lost := [r.kind for r in results if kept.get(r.sop_instance_uid) != r.digest]:
        return False, f"deliver: the stand-in did not get the {lost[0]} as it was stored", {}
    outcome = {"jobs": [_outcome(store, job) for job in mine]}
    likeness = _likeness(mine)
    before = canaries.first_like(store, likeness)
    wrong = _differs(before, outcome) if before else ""
    return not wrong, wrong, {"outcome": outcome, "likeness": likeness}


def _outcome(store: Store, job: Job) -> dict[str, Any]:
    rows = jobs.findings(store, job.id)
    return {"state": job.state, "rows": [[r.status, r.code, r.label, r.score] for r in rows]}


def _likeness(mine: Sequence[Job]) -> str:
    """What else must be the same for the same scores: film, bundles and gates by digest, and the pixels' route."""
    keys = ("bundle_digest", "gate_digest", "route")
    said = [{key: (job.ran_with or {}).get(key) for key in keys} | {"film": digest(FILM)} for job in mine]
    return blake3(json.dumps(said, sort_keys=True).encode()).hexdigest()


def digest(film: Path) -> str:
    return blake3(film.read_bytes()).hexdigest()


def _differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a canary says that the first of its kind did not; "" for nothing."""
    for old, new in zip(before["jobs"], now["jobs"], strict=False):
        if old["state"] != new["state"] or len(old["rows"]) != len(new["rows"]):
            return f"infer: the job is {new['state']}, and was {old['state']} the first time"
        for (*was, score), (*said, scored) in zip(old["rows"], new["rows"], strict=True):
            if was != said or (score is None) != (scored is None):
                return f"infer: the film is {' '.join(said)}, and was {' '.join(was)} the first time".replace("  ", " ")
            if score is not None and abs(score - scored) > GOLDEN_TOLERANCE:
                return f"infer: {said[2]} is {scored:.3f}, and was {score:.3f} the first time"
    return "" if len(before["jobs"]) == len(now["jobs"]) else "route: other jobs were made than the first time"
