"""Kept files in a bucket: the spool's folder then holds copies of them, and what is on its way there.

A file is in the bucket before it bears its name in the folder, so each copy may be dropped at any time. Files that are
written anew (who sent what, notes, reasons, the node's name) are always read from the bucket.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from blake3 import blake3

from node.errors import SpoolError
from node.failpoint import failpoint
from node.storage.objects import Object, Objects
from node.storage.shelf import CACHE_OF, KEPT, Away, Kept, Shelf

log = logging.getLogger(__name__)

ONCE = ".dcm"
"""How files are named that are written once; their bytes never change."""
AT_HAND_SECONDS = 3600.0
"""So long after it was last asked for, a copy is not dropped."""
UNUSED_SECONDS = 86400.0
"""So long after it was last asked for, a copy is dropped though there is room: another host may have purged its file.
"""
BOOT, BOOTED = Path("/proc/sys/kernel/random/boot_id"), ".boot"
"""Which start of the machine this is, and the file in a spool folder that says in which one its copies were made."""
TIDY_SECONDS = 60.0
TOGETHER = 8
"""So many files are fetched at once."""
CHUNK = 1 << 20


class Bucket(Shelf):
    """A bucket, or what is below `prefix` in it, with at most `cache_bytes` of copies below `root`."""

    is_here = False

    def __init__(self, root: Path, objects: Objects, *, prefix: str = "", cache_bytes: int) -> None:
        super().__init__(root)
        self._objects = objects
        self._prefix = prefix
        self._cache_bytes = cache_bytes
        self._tidied = 0.0
        self._tidying = threading.Lock()

    @property
    def name(self) -> str:
        return f"{self._objects.name}/{self._prefix}"

    def open(self) -> None:
        marker = self.root / CACHE_OF
        if not marker.exists():
            if next(self._here(), None):
                raise SpoolError(
                    f"{self.root}: holds files that are not in {self.name}: bring them there with `overread "
                    "shelve`, or name an empty folder as spool.dir"
                )
            self.adopt()
        if (said := marker.read_text().strip()) != self.name:
            raise SpoolError(
                f"{self.root}: holds copies of files in {said}, not in {self.name}: name another spool.dir"
            )
        self._drop_unsynced()

    def _drop_unsynced(self) -> None:
        """Copies are not synced. Where power was lost they may bear their names without their bytes."""
        with (self.root / BOOTED).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if file.read() != _boot():
                for path in list(self._here()):
                    path.unlink(missing_ok=True)
                file.truncate(0)
                file.write(_boot())

    def adopt(self) -> None:
        (self.root / BOOTED).write_text(_boot())
        part = self.root / f"{CACHE_OF}.{secrets.token_hex(6)}.part"
        part.write_text(f"{self.name}\n")
        part.replace(self.root / CACHE_OF)

    def add(self, file: Path, final: Path, *, anew: bool = False) -> None:
        self._put(file, final, anew=anew or final.suffix != ONCE)
        failpoint("shelf.added")
        self.tidy()

    def _put(self, file: Path, final: Path, *, anew: bool) -> None:
        with file.open("rb") as data:
            mtime_ns = os.fstat(data.fileno()).st_mtime_ns
            md5, digest, size = _digests(data)
            for again in (anew, True):
                data.seek(0)
                key = self._key(final)
                if self._objects.put(key, data, md5=md5, digest=digest, mtime_ns=mtime_ns, anew=again):
                    return
                there = self._objects.head(key)
                if there and (there.digest, there.size) != (digest, size):
                    raise FileExistsError(errno.EEXIST, f"{self.name} has other bytes under that name")
                if there and there.mtime_ns == mtime_ns:
                    return

    def secure(self, final: Path) -> None:
        there = self._objects.head(self._key(final))
        if there is None or there.mtime_ns != final.stat().st_mtime_ns:
            self._put(final, final, anew=True)

    def at_hand(self, path: Path) -> Path:
        try:
            _used(path)
        except FileNotFoundError:
            with self._fetched(path) as part:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                part.rename(path)
            self.tidy()
        return path

    def bring(self, paths: Iterable[Path]) -> None:
        missing = [path for path in dict.fromkeys(paths) if not _is_used(path)]
        if missing:
            with ThreadPoolExecutor(TOGETHER, "bring") as threads:
                list(threads.map(self._brought, missing))

    def _brought(self, path: Path) -> None:
        try:
            self.at_hand(path)
        except Away:
            raise
        except OSError as error:  # of this one file
            log.warning("shelf.not-brought error=%s", error.strerror)

    @contextlib.contextmanager
    def fresh(self, path: Path) -> Iterator[Path]:
        with self._fetched(path) as part:
            yield part

    @contextlib.contextmanager
    def near(self, paths: Iterable[Path]) -> Iterator[Mapping[Path, Path]]:
        self.bring(paths)
        yield {}

    def holds(self, path: Path) -> bool:
        return self._objects.head(self._key(path)) is not None

    def read(self, path: Path) -> bytes:
        with self._fetched(path) as part:
            return part.read_bytes()

    def remove(self, path: Path) -> None:
        self._objects.delete(self._key(path))
        path.unlink(missing_ok=True)

    def files(self, folder: Path) -> Iterator[Kept]:
        for one in self._objects.list(f"{self._key(folder)}/"):
            within = one.key.removeprefix(self._prefix)
            if ".." not in within.split("/"):
                yield Kept(self.root / within, one.size, one.at)

    def time_of(self, path: Path) -> float:
        there = self._objects.head(self._key(path))
        if there is None:
            raise FileNotFoundError(errno.ENOENT, f"no such object in {self.name}")
        # As stat(2) has it, to the last bit
        return there.mtime_ns // 10**9 + 1e-9 * (there.mtime_ns % 10**9) if there.mtime_ns else there.at

    def first(self, path: Path, data: bytes) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self.read(path)
        part = self._part()
        try:
            part.write_bytes(data)
            with contextlib.suppress(FileExistsError):
                self._put(part, path, anew=False)
        finally:
            part.unlink(missing_ok=True)
        return self.read(path)

    def clock(self) -> float:
        return self._objects.clock()

    def keeps_first(self) -> bool:
        key = f"{self._prefix}probe-{secrets.token_hex(6)}"
        part = self._part()
        try:
            part.write_bytes(b"probe")
            with part.open("rb") as data:
                md5, digest, _ = _digests(data)
                kept = []
                for _ in range(2):
                    data.seek(0)
                    kept.append(self._objects.put(key, data, md5=md5, digest=digest, mtime_ns=0, anew=False))
            self._objects.delete(key)
            return kept == [True, False]
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _fetched(self, path: Path) -> Iterator[Path]:
        """An object's bytes in `tmp/`, held against what is known of them, with the time that the file bears."""
        part = self._part()
        try:
            there = self._fetch(self._key(path), part)
            part.chmod(0o600)
            os.utime(part, ns=(time.time_ns(), there.mtime_ns or int(there.at * 1e9)))
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _fetch(self, key: str, part: Path) -> Object:
        for _ in range(2):
            with part.open("w+b") as file:
                there = self._objects.get(key, file)
                file.seek(0)
                if not there.digest or there.digest == _digests(file)[1]:
                    return there
        raise OSError(errno.EBADMSG, f"the object in {self.name} is not what was put there")

    def _part(self) -> Path:
        folder = self.root / "tmp"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / f"fetch-{secrets.token_hex(8)}.part"

    def _key(self, path: Path) -> str:
        return self._prefix + path.relative_to(self.root).as_posix()

    def _here(self) -> Iterator[Path]:
        return (path for folder in KEPT for path in (self.root / folder).rglob("*") if path.is_file())

    def tidy(self) -> None:
        """Drop copies now and then, beside what is going on."""
        now = time.monotonic()
        if now - self._tidied > TIDY_SECONDS and self._tidying.acquire(blocking=False):
            self._tidied = now
            threading.Thread(target=self._tidy_now, name="tidy", daemon=True).start()

    def _tidy_now(self) -> None:
        try:
            self.drop(time.time())
        except OSError as error:
            log.warning("cache.not-tidied error=%s", error.strerror)
        finally:
            self._tidying.release()

    def drop(self, now: float) -> int:
        """Drop copies that nobody uses, and those that were not used for longest, as many as are too many; how many."""
        copies = []
        for path in self._here():
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                copies.append((stat.st_atime, stat.st_size, path))
        held, dropped = sum(size for _, size, _ in copies), 0
        for used_at, size, path in sorted(copies):
            if now - used_at < (AT_HAND_SECONDS if held > self._cache_bytes else UNUSED_SECONDS):
                break
            path.unlink(missing_ok=True)
            held, dropped = held - size, dropped + 1
        return dropped


def _boot() -> str:
    """ "" where the system does not tell."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def _used(path: Path) -> None:
    """Note that a copy is used: reading alone does not tell where a disk is mounted so."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _is_used(path: Path) -> bool:
    try:
        _used(path)
    except FileNotFoundError:
        return False
    return True


def _digests(data: IO[bytes]) -> tuple[str, str, int]:
    """MD5 in base64 and BLAKE3 in hexadecimal of a file, and its bytes."""
    md5, ours, size = hashlib.md5(usedforsecurity=False), blake3(), 0
    while chunk := data.read(CHUNK):
        md5.update(chunk)
        ours.update(chunk)
        size += len(chunk)
    return base64.b64encode(md5.digest()).decode(), ours.hexdigest(), size
