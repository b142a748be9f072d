"""Infer: claimed jobs become readings. Pixels are decoded only here, in a process that may die without harm.

Infer and report end in one transaction: until then nothing of a job is visible, and a repeated job gives the same
results under the same UIDs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL.Image

from config.settings import Route, Settings
from models.bundle import Bundle, BundleError
from models.findings import Reader
from models.pixels import Frame, NotAnalysable, read, read_frames
from models.predictor import DeviceError
from models.registry import Registry
from node.domain import Choice, Instance, Work
from node.edge import whereabouts
from node.errors import OverreadError
from node.failpoint import failpoint
from node.pipeline import report
from node.pipeline.provenance import ran_with
from node.storage import jobs, queue
from node.storage.bell import Bell
from node.storage.shelf import Away
from node.storage.spool import Spool, digest_of
from node.storage.store import Store

log = logging.getLogger(__name__)

PICTURE = 2048
"""Rows or columns, whichever are more, of what is kept of a frame: twice those of the largest picture made of it."""
TURN = 8
"""Of so many batches one is for whoever has waited longest, however urgent others are."""
AWAY_SECONDS = 30.0
"""So long a job waits whose files cannot be had."""
HUNG = 75
"""Exit code of a worker whose model did not answer in time (EX_TEMPFAIL)."""


@dataclass(frozen=True)
class Asked:
    """One image that is to be read: of which job, which frame of which instance, its pixels or why there are none."""

    work: int
    instance: Instance
    number: int
    item: Frame | NotAnalysable


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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._spool = spool
        self._settings = settings
        self._registry = registry
        self._bell = bell
        self._name = name
        self._device = device
        self._clock = clock
        self._claims = 0
        self._readers: dict[tuple[str, float | None], Reader] = {}

    def warm(self) -> None:
        """Load and warm the models of all routes, before the first job waits for them.

        Raises:
            BundleError: a bundle is missing, damaged, or does not replay its golden outputs.
        """
        for route in self._settings.route:
            self.reader(self._registry.find(route.bundle), route).verify()

    @property
    def device(self) -> str:
        """Where the models run, as TensorFlow names it; empty when there is none."""
        return next((reader.device for reader in self._readers.values()), "")

    def run_batch(self) -> int:
        """Take what is due, up to the batch size, and end it.

        Returns:
            The number of jobs taken.
        """
        rules = self._settings.infer
        by_age = self._claims % TURN == TURN - 1
        works = queue.claim(
            self._store, self._name, rules.batch, now=self._clock(), lease=rules.lease_seconds, by_age=by_age
        )
        self._claims += bool(works)
        failpoint("infer.claimed")
        for n, (route_name, bundle, same) in enumerate(_grouped(works)):
            if n:  # the groups before took their time out of the lease that all were claimed with
                queue.renew(self._store, same, now=self._clock(), lease=rules.lease_seconds)
            with deadline(rules.deadline_seconds):
                self._run_near(route_name, bundle, same)
        if works:
            self._bell.ring("dispatch")
        return len(works)

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
        route = next((r for r in self._settings.route if r.name == route_name), None)
        if route is None:
            self._fail(works, f"route {route_name} is not in the settings any more")
            return
        try:
            bundle = self._registry.find(bundle_ref)
            seen = self.see(self.reader(bundle, route), works)
        except Away:
            raise
        except (BundleError, DeviceError) as error:
            self._fail(works, str(error))
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
                self._report(work, images, route, bundle)
            except Away as error:
                self._put_off(work, error)
            except Exception as error:  # likewise: one job's results must not cost another job its own
                said = str(error) if isinstance(error, OverreadError | OSError) else whereabouts(error)
                self._fail([work], f"the results could not be made: {said}")

    def see(self, reader: Reader, works: Sequence[Work]) -> list[list[report.Image]]:
        """Read and understand all images; of each only as much is kept as the pictures need."""
        seen: list[list[report.Image]] = [[] for _ in works]
        for chunk in self._chunks(reader, works):
            readings = reader.read([asked.item for asked in chunk])
            for asked, reading in zip(chunk, readings, strict=True):
                kept = shrunk(asked.item) if isinstance(asked.item, Frame) else None
                seen[asked.work].append(report.Image(asked.instance, kept, reading, asked.number))
            for n in {asked.work for asked in chunk}:
                seen[n] = report.thinned(seen[n], by_series=works[n].job.choice is not None)
        return seen

    def _chunks(self, reader: Reader, works: Sequence[Work]) -> Iterator[list[Asked]]:
        """Images with their pixels, as many at a time as the budget of one holds."""
        chunk: list[Asked] = []
        held = 0
        for n, work in enumerate(works):
            for instance in work.instances:
                for number, item in self._pixels(instance, work.job.choice, reader.bundle.spec.accepts.frames):
                    held += item.pixels.nbytes if isinstance(item, Frame) else 0
                    chunk.append(Asked(n, instance, number, item))
                    if held >= self._budget or len(chunk) >= self._settings.infer.batch:
                        yield chunk
                        chunk, held = [], 0
        if chunk:
            yield chunk

    @property
    def _budget(self) -> int:
        return self._settings.infer.pixel_budget_mb * 1024**2

    def _pixels(
        self, instance: Instance, choice: Choice | None, policy: str
    ) -> Iterator[tuple[int, Frame | NotAnalysable]]:
        """The frames of an instance that the job reads, by number: those chosen, or the one of the bundle's policy."""
        numbers = choice.frames.get(instance.sop_instance_uid, ()) if choice else (1,)
        left = list(numbers)
        try:
            path = self._at_hand(instance)
            if digest_of(path) != instance.digest:
                raise NotAnalysable("altered", "The stored file is not the one that was received (its digest differs)")
            if choice is None:
                frame = read(path, frames=policy, budget_bytes=self._budget)
                left.clear()
                yield frame.number, frame
                return
            for item in read_frames(path, numbers, budget_bytes=self._budget):
                yield left.pop(0), item
        except Away:
            raise
        except NotAnalysable as error:
            yield from ((number, error) for number in left)
        except OSError as error:
            said = NotAnalysable("unreadable", f"The stored file cannot be read: {error.strerror}")
            yield from ((number, said) for number in left)
        except Exception as error:  # whatever a hostile file makes a codec raise costs this image, not its study
            log.error("image.undecodable instance=%d %s", instance.id, whereabouts(error))
            said = NotAnalysable("undecodable", f"The image cannot be decoded ({type(error).__name__})")
            yield from ((number, said) for number in left)

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

    def _report(self, work: Work, images: Sequence[report.Image], route: Route, bundle: Bundle) -> None:
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

    def _at_hand(self, instance: Instance) -> Path:
        """The file of an image, or the copy of it."""
        spool = self._store.spool
        return spool.shelf.at_hand(instance.path) if instance.path.is_relative_to(spool.root) else instance.path

    def _put_off(self, work: Work, error: Away) -> None:
        log.warning("job.put-off study=%s job=%d reason=%r", work.study.log_id, work.job.id, error.strerror)
        now = self._clock()
        reason = f"the files cannot be had just now: {error.strerror}"
        jobs.put_off(self._store, work.job, reason, now=now, until=now + AWAY_SECONDS)

    def _fail(self, works: Sequence[Work], reason: str) -> None:
        rules = self._settings.infer
        for work in works:
            log.error("job.failed study=%s job=%d reason=%r", work.study.log_id, work.job.id, reason)
            delay = self._settings.deliver.retry_base_seconds * 2**work.job.attempts
            jobs.fail(self._store, work.job, reason, attempts=rules.attempts, now=self._clock(), retry_after=delay)

    def reader(self, bundle: Bundle, route: Route) -> Reader:
        """The loaded, warm models of a route."""
        at_least = route.gate.at_least if route.gate else None
        key = (bundle.ref, at_least)
        if key not in self._readers:
            rules = self._settings.infer
            self._readers[key] = Reader(
                self._registry, bundle, device=self._device, threads=rules.threads, gate_at_least=at_least
            )
        return self._readers[key]


def shrunk(item: Frame) -> Frame:
    """A frame no larger than a picture of it will be: dozens of large films fit into memory then."""
    if max(item.pixels.shape) <= PICTURE:
        return item
    rows, columns = item.pixels.shape
    scale = PICTURE / max(rows, columns)
    size = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    small = PIL.Image.fromarray(item.pixels).resize(size, PIL.Image.Resampling.BOX)
    return replace(item, pixels=np.asarray(small, np.float32))


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
