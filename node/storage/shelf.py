"""Where kept files are. One seam: `Spool` names them, and a shelf has them, in a folder or elsewhere.

A path is a file's name everywhere, in rows too. Where its bytes may be read is the shelf's business: whoever opens a
kept file asks for it with `at_hand`, `fresh` or `read`, and whoever deletes one with `remove`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from node.errors import SpoolError
from node.storage import rooms

log = logging.getLogger(__name__)

CACHE_OF = ".cache-of"
"""The file in a spool folder that says of which bucket the folder is only a cache."""
KEPT = ("obj", "assoc", "results", "notes", "quarantine", "forms")


class Away(OSError):
    """Where the files are cannot be asked just now: whether one is there is not known."""


@dataclass(frozen=True)
class Kept:
    """A kept file in a listing: its size in bytes, and when it was put there, in seconds since the epoch."""

    path: Path
    size: int
    at: float


class Shelf:
    """A folder, of this machine or of a file system that many mount: a file's bytes are where its path says.

    With `scratch`, a folder on a quick disk of this machine, what a job reads is copied there first.
    """

    is_here = True
    """Whether the spool's folder is where files are kept, and they must be synced there."""

    def __init__(self, root: Path, *, scratch: Path | None = None) -> None:
        self.root = root
        self.scratch = scratch

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(self.root)

    def open(self) -> None:
        """See that it is ours.

        Raises:
            SpoolError: it is not, or cannot be used.
        """
        marker = self.root / CACHE_OF
        if marker.exists():
            raise SpoolError(
                f"{self.root}: only holds copies of files in {marker.read_text().strip()}: name that as spool.bucket, "
                "or another folder as spool.dir"
            )
        if self.scratch:
            try:
                self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
                rooms.sweep(self.scratch, 0.0, older_than=-float("inf"), pattern="job-*")
            except OSError as error:
                raise SpoolError(f"{self.scratch}: spool.scratch_dir cannot be used: {error}") from None

    def adopt(self) -> None:
        """Remember in the folder that all that lies in it is kept elsewhere too."""

    def add(self, file: Path, final: Path, *, anew: bool = False) -> None:
        """Take a finished file under its final name, before it is renamed to that here; `anew`: whatever is there.

        Raises:
            OSError: it is not kept.
        """

    def secure(self, final: Path) -> None:
        """See that a file that bears its name here is kept as it is.

        Raises:
            OSError: it is not.
        """

    def at_hand(self, path: Path) -> Path:
        """A file's bytes on this machine, for the next hour.

        Raises:
            FileNotFoundError: it is not kept.
            Away: nobody can tell.
            OSError: it cannot be read as it was kept.
        """
        return path

    def bring(self, paths: Iterable[Path]) -> None:
        """The same for many at once; those that are gone or damaged are left for `at_hand` to complain about.

        Raises:
            Away: nobody can tell of one.
        """

    @contextlib.contextmanager
    def fresh(self, path: Path) -> Iterator[Path]:
        """A file's bytes as they are kept, past any copy. Raises as `at_hand`."""
        yield path

    @contextlib.contextmanager
    def near(self, paths: Iterable[Path]) -> Iterator[Mapping[Path, Path]]:
        """Where the files of a job may be read while the block lasts: copies by path, of those that were worth one.

        Raises:
            Away: nobody can tell of one.
        """
        if self.scratch is None:
            yield {}
            return
        with rooms.room(self.scratch, "job") as folder:
            copies = {}
            for number, path in enumerate(dict.fromkeys(paths)):
                copy = folder / f"{number}.dcm"
                try:
                    shutil.copyfile(path, copy)
                    copies[path] = copy
                except OSError as error:  # whoever reads it where it is learns what is wrong with it
                    copy.unlink(missing_ok=True)
                    log.warning("scratch.not-copied error=%s", error.strerror)
            yield copies

    def holds(self, path: Path) -> bool:
        """Whether a file is kept.

        Raises:
            Away: nobody can tell.
        """
        return path.is_file()

    def read(self, path: Path) -> bytes:
        """All of a small file that may have been written anew. Raises as `at_hand`."""
        return path.read_bytes()

    def remove(self, path: Path) -> None:
        """Delete a file, if it is there.

        Raises:
            OSError: it is not deleted.
        """
        path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Called every few seconds on each host: drop what is kept elsewhere and not used here."""

    def files(self, folder: Path) -> Iterator[Kept]:
        """All files below a folder, in no order; those that go away meanwhile are left out."""
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if path.is_file():
                    yield Kept(path, stat.st_size, stat.st_mtime)

    def time_of(self, path: Path) -> float:
        """The time that a file bears, in seconds since the epoch. Raises as `at_hand`."""
        return path.stat().st_mtime

    def keeps_first(self) -> bool:
        """Whether `first` and `add` write over nothing, however many hosts ask at once.

        Raises:
            Away: nobody can tell.
        """
        return True

    def clock(self) -> float:
        """The time of where files are kept, in seconds since the epoch. Raises `Away`."""
        return time.time()

    def first(self, path: Path, data: bytes) -> bytes:
        """What a file says, which is made with `data` where there is none: whoever comes first decides.

        Raises:
            OSError: it can be neither read nor made.
        """
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = path.with_name(f"{path.stem}.{secrets.token_hex(6)}.part")
            with part.open("xb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            part.chmod(0o600)
            # Linking fails where renaming would overwrite
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(part)
            part.unlink()
        return path.read_bytes()
