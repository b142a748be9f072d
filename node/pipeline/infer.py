"""Infer: claimed jobs become readings. Pixels are decoded only here, in a process that may die without harm.

Infer and report end in one transaction: until then nothing of a job is visible, and a repeated job gives the same
results under the same UIDs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from config.settings import Route, Settings
from models.bundle import Bundle, BundleError
from models.engine import EngineAway
from models.findings import Reader
from models.pixels import Frame
from models.pool.link import Pool
from models.predictor import DeviceError
from models.registry import Registry
from node.domain import Work
from node.edge import whereabouts
from node.errors import OverreadError, StoreError
from node.failpoint import failpoint
from node.pipeline import report
from node.pipeline.engine import Standing
from node.pipeline.pixels import chunks, shrunk
from node.pipeline.provenance import ran_with
from node.storage import hosts, jobs, queue
from node.storage.bell import Bell
from node.storage.shelf import Away
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger(__name__)

TURN = 8
"""Of so many batches one is for whoever has waited longest, however urgent others are."""
AWAY_SECONDS = 30.0
"""So long a job waits whose files cannot be had."""
HUNG = 75
"""Exit code of a worker whose model did not answer in time (EX_TEMPFAIL)."""


class Worker:
    """One process's models, warm, and the jobs that it takes."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        *,
        settings: Settings,
        registry: Registry,
        bell: Bell,
        name: str,
        device: str,
        clock: Callable[[], float] | None = None,
        engine: Pool | None = None,
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._registry = registry
        self._bell = bell
        self._name = name
        self._device = device
        self._clock = clock or store.now
        self._claims = 0
        self._held: Sequence[Work] = ()
        """What could not be ended, as the database was away."""
        self.engine = engine
        self.standing = Standing()
        self._readers: dict[tuple[str, float | None], Reader] = {}

    def warm(self) -> None:
        """Load and warm the models of all routes, before the first job waits for them.

        Raises:
            BundleError: a bundle is missing, damaged, or does not replay its golden outputs.
            EngineAway: the models run elsewhere, and that cannot be reached.
        """
        for route in self._settings.route:
            self.reader(self._registry.find(route.bundle), route).verify()

    def begin(self) -> None:
        """Warm up, or wait for the engine: the node takes studies all the same.

        Raises:
            BundleError: as `warm`.
        """
        try:
            self.warm()
        except EngineAway as error:
            self.standing.lost(str(error))

    @property
    def device(self) -> str:
        """Where the models run, as TensorFlow names it; empty when there is none."""
        return next((reader.device for reader in self._readers.values()), "")

    def run_batch(self) -> int:
        """Take what is due, up to a batch (of each replica), and end it.

        Returns:
            The number of jobs taken; none while the engine cannot be reached.
        """
        if not self._reached():
            return 0
        rules = self._settings.infer
        by_age = self._claims % TURN == TURN - 1
        if self._held:
            queue.put_back(self._store, self._held, now=self._clock())
            self._held = ()
        works = queue.claim(
            self._store, self._name, self._settings.at_once, now=self._clock(), lease=rules.lease_seconds, by_age=by_age
        )
        self._claims += bool(works)
        failpoint("infer.claimed")
        try:
            self._run_all(works)
        except StoreError:
            self._held = works
            raise
        if works:
            self._bell.ring("dispatch")
        return len(works)

    def _run_all(self, works: Sequence[Work]) -> None:
        rules = self._settings.infer
        for n, (route_name, bundle, same) in enumerate(_grouped(works)):
            if n:  # the groups before took their time out of the lease that all were claimed with
                queue.renew(self._store, same, now=self._clock(), lease=rules.lease_seconds)
            with deadline(rules.deadline_seconds):
                self._run_near(route_name, bundle, same)

    def _reached(self) -> bool:
        """Whether the engine answers. Before it is believed to be back, it has to replay the golden images again."""
        if not self.standing.why:
            return True
        if not self.standing.is_due:
            return False
        try:
            self.warm()
        except (EngineAway, BundleError) as error:
            self.standing.lost(str(error))
            return False
        self.standing.found()
        return True

    def _run_near(self, route_name: str, bundle_ref: str, works: Sequence[Work]) -> None:
        """The same with the images on a disk of this machine. Where files cannot be had just now, the jobs wait."""
        shelf = self._store.spool.shelf
        try:
            with shelf.near(instance.path for work in works for instance in work.instances) as copies:
                self._run(route_name, bundle_ref, [_read_from(copies, work) for work in works])
        except Away as error:
            for work in works:
                self._put_off(work, error)

    def _run(self, route_name: str, bundle_ref: str, works: Sequence[Work]) -> None:
        """Read the images of some jobs of one route in one batch, then report each job.

        A batch that fails is repeated job by job, so that only the guilty one counts the attempt.
        """
        if self.standing.why:
            self._hand_back(works)
            return
        route = next((r for r in self._settings.route if r.name == route_name), None)
        if route is None:
            self._cannot(works, f"route {route_name} is not in the settings any more")
            return
        try:
            bundle = self._registry.find(bundle_ref)
            began = time.monotonic()
            seen = self.see(self.reader(bundle, route), works)
            each = (time.monotonic() - began) / sum(map(_weight, works))
        except EngineAway as error:
            self.standing.lost(str(error))
            self._hand_back(works)
            return
        except Away:
            raise
        except (BundleError, DeviceError) as error:
            self._cannot(works, str(error))
            return
        except Exception as error:  # a codec or the network may raise anything; it becomes the job's stored state
            if len(works) > 1:
                for work in works:
                    self._run(route_name, bundle_ref, [work])
            else:
                self._fail(works, f"the images could not be read: {whereabouts(error)}")
            return
        failpoint("infer.read")
        for work, images in zip(works, seen, strict=True):
            try:
                self._report(work, images, route, bundle, read=each * _weight(work))
            except Away as error:
                self._put_off(work, error)
            except Exception as error:  # likewise: one job's results must not cost another job its own
                said = str(error) if isinstance(error, OverreadError | OSError) else whereabouts(error)
                self._fail([work], f"the results could not be made: {said}")

    def see(self, reader: Reader, works: Sequence[Work]) -> list[list[report.Image]]:
        """Read and understand all images; of each only as much is kept as the pictures need."""
        seen: list[list[report.Image]] = [[] for _ in works]
        budget, batch = self._settings.infer.pixel_budget_mb * 1024**2, self._settings.at_once
        policy = reader.bundle.spec.accepts.frames
        for chunk in chunks(works, policy, budget=budget, batch=batch, at_hand=self._at_hand):
            readings = reader.read([asked.item for asked in chunk])
            for asked, reading in zip(chunk, readings, strict=True):
                kept = shrunk(asked.item) if isinstance(asked.item, Frame) else None
                seen[asked.work].append(report.Image(asked.instance, kept, reading, asked.number))
            for n in {asked.work for asked in chunk}:
                seen[n] = report.thinned(seen[n], by_series=works[n].job.choice is not None)
        return seen

    def built(self, work: Work, images: Sequence[report.Image], route: Route, bundle: Bundle) -> report.Outcome:
        """The result objects of one job in this worker's spool, and how it ends."""
        gate = self._gate(bundle)
        return report.build(
            work,
            images,
            route,
            spool=self._spool,
            store=self._store,
            settings=self._settings,
            bundle=bundle,
            gate_digest=gate.digest if gate else "",
        )

    def _gate(self, bundle: Bundle) -> Bundle | None:
        return self._registry.find(bundle.spec.gate.bundle) if bundle.spec.gate else None

    def _report(self, work: Work, images: Sequence[report.Image], route: Route, bundle: Bundle, *, read: float) -> None:
        """`read`: seconds that its images took."""
        began = time.monotonic()
        built = self.built(work, images, route, bundle)
        device = self.reader(bundle, route).device
        failpoint("report.written")
        ended = jobs.finish(
            self._store,
            work.job,
            built.state,
            built.findings,
            built.results,
            reason=built.reason,
            ran_with=ran_with(work, route, self._settings, bundle=bundle, gate=self._gate(bundle), device=device),
            seconds=read + time.monotonic() - began,
            now=self._clock(),
        )
        failpoint("report.end")
        for result in built.results:
            if result.quarantine:
                log.error("result.quarantined job=%d kind=%s reason=%r", work.job.id, result.kind, result.quarantine)
        if ended:
            log.info("job.reported study=%s job=%d state=%s", work.study.log_id, work.job.id, built.state)
        else:
            log.warning("job.answer-void study=%s job=%d: the lease was lost", work.study.log_id, work.job.id)

    def _at_hand(self, path: Path) -> Path:
        """A kept file, or the copy of one, on this machine."""
        spool = self._store.spool
        return spool.shelf.at_hand(path) if path.is_relative_to(spool.root) else path

    def _put_off(self, work: Work, error: Away) -> None:
        log.warning("job.put-off study=%s job=%d reason=%r", work.study.log_id, work.job.id, error.strerror)
        now = self._clock()
        reason = f"the files cannot be had just now: {error.strerror}"
        jobs.put_off(self._store, work.job, reason, now=now, until=now + AWAY_SECONDS)

    def _hand_back(self, works: Sequence[Work]) -> None:
        for work in works:
            log.warning("job.handed-back study=%s job=%d", work.study.log_id, work.job.id)
        queue.put_back(self._store, works, now=self._clock())

    def _cannot(self, works: Sequence[Work], reason: str) -> None:
        """This host is not set up for it. While hosts go by different settings another one may be, and nothing is given
        up."""
        self._fail(works, reason, for_good=not hosts.differ(self._store))

    def _fail(self, works: Sequence[Work], reason: str, *, for_good: bool = True) -> None:
        rules = self._settings.infer
        attempts = rules.attempts if for_good else sys.maxsize
        for work in works:
            log.error("job.failed study=%s job=%d reason=%r", work.study.log_id, work.job.id, reason)
            delay = self._settings.deliver.retry_base_seconds * 2 ** min(work.job.attempts, attempts, 32)
            jobs.fail(self._store, work.job, reason, attempts=attempts, now=self._clock(), retry_after=delay)

    def reader(self, bundle: Bundle, route: Route) -> Reader:
        """The loaded, warm models of a route."""
        at_least = route.gate.at_least if route.gate else None
        key = (bundle.ref, at_least)
        if key not in self._readers:
            rules = self._settings.infer
            self._readers[key] = Reader(
                self._registry,
                bundle,
                device=self._device,
                threads=rules.threads,
                gate_at_least=at_least,
                engine=self.engine,
            )
        return self._readers[key]


def _weight(work: Work) -> int:
    """Its part in the time of a batch: its images, and one even where their files are gone."""
    return max(len(work.instances), 1)


def _read_from(copies: Mapping[Path, Path], work: Work) -> Work:
    """The same work, its images read from their copies."""
    if not copies:
        return work
    images = tuple(replace(instance, path=copies.get(instance.path, instance.path)) for instance in work.instances)
    return replace(work, instances=images)


def _grouped(works: Sequence[Work]) -> Iterator[tuple[str, str, list[Work]]]:
    groups: dict[tuple[str, str], list[Work]] = {}
    for work in works:
        groups.setdefault((work.job.route, work.job.bundle), []).append(work)
    for (route, bundle), same in groups.items():
        yield route, bundle, same


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End this process when the block takes longer: a hung model cannot be interrupted, only replaced."""

    def give_up() -> None:
        log.critical("model.hung seconds=%g", seconds)
        os._exit(HUNG)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
