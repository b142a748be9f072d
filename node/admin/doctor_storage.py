"""`overread check` of what the node keeps: its folder, who may read it, the disk, the database; and of the clock."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

from config.settings import Settings
from node.admin.doctor_shared import shared
from node.admin.said import Said
from node.errors import OverreadError
from node.pipeline.place import spool_of, store_of
from node.storage import studies
from node.storage.mounts import IN_MEMORY, OVER_NETWORK, file_system
from node.storage.spool import Spool

MEGABYTE = 1024**2
SLOW_FSYNC_SECONDS = 0.05
AHEAD_SECONDS = 60.0
"""So far in the future may lie what a disk or a row says of now."""
UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2): nobody has set this clock right for some time."""


def storage(settings: Settings) -> Iterator[Said]:
    """The data folder and what is in it, made where it is missing."""
    root = settings.node.data_dir
    try:
        spool = spool_of(settings)
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
    yield _database(settings)
    yield from _ownership(root, spool)
    yield _kind_of_disk(settings)
    yield from shared(settings)


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


def _database(settings: Settings) -> Said:
    try:
        store = store_of(settings)
        store.open(check=True)
        store.close()
    except OverreadError as error:
        return Said("database", "fail", str(error))
    return Said("database", "ok", f"{store.name} {'answers' if settings.is_shared else 'is whole'}")


def _ownership(root: Path, spool: Spool) -> Iterator[Said]:
    """Images and names are nobody else's: each folder belongs to this user, and nobody else may look into it."""
    kept = (spool.tmp, spool.obj, spool.assoc, spool.results, spool.notes, spool.quarantine, spool.forms)
    paths = [spool.root, *kept, root / "overread.db", root / "identity.json"]
    found = {path: path.stat() for path in paths if path.exists()}
    us = os.geteuid()
    strange = [path for path, stat in found.items() if stat.st_uid != us]
    loose = [path for path, stat in found.items() if stat.st_mode & 0o077]
    if strange:
        owner = found[strange[0]].st_uid
        text = f"{strange[0]} belongs to user {owner}, and this is user {us}: run as that user, or chown -R {us} {root}"
        yield Said("spool", "fail", text)
    if loose:
        yield Said("spool", "warn", f"{loose[0]} can be read by others: chmod -R go-rwx {root}")
    if not strange and not loose:
        yield Said("spool", "ok", f"{spool.root} is this user's alone")


def _kind_of_disk(settings: Settings) -> Said:
    root = settings.node.data_dir
    kind = file_system(root)
    if kind in OVER_NETWORK and not settings.is_shared:
        text = "whose locks and fsync a database cannot rely on: choose node.data_dir on a disk of this machine"
        return Said("spool", "fail", f"{root} is on {kind}, {text}")
    if kind in OVER_NETWORK:
        text = "and belongs to one host: choose node.data_dir on a disk of this machine; what hosts share is spool.dir"
        return Said("spool", "warn", f"{root} is on {kind}, {text}")
    if kind in IN_MEMORY:
        text = "which is empty after a restart of this machine: choose node.data_dir on a disk"
        return Said("spool", "warn", f"{root} is on {kind}, {text}")
    return Said("spool", "ok", f"{root} is on {kind or 'a file system of unknown kind'}")


def clock(settings: Settings) -> Iterator[Said]:
    """Whether the time can be right: by the kernel, by the disk, and by what was received before."""
    root, now = settings.node.data_dir, time.time()
    wrong = [*_ahead_on_disk(root, now), *_ahead_in_rows(settings, now)]
    if kernel_clock() == UNSYNCHRONISED:
        text = "nothing keeps this machine's clock right, and results bear its time: set up NTP (chrony, timesyncd)"
        wrong.append(Said("clock", "warn", text))
    yield from wrong or [Said("clock", "ok", f"it is {time.strftime('%Y-%m-%d %H:%M:%S %z', time.localtime(now))}")]


def kernel_clock() -> int:
    """What adjtimex(2) says of the clock when it is only asked; 0 where there is no such call."""
    # modes = 0 asks, and a struct timex is 208 bytes
    asked = ctypes.create_string_buffer(512)
    call = getattr(ctypes.CDLL(None), "adjtimex", None)
    return int(call(asked)) if call else 0


def _ahead_on_disk(root: Path, now: float) -> Iterator[Said]:
    probe = root / f".clock.{os.getpid()}"
    try:
        probe.touch()
        apart = probe.stat().st_mtime - now
    except OSError:  # said above
        return
    finally:
        probe.unlink(missing_ok=True)
    if abs(apart) > AHEAD_SECONDS:
        text = f"the clock of the disk with {root} is {apart:+.0f} s from this machine's: set both by NTP"
        yield Said("clock", "warn", text)


def _ahead_in_rows(settings: Settings, now: float) -> Iterator[Said]:
    store = store_of(settings)
    try:
        newest = studies.latest(store, 1)
    except OverreadError:  # said above
        return
    finally:
        store.close()
    ahead = newest[0].last_received_at - now if newest else 0.0
    if ahead > AHEAD_SECONDS:
        text = f"the newest study came {ahead / 60:.0f} minutes from now: the clock was set back; see that it is right"
        yield Said("clock", "warn", text)
