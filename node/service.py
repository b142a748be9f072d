"""The composition root: settings become objects, objects become roles, and each role is one process.

The only module that knows all others. Each role imports what it needs when it starts, so that the receiver never
loads TensorFlow. `python -m node.service PROCESS FILE` is one process; the supervisor starts them, with what it put in
force.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from config.inforce import InForce
from config.settings import Settings, SettingsFileError
from node.edge import TICK_SECONDS, careful
from node.errors import OverreadError, SettingsError
from node.logs import hush_pydicom, set_up_logging
from node.pipeline.place import spool_of, store_of, wait_for
from node.storage import jobs, roles
from node.storage.bell import Bell, Ear
from node.storage.spool import Spool
from node.storage.store import Store

log = logging.getLogger("node.service")

BAD_SETTINGS = 78
"""Exit code of a role that cannot start as it is set up (EX_CONFIG)."""
GRACE_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""So long a node and its roles wait for their database server when they start."""
RESTS = 4
"""How many times as long as it took a sweep of the dispatch role rests: it has a fifth of a processor at most."""
IDLE_SECONDS = 0.02
"""A worker that got nothing rests so long at least, whatever the rows say is due; a ring wakes it at once."""


@dataclass(frozen=True)
class Parts:
    """What every role shares: the files, the rows and the doorbell of one data folder."""

    settings: Settings
    store: Store
    spool: Spool
    bell: Bell

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.store.close()
        self.bell.close()


def open_parts(settings: Settings, *, first: Callable[[Store], None] | None = None, patience: float = 0.0) -> Parts:
    """Open the data folder of one node. Whoever opens it before its roles do reads the whole database for damage, and
    says what is to be done `first`, with the database still closed. `patience`: seconds in which a database server may
    still come.

    Raises:
        SpoolError, StoreError: the folder or the database cannot be used.
    """
    os.umask(0o077)
    root = settings.node.data_dir
    spool = spool_of(settings)
    spool.open()
    store = store_of(settings)
    wait_for(store, patience)
    if first:
        first(store)
    store.open(check=first is not None)
    return Parts(settings, store, spool, store.database.bell(root / roles.FOLDER))


@contextlib.contextmanager
def _a_role(settings: Settings, process: str) -> Iterator[tuple[Callable[..., None], Parts, Ear]]:
    """What a role has while it runs: its lock, to say how far it is; the parts; and an ear."""
    with (
        roles.only_one(settings.node.data_dir, process) as say,
        open_parts(settings, patience=PATIENCE_SECONDS) as parts,
        contextlib.closing(parts.bell.listen(process)) as ear,
    ):
        yield say, parts, ear


def worker_name(process: str, host: str) -> str:
    """The name under which one of this host's infer processes leases jobs; a lock sees to it that there is only one."""
    return f"{jobs.lease_of(process, host)}{socket.gethostname()}"[:64]


def receive(in_force: InForce, process: str, stop: threading.Event) -> None:
    """The listener. Other settings are taken up between two of its turns; associations that are open go on."""
    from node.pipeline.adopt import adopt
    from node.pipeline.listening import listener_of
    from node.pipeline.peers import files_of, identity
    from node.pipeline.receive import Receiver
    from node.pipeline.recover import recover
    from node.results.uids import device_uid

    settings = in_force.settings
    with _a_role(settings, process) as (say, parts, ear):
        own = device_uid(parts.store.serial)
        adopt(parts.store, settings=settings, now=parts.store.now())
        parts.spool.lay_out()
        recover(parts.store, parts.spool, own_device_uid=own, now=parts.store.now())
        receiver = Receiver(parts.store, parts.spool, settings=settings, bell=parts.bell, own_device_uid=own)
        shown = identity(settings)
        listener = listener_of(receiver, parts.spool.tmp, shown)
        listener.start()
        open_ones = {"port": listener.port, "tls_port": listener.secure_port}
        ports = {name: port for name, port in open_ones.items() if port is not None}
        bind = settings.listener.bind
        ready = partial(say, "ready", bind=bind, **ports, ae_title=settings.node.ae_title)
        ready(settings=in_force.at)
        where = " ".join(f"{name}={port}" for name, port in ports.items())
        log.info("role.listening bind=%s %s ae_title=%s", bind, where, settings.node.ae_title)

        def take_up(new: Settings) -> None:
            if shown and new.tls:
                shown.use(files_of(new.tls))
            receiver.take_up(new)

        while not stop.is_set():
            ear.wait(TICK_SECONDS)
            careful(lambda: receiver.report(listener.report))
            careful(lambda: look(in_force, process, take_up=take_up, ready=ready))
            careful(receiver.rejections.put_down)
            careful(receiver.make_up)
        say("stopping", bind=bind, **ports)
        listener.stop(receiver.settings.listener.drain_seconds)
        receiver.owed.put_down()


