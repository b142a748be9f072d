"""The files of a node that is stopped, from a folder into the bucket that its settings name by now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from config.settings import Settings
from node.errors import SpoolError
from node.pipeline.place import shelf_of, store_of
from node.pipeline.presence import see_nobody
from node.storage.shelf import CACHE_OF, KEPT, Kept, Shelf

TOGETHER = 8
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Shelved:
    """How many files were put there now, their bytes, and how many are there."""

    files: int
    size: int
    held: int
    name: str


def shelve(settings: Settings, *, told: Told = lambda done, of: None) -> Shelved:
    """Put every kept file of `spool.dir` into the bucket; the folder holds copies from then on. Goes on where an
    earlier run ended. `told`: how many files of how many are done.

    Raises:
        SpoolError: the settings name no bucket, it cannot be used, or has other bytes under a name of ours.
        SettingsError, StoreError: as of `store_of`.
        RoleTaken: a host or a pull works with them.
    """
    shelf = shelf_of(settings)
    if shelf.is_here:
        raise SpoolError("spool.bucket: is not in the settings, and says where the files are to go")
    if (marker := shelf.root / CACHE_OF).exists() and marker.read_text().strip() != shelf.name:
        Shelf(shelf.root).open()  # which says of which bucket these are copies
    store = store_of(settings)
    see_nobody(store, settings.node.data_dir, "files go into the bucket")
    try:
        here = [kept for folder in KEPT for kept in Shelf(shelf.root).files(shelf.root / folder)]
        there = {kept.path: kept.size for folder in KEPT for kept in shelf.files(shelf.root / folder)}
        new = [kept for kept in here if kept.path.suffix != ".dcm" or there.get(kept.path) != kept.size]
        # Who the node is comes first, so that nobody who looks there meanwhile makes up a name
        with contextlib.suppress(FileNotFoundError):
            shelf.first(store.identity, store.database.identity.read_bytes())
        with ThreadPoolExecutor(TOGETHER, "shelve") as threads:

            def put(kept: Kept) -> None:
                shelf.add(kept.path, kept.path)

            for done, _ in enumerate(threads.map(put, new), 1):
                told(done, len(new))
        shelf.adopt()
    except OSError as error:
        raise SpoolError(f"{shelf.name}: the files cannot be put there: {error.strerror or error}") from None
    held = len({kept.path for kept in here} | there.keys())
    return Shelved(len(new), sum(kept.size for kept in new), held, shelf.name)
