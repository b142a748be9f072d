"""Replay: compute a past result again from what was kept of it, and say whether it is the same.

The same code reads and reports as in the infer role; only the files go into a folder that is thrown away. Nothing is
sent, nothing is remembered.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from config.settings import Route, Settings
from models.bundle import Bundle, BundleError
from models.engine import EngineAway
from models.findings import Reader
from models.predictor import DeviceError
from models.registry import Registry
from node.domain import FindingRow, Gone, Instance, Job, Result, Work
from node.errors import CannotReplay
from node.pipeline.engine import engine_of, leave
from node.pipeline.infer import Worker
from node.pipeline.provenance import versions
from node.storage import jobs, results, studies
from node.storage.bell import Bell
from node.storage.recalls import KIND as WITHDRAWAL
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

Verdict = Literal["identical", "within 0.1 point", "different"]

POINT = 0.001
"""A tenth of a percentage point, as a score."""


@dataclass(frozen=True)
class Score:
    """One label of one image, then and now; None where there was no score."""

    image: str
    label: str
    then: float | None
    now: float | None
    then_said: str
    now_said: str


@dataclass(frozen=True)
class Replayed:
    """What came out, and what it was computed with then and now."""

    verdict: Verdict
    same_bytes: bool
    scores: tuple[Score, ...]
    then: Mapping[str, str]
    now: Mapping[str, str]


def replay(store: Store, sop_instance_uid: str, *, settings: Settings, registry: Registry, bell: Bell) -> Replayed:
    """Compute the result with this SOP Instance UID again, and compare scores and bytes.

    Raises:
        NoSuchResult: there is none.
        CannotReplay: its images, its model or the note of what it ran with are not there as they were.
    """
    result, job = results.find(store, sop_instance_uid)
    if result.kind == WITHDRAWAL:
        raise CannotReplay("a withdrawal is not computed: replay a result that it takes back")
    if not job.ran_with:
        raise CannotReplay("what it ran with was not noted")
    bundle = _models(registry, job.ran_with)
    route = Route.model_validate({k: v for k, v in job.ran_with["route"].items() if k in Route.model_fields})
    then = _settings(settings, job.ran_with)
    work = _work(store, job)
    with tempfile.TemporaryDirectory(prefix="overread-replay-") as folder:
        spool = Spool(Path(folder), durable=False)
        spool.open()
        worker, reader = _ready(store, spool, then, registry, bell, bundle, route, str(job.ran_with["device"]))
        try:
            outcome = worker.built(work, worker.see(reader, [work])[0], route, bundle)
        except EngineAway as error:
            raise CannotReplay(str(error)) from None
        finally:
            leave(worker.engine, worker.engine)
    again = {(b.kind, b.ordinal): b.digest for b in outcome.results}
    same_bytes = again.get((result.kind, result.ordinal)) == result.digest
    scores = tuple(_scores(jobs.findings(store, job.id), outcome.findings, work.instances))
    return Replayed(
        verdict=verdict(scores, same_bytes),
        same_bytes=same_bytes,
        scores=scores,
        then={"device": str(job.ran_with["device"]), **job.ran_with["versions"]},
        now={"device": reader.device, **versions()},
    )


def verdict(scores: Sequence[Score], same_bytes: bool) -> Verdict:
    """Identical in everything, or in the scores to a tenth of a point, or different."""
    if any((s.then is None) != (s.now is None) or s.then_said != s.now_said for s in scores if None in (s.then, s.now)):
        return "different"
    largest = max((abs(s.then - s.now) for s in scores if s.then is not None and s.now is not None), default=0.0)
    if largest == 0 and same_bytes:
        return "identical"
    return "within 0.1 point" if largest <= POINT else "different"


def _models(registry: Registry, ran_with: Mapping[str, Any]) -> Bundle:
    """The bundle that was run, with the gate that it had; no other of the same name."""
    bundle = _exactly(registry, ran_with["bundle"], ran_with["bundle_digest"])
    if ran_with["gate"]:
        _exactly(registry, ran_with["gate"], ran_with["gate_digest"])
    return bundle


def _exactly(registry: Registry, ref: str, digest: str) -> Bundle:
    missing = f"bundle {ref} is not here (digest {digest})"
    try:
        found = registry.find(ref)
    except BundleError as error:
        raise CannotReplay(f"{missing}: {error}") from None
    if found.digest != digest:
        raise CannotReplay(f"{missing}: the one of that name has the digest {found.digest}")
    return found


def _settings(settings: Settings, ran_with: Mapping[str, Any]) -> Settings:
    """Today's settings, with those in the place of theirs that bear on a result."""
    node = settings.node.model_copy(update=ran_with["node"])
    infer = settings.infer.model_copy(update=ran_with["infer"])
    return settings.model_copy(update={"node": node, "infer": infer})


