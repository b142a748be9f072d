"""The world of the model-based test: a node without processes, whose steps may die, and what must be true of it."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from databases_made import forget, place
from house import SETTINGS, House
from lives_made import Films, Grave, Killed, Known, Pacs, Reader
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from config.settings import Settings
from node.dispatch import Dispatcher
from node.domain import Gone, Job, JobState, Result, StudyState, Work
from node.pipeline import deliver, infer, recover
from node.pipeline.deliver import Courier
from node.pipeline.infer import Worker
from node.pipeline.route import Planned
from node.storage import deliveries, invariants, jobs, queue, studies
from node.storage.bell import LocalBell
from node.storage.schema import instance as rows
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

PEERS = ("pacs", "archive")
CHANGED = SETTINGS | {
    "route": [SETTINGS["route"][0] | {"deliver_to": list(PEERS)}],
    "retention": {"inputs_days": 30, "results_days": 20},
}
UNFINISHED = ("RECEIVING", "SETTLED", "QUEUED", "LEASED", "HELD")


class World:
    """One node without processes, its peers, and what it promised them: `acknowledged` counts what senders may believe,
    by SOP Instance UID and digest."""

    def __init__(self, films: Films, grave: Grave) -> None:
        self.films, self.grave = films, grave
        self.folder = Path(tempfile.mkdtemp(prefix="overread-life-"))
        spool = Spool(self.folder / "spool", durable=False)
        spool.open()
        store = Store(place(self.folder), spool.root, durable=False)
        store.open()
        self.house = House(Settings(**CHANGED), store, spool, LocalBell(self.folder / "run"), self.folder)
        self.uptime = 1000.0
        self.acknowledged: Counter[tuple[str, str]] = Counter()
        self.pacs = {name: Pacs() for name in PEERS}
        self.associations = 0
        self.said: dict[str, tuple[str, ...]] = {}
        self.named: dict[Any, str] = {}
        self.start()

    def start(self) -> None:
        """All roles anew, as after a restart of the node."""
        self.open: list[str] = []
        self.asleep: list[Work] = []
        self.start_receiver()
        for process in ("w", "v"):
            jobs.give_back(self.house.store, process, crashed=False, now=self.house.now)
        self.start_dispatch()

    def start_receiver(self) -> None:
        self.open = []
        self.house.restart()
        recover.recover(self.house.store, self.house.spool, own_device_uid=self.house.own, now=self.house.now)

    def start_dispatch(self) -> None:
        house = self.house
        plans = [Planned(r, "cardiomegaly@1.0.0") for r in house.settings.route]
        self.dispatcher = Dispatcher(
            house.store,
            house.spool,
            settings=house.settings,
            bell=house.bell,
            plans=plans,
            clock=lambda: house.now,
            monotonic=lambda: self.uptime,
        )
        self.dispatcher.recover()

    def lose_the_database(self) -> None:
        """The rows, and with them what people decided and which files were purged."""
        kept = {(r.sop_instance_uid, r.digest) for r in self.rows() if r.gone == Gone.KEPT}
        forget(self.house.store)
        self.house.store.open()
        self.acknowledged = Counter(dict.fromkeys(kept & set(self.acknowledged), 1))
        self.start()

    def pass_time(self, seconds: float) -> None:
        self.house.now += seconds
        self.uptime += seconds

    def close(self) -> None:
        self.house.store.close()
        self.house.bell.close()
        shutil.rmtree(self.folder)

    def worker(self, name: str) -> Worker:
        house = self.house
        return Worker(
            house.store,
            house.spool,
            settings=house.settings,
            registry=Known(),  # type: ignore[arg-type]
            bell=house.bell,
            name=f"{name}@host",
            device="cpu",
            clock=lambda: house.now,
        )

    @contextmanager
    def dying(self, where: str, then: Callable[[], Any]) -> Iterator[None]:
        """A step that may die; `then` is what its supervisor or its successor does."""
        self.grave.armed = where
        try:
            yield
        except Killed:
            then()
        finally:
            self.grave.armed = ""

    def receive(self, paths: list[Path], how: str, dies: str) -> None:
        self.associations += 1
        name = f"{self.associations:012x}"
        self.house.begin(name)
        with self.dying(dies, self.start_receiver):
            for path in paths:
                assert self.house.put(path, association=name).code == 0x0000
                uid = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
                self.acknowledged[str(uid), digest_of(path)] += 1
            if how == "open":
                self.open.append(name)
            else:
                self.house.receiver.on_end(name, how)

    def end_association(self, how: str) -> None:
        self.house.receiver.on_end(self.open.pop(0), how)

    def advance(self, dies: str = "") -> None:
        with self.dying(dies, self.start_dispatch):
            self.dispatcher.advance()

    def infer(self, dies: str = "", *, breaks: bool = False) -> int:
        Reader.broken = breaks
        done = 0
        with self.dying(dies, lambda: jobs.give_back(self.house.store, "w", crashed=True, now=self.house.now)):
            done = self.worker("w").run_batch()
        Reader.broken = False
        return done

    def fall_asleep(self) -> None:
        rules = self.house.settings.infer
        self.asleep = queue.claim(self.house.store, "v@host", 8, now=self.house.now, lease=rules.lease_seconds)

    def wake(self) -> None:
        for name, bundle, works in infer._grouped(self.asleep):
            self.worker("v")._run(name, bundle, works)
        self.asleep = []

    def deliver(self, name: str, answers: list[str], dies: str = "") -> int:
        house = self.house
        peer = house.settings.peer_named(name)
        assert peer is not None
        courier = Courier(
            house.store,
            peer,
            spool=house.spool,
            settings=house.settings,
            clock=lambda: house.now,
            chance=lambda _low, high: high,
        )
        self.pacs[name].answers = list(answers)
        courier._sender = self.pacs[name]  # type: ignore[assignment]
        with pytest.MonkeyPatch.context() as patch, self.dying(dies, self.start_dispatch):
            if dies:  # a process that is killed gives nothing back
                patch.setattr(deliver.deliveries, "release", lambda *_: None)
            return courier.deliver_due()
        return 1

    def rows(self) -> list[Any]:
        with self.house.store.read() as connection:
            return list(connection.execute(rows.select()))

    # what must be true after each step

    def every_invariant_holds(self) -> None:
        assert invariants.verify(self.house.store, self.house.spool, self.house.now) == []

    def nothing_acknowledged_is_missing(self) -> None:
        found = {(r.sop_instance_uid, r.digest): r for r in self.rows()}
        for key, times in self.acknowledged.items():
            assert key in found, f"{key} was acknowledged and has no row"
            assert found[key].gone != Gone.LOST
            assert found[key].receipts >= times

    def no_result_has_two_names(self) -> None:
        """Of the same inputs, revision and kind there is one result in a whole life, also after a rebuild."""
        for study in studies.latest(self.house.store, 100):
            by_job: dict[int, list[Result]] = {}
            for result in jobs.results(self.house.store, study.id):
                by_job.setdefault(result.job_id, []).append(result)
            for job in jobs.of_study(self.house.store, study.id):
                self.names(job, by_job.get(job.id, []))

    def names(self, job: Job, results: list[Result]) -> None:
        for result in results:
            if not result.purged and result.sop_instance_uid not in self.said:
                self.said[result.sop_instance_uid] = said_in(result.path)
        about = next((self.said.get(r.sop_instance_uid) for r in results if r.kind == "sr"), None)
        for result in results:
            said = self.said.get(result.sop_instance_uid)
            if about and said:
                key = (job.input_digest, job.revision, about, result.kind, said)
                name = self.named.setdefault(key, result.sop_instance_uid)
                assert name == result.sop_instance_uid, f"{key} is {name} and {result.sop_instance_uid}"

    # what must be true in the end

    def drain(self) -> None:
        """Everybody does his work until nothing is left; people decide what is theirs to decide."""
        store = self.house.store
        while self.open:
            self.end_association("released")
        for _ in range(30):
            self.pass_time(1000)
            for study in studies.in_state(store, StudyState.HELD):
                studies.reject(store, study, now=self.house.now)
            jobs.retry_all(store, now=self.house.now)
            deliveries.retry_all(store, now=self.house.now)
            self.dispatcher.bound_waits()
            self.advance()
            while self.infer():
                continue
            while any(self.deliver(name, []) for name in PEERS):
                continue
            counts = studies.counts(store)
            if not any(n for key, n in counts.items() if key.rpartition(".")[2] in UNFINISHED):
                break
        else:
            raise AssertionError(f"never comes to an end: {studies.counts(store)}")
        self.every_invariant_holds()
        self.nothing_acknowledged_is_missing()
        for study in studies.latest(store, 100):
            self.ends_visibly(study.id)
        self.no_result_has_two_names()

    def ends_visibly(self, study_id: int) -> None:
        store = self.house.store
        study = studies.by_id(store, study_id)
        if study.state is StudyState.UNROUTED:
            assert study.reason
            return
        assert study.state is StudyState.ROUTED
        job = jobs.of_study(store, study_id)[-1]
        if job.state is JobState.DEAD:
            assert job.reason and self.has_nothing_left(job), f"job {job.id} is DEAD: {job.reason}"
            return
        assert job.state in (JobState.DONE, JobState.REFUSED)
        sent = [r for r in jobs.results(store, study_id) if r.job_id == job.id]
        assert {r.kind for r in sent} == {"sr", "sc"}
        for pacs in self.pacs.values():
            assert {r.sop_instance_uid for r in sent} <= set(pacs.held)

    def has_nothing_left(self, job: Job) -> bool:
        return all(i.gone is not Gone.KEPT for i in jobs.members(self.house.store, job.id))


def said_in(path: Path) -> tuple[str, ...]:
    """What a result is about, and when: its images, and of a report its predecessors."""
    ds = dcmread(path, stop_before_pixels=True)
    refs = [*ds.get("SourceImageSequence", []), *ds.get("ReferencedImageSequence", [])]
    for study in (
        *ds.get("CurrentRequestedProcedureEvidenceSequence", []),
        *ds.get("PredecessorDocumentsSequence", []),
    ):
        for series in study.ReferencedSeriesSequence:
            refs += [r for r in series.ReferencedSOPSequence if r.ReferencedSOPClassUID != SecondaryCaptureImageStorage]
    return (ds.StudyInstanceUID, ds.ContentDate, ds.ContentTime, *sorted(r.ReferencedSOPInstanceUID for r in refs))