def infer(in_force: InForce, process: str, stop: threading.Event) -> None:
    """One device's models. Those of other settings are loaded between two batches, before the old ones go."""
    from models.bundle import BundleError
    from models.predictor import DeviceError
    from node.pipeline.engine import engine_of, leave
    from node.pipeline.infer import Worker
    from node.pipeline.plan import registry
    from node.storage import queue

    settings = in_force.settings
    with _a_role(settings, process) as (say, parts, ear):
        jobs.give_back(parts.store, process, crashed=False, now=parts.store.now())
        _, device = roles.processes(settings.infer.device)[process]

        def warmed(settings: Settings) -> Worker:
            made = Worker(
                parts.store,
                parts.spool,
                settings=settings,
                registry=registry(settings),
                bell=parts.bell,
                name=worker_name(process, parts.store.host),
                device=device,
                engine=engine_of(settings),
            )
            try:
                made.begin()
            except (BundleError, DeviceError) as error:
                raise SettingsError(str(error)) from None
            return made

        worker = warmed(settings)

        said: dict[str, object] = {}
        noted: dict[str, object] = {}

        def ready(**more: object) -> None:
            bundles = sorted({r.bundle for r in in_force.settings.route})
            said.update(device=worker.device, engine_away=worker.standing.why)
            say("ready", bundles=bundles, **said, **more)
            noted.clear()
            noted.update(more)

        def take_up(new: Settings) -> None:
            nonlocal worker
            old, worker = worker, warmed(new)  # what both need is loaded once
            leave(old.engine, worker.engine)

        ready(settings=in_force.at)
        log.info("models.ready device=%s", worker.device)
        while not stop.is_set():
            careful(lambda: look(in_force, process, take_up=take_up, ready=ready))
            taken = careful(worker.run_batch)
            if worker.standing.why != said["engine_away"]:
                ready(**dict(noted))
            if worker.standing.why:
                ear.wait(TICK_SECONDS)
            elif not taken:
                due = careful(lambda: queue.next_due(parts.store))
                ear.wait(max(_pause(due, parts.store.now), IDLE_SECONDS))
        if worker.engine:
            worker.engine.close()


def look(in_force: InForce, process: str, *, take_up: Callable[[Settings], None], ready: Callable[..., None]) -> None:
    """See whether other settings are in force; take them up, and note that, or why not."""
    if not in_force.changed():
        return
    try:
        take_up(in_force.settings)
    except SettingsError as error:
        log.error("settings.refused reason=%r", str(error))
        ready(refused={"at": in_force.at, "why": str(error)})
        return
    set_up_logging(in_force.settings, process)
    ready(settings=in_force.at)
    log.info("settings.taken-up")