def _work(store: Store, job: Job) -> Work:
    """The job as its worker had it: the same images in the same order, the same ones missing."""
    assert job.ran_with is not None
    members = {member.sop_instance_uid: member for member in jobs.members(store, job.id)}
    inputs = [members[uid] for uid in job.ran_with["inputs"]]
    wrong = list(dict.fromkeys(said for one in inputs if (said := _unfit(store, one))))
    if wrong:
        raise CannotReplay("; ".join(wrong))
    before: list[Result] = [results.find(store, uid)[0] for uid in job.ran_with["predecessors"]]
    study = studies.by_id(store, job.study_id)
    return Work(job, study, tuple(inputs), tuple(job.ran_with["missing"]), tuple(before))


def _unfit(store: Store, instance: Instance) -> str:
    """Why an image is not there as it was; empty when it is."""
    if instance.gone is Gone.PURGED:
        at = instance.gone_at
        return f"input purged on {datetime.fromtimestamp(at).astimezone():%Y-%m-%d}" if at else "input purged"
    try:
        return "" if digest_of(store.spool.shelf.at_hand(instance.path)) == instance.digest else "input altered"
    except FileNotFoundError:
        return "input lost"
    except OSError as error:
        return f"input cannot be read: {error.strerror}"


def _ready(
    store: Store,
    spool: Spool,
    settings: Settings,
    registry: Registry,
    bell: Bell,
    bundle: Bundle,
    route: Route,
    device: str,
) -> tuple[Worker, Reader]:
    """A worker with the models loaded: on the device of then if it is there, else on the settings' first."""
    for wanted in dict.fromkeys((*_named(device), settings.infer.device[0])):
        worker = Worker(
            store,
            spool,
            settings=settings,
            registry=registry,
            bell=bell,
            name="replay",
            device=wanted,
            engine=engine_of(settings),
        )
        try:
            return worker, worker.reader(bundle, route)
        except DeviceError as error:
            refused = error
    raise CannotReplay(str(refused))


def _named(device: str) -> Iterator[str]:
    """TensorFlow's name of a device, as the settings write it."""
    kind, _, number = device.removeprefix("/").lower().partition(":")
    if kind in ("cpu", "gpu") and number.isdecimal():
        yield kind if kind == "cpu" else f"gpu:{number}"


def _scores(then: Sequence[FindingRow], now: Sequence[FindingRow], images: Sequence[Instance]) -> Iterator[Score]:
    """Each label of each image that was or is spoken of, in the order of then."""
    uids = {image.id: image.sop_instance_uid for image in images}
    before, after = ({_key(row): row for row in rows} for rows in (then, now))
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        yield Score(
            image=uids.get(key.instance_id, str(key.instance_id)),
            label=key.label,
            then=old.score if old else None,
            now=new.score if new else None,
            then_said=_said(old),
            now_said=_said(new),
        )


def _key(row: FindingRow) -> FindingRow:
    """A row without what was found: the image and the label."""
    return replace(row, status="", reason="", score=None, presence="")


def _said(row: FindingRow | None) -> str:
    return "not mentioned" if row is None else row.presence or row.status
