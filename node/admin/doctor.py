"""Is this node able to work: one line for each thing that it needs, with what to change where it is not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import node
from config.settings import Peer, Settings
from config.values import is_address
from models.bundle import BundleError
from models.findings import Reader
from models.predictor import DeviceError
from models.registry import Registry
from node.errors import AssociationFailed, ImportNameError, OverreadError, SettingsError
from node.network import tls
from node.pipeline.peers import echo, identity
from node.pipeline.plan import plan, registry
from node.storage import roles
from node.storage.spool import Spool
from node.storage.store import Store

IMPORT_NAMES = ("node", "models", "training", "config")
OURS = "overread"
MEGABYTE = 1024**2
SLOW_FSYNC_SECONDS = 0.05
ECHO_SECONDS = 10
SOON_DAYS = 30
"""A certificate that ends within so long is warned about."""


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
    yield from _ports(settings)
    yield from certificates(settings)
    yield from _routes(settings)
    for peer in settings.peer:
        if {"receive", "query"} & set(peer.may):
            yield _echo(settings, peer)
        if "receive" in peer.may:
            yield from _reports(peer)
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


def _ports(settings: Settings) -> Iterator[Said]:
    rules, secure = settings.listener, settings.tls
    if secure is None or secure.plain:
        yield _port(settings, "listener", "port", rules.port)
    if secure:
        yield _port(settings, "tls", "tls_port", secure.port)


def _port(settings: Settings, section: str, key: str, port: int) -> Said:
    bind = settings.listener.bind
    where = f"{bind}:{port}"
    said = roles.status(settings.node.data_dir)["receive"]
    if said["running"] and said.get(key, port) == port:
        return Said("listener", "ok", f"{where} is ours, the receive role is {said.get('state')}")
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as error:
            text = f"{where} cannot be opened: {error.strerror}; change {section}.port or listener.bind"
            return Said("listener", "fail", text)
    return Said("listener", "ok", f"{where} is free; AE title {settings.node.ae_title}")


def certificates(settings: Settings) -> Iterator[Said]:
    """How long the files of [tls] last, and who may read the key."""
    if not settings.tls:
        if not ipaddress.ip_address(settings.listener.bind).is_loopback:
            yield Said("tls", "warn", "there is no [tls]: images and names cross the network in plain")
        return
    try:
        identity(settings)
        for key in ("certificate", "authorities"):
            yield _lasts(key, getattr(settings.tls, key))
    except SettingsError as error:
        yield Said("tls", "fail", str(error))
        return
    loose = settings.tls.key.stat().st_mode & 0o077
    if loose:
        yield Said("tls", "warn", f"{settings.tls.key} can be read by others: chmod 600 {settings.tls.key}")


def _lasts(key: str, path: Path) -> Said:
    all_days = tls.days_left(path)
    days = all_days[0] if key == "certificate" else min(all_days)
    if days < 0:
        one_of = "" if max(all_days) < 0 or key == "certificate" else "one of "
        text = f"{one_of}{key} {path} expired {-days:.0f} days ago: put a new one in its place"
        return Said("tls", "warn" if one_of else "fail", text)
    text = f"{key} {path} is valid for {days:.0f} more days"
    if days < SOON_DAYS:
        return Said("tls", "warn", f"{text}: put a new one in its place, it is taken up without a restart")
    print_ = f", fingerprint {tls.fingerprint_of(path)}" if key == "certificate" else ""
    return Said("tls", "ok", text + print_)


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


def _reports(peer: Peer) -> Iterator[Said]:
    """Whether a peer's reports on storage commitment can be told to be its own."""
    if peer.proof in ("auto", "commitment") and peer.host and not peer.networks and not is_address(peer.host):
        yield Said(
            "peer",
            "warn",
            f"{peer.name}: its host is a name, so its reports that it keeps results are not taken: add networks = "
            '["its address"]',
        )


def _echo(settings: Settings, peer: Peer) -> Said:
    try:
        seconds = echo(peer, settings, timeout=min(settings.deliver.timeout_seconds, ECHO_SECONDS))
        answered = f"{peer.name} answered in {1000 * seconds:.0f} ms"
        if (peer.user or peer.token_file) and not settings.uses_tls(peer):
            return Said("peer", "warn", f"{answered}; the secret crosses the network in plain: use https")
        return Said("peer", "ok", answered)
    except (AssociationFailed, SettingsError) as error:
        return Said("peer", "fail", f"{peer.name}: {error}")
