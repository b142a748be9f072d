"""A copy of a node that may be put back: its files, its rows and its name. The node goes on working meanwhile.

Files are copied before the rows and again after them, so that no row of the copy lacks its file. What was copied by an
earlier run is not copied again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.settings import DATABASE, Settings
from node.errors import BackupError
from node.storage.move import copy_rows
from node.storage.shelf import KEPT, Kept
from node.storage.spool import Spool
from node.storage.store import Store

NAME = "identity.json"
SPOOL = "spool"


@dataclass(frozen=True)
class Copied:
    """How much was copied now, and how many files the copy holds by now."""

    files: int
    size: int
    held: int


def back_up(store: Store, spool: Spool, folder: Path) -> Copied:
    """Copy everything into a folder, or bring an earlier copy there up to date.

    Raises:
        BackupError: the folder cannot be written, holds another node's copy, or is the node's own.
        StoreError: the database cannot be read.
    """
    there, here = folder.resolve(), store.database.identity.parent.resolve()
    if there == here or there.is_relative_to(here) or here.is_relative_to(there):
        raise BackupError(f"{folder}: this is the node's own data folder, or has to do with it; name another place")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / SPOOL).mkdir(mode=0o700, exist_ok=True)
        name = spool.shelf.read(store.identity)
        if (folder / NAME).exists() and (folder / NAME).read_bytes() != name:
            raise BackupError(f"{folder}: holds the copy of another node; give each node a folder of its own")
        with spool.shelf.fresh(store.identity) as file:
            _put(file, folder / NAME)
        copied = [*_kept(spool, folder / SPOOL)]
        part = folder / f"{DATABASE}.part"
        part.unlink(missing_ok=True)
        copy_rows(store, part)
        copied += _kept(spool, folder / SPOOL)
        # The rows last: what they speak of is in the copy
        part.replace(folder / DATABASE)
        _sync(folder)
        held = sum(1 for path in (folder / SPOOL).rglob("*") if path.is_file())
    except OSError as error:
        raise BackupError(f"{folder}: the copy cannot be made: {error}") from None
    return Copied(len(copied), sum(copied), held)


def restore(folder: Path, settings: Settings) -> int:
    """Put a copy into an empty data folder; the number of files.

    Raises:
        BackupError: there is no whole copy, the data folder has a node in it, or its rows are a server's.
    """
    if settings.spool.bucket:
        raise BackupError(
            "spool.bucket: a copy is put back into a data folder of its own: take [spool] out of the settings, "
            "restore, and bring the files into an empty bucket with `overread shelve`"
        )
    if settings.is_shared:
        raise BackupError(
            "database.url: a copy is put back into a data folder of its own: take [database] and [spool] out of the "
            "settings, restore, and bring the rows to the server with `overread migrate --to`"
        )
    data_dir = settings.node.data_dir
    for needed in (folder / NAME, folder / DATABASE, folder / SPOOL):
        if not needed.exists():
            raise BackupError(f"{folder}: {needed.name} is missing: this is no copy made by `overread backup`")
    for there in (data_dir / NAME, data_dir / DATABASE, data_dir / SPOOL):
        if there.exists():
            raise BackupError(f"{there} exists: a copy is put back into an empty data folder only; move it away first")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = len([*_files(folder / SPOOL, data_dir / SPOOL)])
        _put(folder / NAME, data_dir / NAME)
        _put(folder / DATABASE, data_dir / DATABASE)
        _sync(data_dir)
    except OSError as error:
        raise BackupError(f"{data_dir}: the copy cannot be put back: {error}") from None
    return files + 2


def _kept(spool: Spool, into: Path) -> Iterator[int]:
    """Copy what is new or changed; the size of each. A file that is purged meanwhile needs no copy."""
    shelf = spool.shelf
    for kept in (kept for folder in KEPT for kept in sorted(shelf.files(spool.root / folder), key=lambda k: k.path)):
        copy = into / kept.path.relative_to(spool.root)
        with contextlib.suppress(FileNotFoundError):
            # A listing of a bucket does not say which time a file bears; only those of DICOM are never written anew
            if not (_same(kept.path, copy) if shelf.is_here else kept.path.suffix == ".dcm" and _as_long(kept, copy)):
                copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with shelf.fresh(kept.path) as file:
                    yield _put(file, copy)


def _files(source: Path, into: Path) -> Iterator[int]:
    """Put files back; the size of each."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            copy = into / path.relative_to(source)
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            yield _put(path, copy)


def _same(path: Path, copy: Path) -> bool:
    """Whether a file was copied as it is; only notes and origins are ever written anew, and then their times differ."""
    try:
        there = copy.stat()
    except FileNotFoundError:
        return False
    here = path.stat()
    return (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns)


def _as_long(kept: Kept, copy: Path) -> bool:
    return copy.is_file() and copy.stat().st_size == kept.size


def _put(path: Path, copy: Path) -> int:
    """Copy one file with its times, whole or not at all; its size."""
    part = copy.with_name(f"{copy.name}.part")
    shutil.copy2(path, part)
    part.chmod(0o600)
    with part.open("rb") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    part.replace(copy)
    return size


def _sync(folder: Path) -> None:
    """Make the names in a folder and in all below it durable."""
    for one in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
