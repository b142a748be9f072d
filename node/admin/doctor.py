"""Is this node able to work: one line for each thing that it needs, with what to change where it is not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import node
from config.settings import Peer, Settings
from models.bundle import BundleError
from models.findings import Reader
from models.predictor import DeviceError
from models.registry import Registry
from node.errors import AssociationFailed, ImportNameError, OverreadError
from node.network.sender import Sender
from node.pipeline.plan import plan, registry
from node.storage import roles
from node.storage.spool import Spool
from node.storage.store import Store

IMPORT_NAMES = ("node", "models", "training", "config")
OURS = "overread"
MEGABYTE = 1024**2
SLOW_FSYNC_SECONDS = 0.05


@dataclass(frozen=True)
class Said:
    """One examination's outcome."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    text: str


def import_names() -> None:
    """See that `node`, `models`, `training` and `config` are this program's own.

    The names are common ones: another distribution that brings a module of the same name would be imported in our
    place, or overwritten by us.

    Raises:
        ImportNameError: naming the module and who else claims it.
    """
    owners = importlib.metadata.packages_distributions()
    home = Path(node.__file__).resolve().parent.parent
    for name in IMPORT_NAMES:
        others = sorted({d for d in owners.get(name, []) if d.lower() != OURS})
        if others:
            raise ImportNameError(
                f"the distribution {', '.join(others)} also brings a module named {name!r}: install Overread into an "
                f"environment of its own"
            )
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin != home / name / "__init__.py":
            raise ImportNameError(
                f"the module {name!r} is imported from {origin}, not from {home / name}: take that folder off the path"
            )


def examine(settings: Settings, file: Path) -> Iterator[Said]:
    """Look at everything once; nothing is changed but a probe file that is deleted again."""
    yield Said("settings", "ok", f"{file} is valid")
    yield _import_names()
    yield from _folder(settings)
    yield _port(settings)
    yield from _routes(settings)
    for peer in settings.peer:
        if "receive" in peer.may:
            yield _echo(settings, peer)
    if not settings.peer:
        yield Said("peers", "warn", "there is no [[peer]]: only this machine may associate, and nothing can be sent")


def _import_names() -> Said:
    try:
        import_names()
    except ImportNameError as error:
        return Said("modules", "fail", str(error))
    return Said("modules", "ok", "node, models, training and config are ours")


def _folder(settings: Settings) -> Iterator[Said]:
    root = settings.node.data_dir
    try:
        spool = Spool(root / "spool")
        spool.open()
        seconds = _fsync_seconds(spool.tmp)
        free = spool.free_bytes() // MEGABYTE
    except (OverreadError, OSError) as error:
        yield Said("data_dir", "fail", str(error))
        return
    slow = seconds > SLOW_FSYNC_SECONDS
    advice = ": each instance waits that long; use a disk with a write cache that survives power loss" if slow else ""
    yield Said("data_dir", "warn" if slow else "ok", f"{root}: one fsync takes {1000 * seconds:.1f} ms{advice}")
    low = free < settings.listener.reserve_mb
    yield Said("disk", "fail" if low else "ok", f"{free} MB free, listener.reserve_mb = {settings.listener.reserve_mb}")
    try:
        store = Store(root / "overread.db", spool.root)
        store.open(check=True)
        store.close()
        yield Said("database", "ok", f"{root / 'overread.db'} is whole")
    except OverreadError as error:
        yield Said("database", "fail", str(error))


def _fsync_seconds(folder: Path) -> float:
    """The median of five."""
    probe = folder / f".fsync.{os.getpid()}"
    times = []
    try:
        for _ in range(5):
            with probe.open("wb") as file:
                file.write(os.urandom(65536))
                file.flush()
                start = time.perf_counter()
                os.fsync(file.fileno())
                times.append(time.perf_counter() - start)
    finally:
        probe.unlink(missing_ok=True)
    return sorted(times)[2]


def _port(settings: Settings) -> Said:
    rules = settings.listener
    where = f"{rules.bind}:{rules.port}"
    said = roles.status(settings.node.data_dir)["receive"]
    if said["running"]:
        return Said("listener", "ok", f"{where} is ours, the receive role is {said.get('state')}")
    family = socket.AF_INET6 if ":" in rules.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((rules.bind, rules.port))
        except OSError as error:
            return Said("listener", "fail", f"{where} cannot be opened: {error.strerror}; change listener.port or bind")
    return Said("listener", "ok", f"{where} is free; AE title {settings.node.ae_title}")


def _routes(settings: Settings) -> Iterator[Said]:
    try:
        planned = plan(settings)
    except OverreadError as error:
        yield Said("routes", "fail", str(error))
        return
    if not planned:
        yield Said("routes", "warn", "there is no [[route]]: every study stays UNROUTED")
    bundles = registry(settings)
    for ref in dict.fromkeys(p.bundle for p in planned):
        yield _bundle(bundles, ref, settings)


def _bundle(bundles: Registry, ref: str, settings: Settings) -> Said:
    try:
        found = bundles.find(ref)
        reader = Reader(bundles, found, device=settings.infer.device[0], threads=settings.infer.threads)
        reader.verify()
    except (BundleError, DeviceError, ValueError) as error:
        return Said("bundle", "fail", str(error))
    audit = f"audit: {found.audit_verdict}, see `overread bundle show {found.spec.name}`"
    return Said("bundle", "ok", f"{ref} replays its golden images on {reader.device}; {audit}")


def _echo(settings: Settings, peer: Peer) -> Said:
    assert peer.port is not None, "settings: a peer that may receive has a port"
    sender = Sender(
        calling_ae_title=settings.node.ae_title,
        called_ae_title=peer.ae_title,
        host=peer.host,
        port=peer.port,
        timeout=min(settings.deliver.timeout_seconds, 10),
    )
    try:
        return Said("peer", "ok", f"{peer.name} answered in {1000 * sender.echo():.0f} ms")
    except AssociationFailed as error:
        return Said("peer", "fail", f"{peer.name}: {error}")