def dispatch(in_force: InForce, process: str, stop: threading.Event) -> None:
    """Settle, route, deliver and the sweeps: the doorbell wakes them, the scheduler makes up for lost rings."""
    from apscheduler.schedulers.background import BackgroundScheduler

    from node.dispatch import Dispatcher, Watch
    from node.pipeline.plan import plan

    settings = in_force.settings
    with _a_role(settings, process) as (say, parts, ear):
        plans = plan(settings)
        dispatcher = Dispatcher(parts.store, parts.spool, settings=settings, bell=parts.bell, plans=plans)
        # A sweep that comes late must still run: with the default grace time it would be dropped in silence
        scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        for sweep, seconds in dispatcher.sweeps():
            scheduler.add_job(careful, "interval", seconds=seconds, args=[sweep], id=sweep.__name__)
        dispatcher.start()
        scheduler.start()
        routes = {p.route.name: p.bundle for p in plans}
        receivers = [p.name for p in settings.peer if "receive" in p.may]
        say("ready", peers=receivers, routes=routes, settings=in_force.at)
        watch = Watch()  # of this machine's own clock, by which the scheduler goes

        def advance() -> float | None:
            if watch.jump():  # it might wait for a time that is far away now
                for job in scheduler.get_jobs():
                    job.modify(next_run_time=datetime.now(UTC))
            return dispatcher.advance()

        advance_when_rung(advance, ear, stop, clock=parts.store.now)
        scheduler.shutdown(wait=True)
        dispatcher.stop()


def web(in_force: InForce, process: str, stop: threading.Event) -> None:
    """The dashboard."""
    from node.admin import accounts
    from node.web.app import build
    from node.web.server import serve

    settings = in_force.settings
    with (
        roles.only_one(settings.node.data_dir, process) as say,
        open_parts(settings, patience=PATIENCE_SECONDS) as parts,
    ):
        now = parts.store.now
        rules = settings.web
        token = accounts.first_token(parts.store, settings.node.data_dir)

        def forget() -> None:
            accounts.forget(parts.store, hours=rules.session_hours, idle_minutes=rules.idle_minutes, now=now())

        def ready() -> None:
            say("ready", url=rules.address, settings=in_force.at)
            log.info("role.listening url=%s", rules.address)
            if token:
                log.warning("web.first-account open %s/first and give this token: %s", rules.address, token)

        app = build(settings, parts.store, parts.spool, parts.bell, clock=now)
        serve(app, rules, stop, ready=ready, hourly=forget)


def advance_when_rung(
    advance: Callable[[], float | None],
    ear: Ear,
    stop: threading.Event,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Advance what can be advanced, when the bell rings or a study is due.

    A study rings when it begins, when it is reopened and when an association ends; instances in between do not. A sweep
    rests longer than it took, so that many studies are not looked at all the time while they arrive.
    """
    due: float | None = None
    while not stop.is_set():
        ear.wait(_pause(due, clock))
        began = time.monotonic()
        due = careful(advance)
        stop.wait(min(RESTS * (time.monotonic() - began), TICK_SECONDS))


def _pause(due: float | None, clock: Callable[[], float]) -> float:
    return TICK_SECONDS if due is None else min(max(due - clock(), 0.0), TICK_SECONDS)


def main(arguments: list[str]) -> int:
    """Run one process until standard input ends or SIGTERM comes; the supervisor holds the other end."""
    process, file = arguments
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, args=[stop], daemon=True).start()
    try:
        in_force = InForce(Path(file))
        set_up_logging(in_force.settings, process)
        hush_pydicom()
        role, _ = roles.processes(in_force.settings.infer.device)[process]
        {"receive": receive, "infer": infer, "dispatch": dispatch, "web": web}[role](in_force, process, stop)
    except (SettingsError, SettingsFileError) as error:
        log.critical("%s cannot start: %s", process, error)
        return BAD_SETTINGS
    except OverreadError as error:
        log.critical("%s ends: %s", process, error)
        return 1
    return 0


def _watch_parent(stop: threading.Event) -> None:
    # Not through sys.stdin: its lock, held by this thread at exit, would end the interpreter with SIGABRT
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            continue
    stop.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
