"""Files on disk: what was received, where it came from, and the results that were written.

A file counts as kept when its bytes, its name and its folder are on stable storage, in that order; the row comes
after that. File names are made of digests, never of what a peer sent. Nothing here knows DICOM or SQL.

    tmp/                                     half received; swept. Where hosts share the spool: tmp/<host>/ for each
    tmp/<what>-<random>/                     the same in the room of one process, locked while that process lives
    assoc/<id>.json                          who sent what an association carried; rows can be rebuilt from it
                                             (<id> begins with "cohort-" where nothing may be delivered of it)
    obj/ab/<sha256 of SOP Instance UID>.<digest>.<association>.dcm
    results/ab/<SOP Instance UID of ours>.dcm
    notes/ab/<sha256 of study, route, series>.<revision>.json    what a finished job's rows are made of again
    quarantine/ab/<SOP Instance UID of ours>.dcm   did not pass its self-check; <...>.txt beside it says why
    forms/ab/<SOP Instance UID of ours>-<Transfer Syntax UID>.dcm    results as a destination takes them
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from blake3 import blake3

from node.domain import Origin, Pulled
from node.errors import SpoolError
from node.failpoint import failpoint
from node.storage import rooms
from node.storage.shelf import Away, Shelf

PREAMBLE = 132
COHORT = "cohort-"
"""How the names of associations begin that carried what is for one route only, or for nobody: a study must not be
delivered because its association's own file was lost."""
CHUNK = 1 << 20


class Spool:
    """The files below one folder. `durable=False` skips fsync and keeps no promise. On another shelf than the folder
    itself, the folder holds copies, and files are kept as soon as they are on the shelf. `host` is which of those that
    share the folder we are; what is half written is each one's own.
    """

    def __init__(self, root: Path, *, durable: bool = True, host: str = "", shelf: Shelf | None = None) -> None:
        self.root = root
        self.shelf = shelf or Shelf(root)
        durable = durable and self.shelf.is_here
        self._below = f"{root}{os.sep}"
        self.durable = durable
        self.tmp = root / "tmp" / host
        self.obj = root / "obj"
        self.assoc = root / "assoc"
        self.results = root / "results"
        self.notes = root / "notes"
        self.quarantine = root / "quarantine"
        self.forms = root / "forms"
        self._synced: set[str] = set()
        """Folders whose entry in their parent is known to be as safe as it must be, relative to the root."""

    def open(self) -> None:
        """Make the folders, private to this user, and see that they are one file system.

        Raises:
            SpoolError: a folder cannot be made or written, or renames would cross file systems.
        """
        try:
            kept = (self.results, self.notes, self.quarantine, self.forms)
            folders = (self.tmp, self.obj, self.assoc, *kept)
            above = _make(self.root)
            for folder in folders:
                folder.mkdir(mode=0o700, parents=folder == self.tmp, exist_ok=True)
            if self.durable:
                # Also where they were there already: whoever made them may not have come as far as this
                for folder in (self.root, self.root.parent, *above):
                    _fsync(folder)
            self._synced |= {self.relative(folder) for folder in folders}
            devices = {folder.stat().st_dev for folder in (self.tmp, self.obj, *kept)}
            probe = self.tmp / f".probe.{os.getpid()}"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise SpoolError(f"{self.root}: the spool cannot be used: {error}") from None
        if len(devices) > 1:
            raise SpoolError(f"{self.root}: all folders in it must lie on one file system")
        self.shelf.open()

    def lay_out(self) -> None:
        """Make all folders of `obj/` beforehand, so that no instance waits for a folder to be made and synced.

        Raises:
            SpoolError: one cannot be made.
        """
        folders = [self.obj / f"{number:02x}" for number in range(256)]
        try:
            for folder in folders:
                folder.mkdir(mode=0o700, exist_ok=True)
            if self.durable:
                _fsync(self.obj)
        except OSError as error:
            raise SpoolError(f"{self.obj}: the spool cannot be used: {error}") from None
        self._synced |= {self.relative(folder) for folder in folders}

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def object_path(self, sop_instance_uid: str, digest: str, association: str) -> Path:
        name = hashlib.sha256(sop_instance_uid.encode()).hexdigest()
        return self.obj / f"{name[:2]}/{name}.{digest[:16]}.{association}.dcm"

    def result_path(self, sop_instance_uid: str) -> Path:
        return self.results / sop_instance_uid[-2:] / f"{sop_instance_uid}.dcm"

    def note_path(self, study_instance_uid: str, route: str, series_instance_uid: str, revision: int) -> Path:
        """The note of one job. Its revision is in the name, so that notes can be taken in order unread."""
        named = "\x1f".join((study_instance_uid, route, series_instance_uid))
        name = hashlib.sha256(named.encode()).hexdigest()
        return self.notes / name[:2] / f"{name}.{revision}.json"

    def quarantine_path(self, sop_instance_uid: str) -> Path:
        return self.quarantine / sop_instance_uid[-2:] / f"{sop_instance_uid}.dcm"

    def form_path(self, sop_instance_uid: str, transfer_syntax_uid: str) -> Path:
        return self.forms / sop_instance_uid[-2:] / f"{sop_instance_uid}-{transfer_syntax_uid}.dcm"

    def keep(self, tmp: Path, final: Path, *, anew: bool = False, once: bool = False) -> None:
        """Make a finished file of `tmp/` durable under its name: fsync, rename, fsync of the folder. `anew`: in
        the place of a damaged one; `once`: in nobody's place, as a row may speak of what is there.

        Raises:
            FileExistsError: with `once`, another host came first.
            OSError: the file is not kept; the caller must not acknowledge it. A failed fsync is never tried again,
                because the kernel may have dropped the pages and would then report success.
        """
        above = final.parent
        folder = self.relative(above)
        new = [] if folder in self._synced and above.is_dir() else self._unsynced(above)
        place = f"spool.{folder.partition(os.sep)[0]}"
        failpoint(f"{place}.before_fsync")
        if self.durable:
            _fsync(tmp)
        self.shelf.add(tmp, final, anew=anew)
        failpoint(f"{place}.before_rename")
        tmp.chmod(0o600)
        if once and self.shelf.is_here:  # linking fails where renaming would overwrite; a bucket has seen to it
            final.hardlink_to(tmp)
            tmp.unlink()
        else:
            tmp.rename(final)
        failpoint(f"{place}.after_rename")
        if self.durable:
            for changed in (above, *[n.parent for n in new]):
                _fsync(changed)
        self._synced |= {self.relative(n) for n in new}
        failpoint(f"{place}.after_folder")

    def secure(self, final: Path) -> None:
        """Make a file durable that bears its name already: who renamed it may have died before it synced the folder.

        Raises:
            OSError: as `keep`.
        """
        if self.durable:
            for path in (final, final.parent, final.parent.parent):
                _fsync(path)
        self.shelf.secure(final)

    def _unsynced(self, folder: Path) -> list[Path]:
        """Make a folder; it and those above it whose entries this process has not synced yet.

        That a folder is there says nothing: another thread or process may have made it a moment ago.
        """
        chain = [folder, *folder.parents][: len(folder.relative_to(self.root).parts)]
        for one in reversed(chain):
            with contextlib.suppress(FileExistsError):
                one.mkdir(mode=0o700)
                self._synced.discard(self.relative(one))
        return [one for one in chain if self.relative(one) not in self._synced]

    def write(self, name: str, data: bytes, final: Path, *, once: bool = False) -> None:
        """Write our own bytes and keep them. `once` and errors as of `keep`."""
        tmp = self.tmp / f"{name}.{os.getpid()}.part"
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            self.keep(tmp, final, once=once)
        except OSError:
            tmp.unlink(missing_ok=True)
            raise

    def write_origin(self, origin: Origin) -> None:
        # What was not pulled is written as ever, so that an older program can read it
        said = {key: value for key, value in asdict(origin).items() if key != "pulled" or value}
        data = json.dumps(said, sort_keys=True).encode()
        self.write(f"assoc-{origin.id}", data, self.assoc / f"{origin.id}.json")

    def origin_of(self, path: Path) -> Origin | None:
        """Who sent a file of `obj/`; None when the association's own file is gone or unreadable."""
        association = path.name.split(".")[-2]
        try:
            said = json.loads(self.shelf.read(self.assoc / f"{association}.json"))
            pulled = said.pop("pulled", None)
            return Origin(**said, pulled=Pulled(**pulled) if pulled else None)
        except Away:  # it may be there
            raise
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def objects(self) -> Iterator[Path]:
        return (kept.path for kept in self.shelf.files(self.obj) if kept.path.suffix == ".dcm")

    def is_whole(self, path: Path, digest: str) -> bool:
        """Whether a kept file has these bytes still.

        Raises:
            Away: nobody can tell.
        """
        try:
            with self.shelf.fresh(path) as file:
                return digest_of(file) == digest
        except Away:
            raise
        except OSError:
            return False

    def drop(self, path: Path) -> None:
        """Delete a file of ours, half received or kept."""
        if path.is_relative_to(self.tmp):
            path.unlink(missing_ok=True)
        else:
            self.shelf.remove(path)

    @contextlib.contextmanager
    def room(self, what: str) -> Iterator[Path]:
        """A folder in `tmp/` that is this process's alone, as `rooms` says."""
        with rooms.room(self.tmp, what) as folder:
            yield folder

    def sweep_tmp(self, now: float, *, older_than: float, pattern: str = "*") -> int:
        """Delete what was left half written, and rooms whose process is gone; how many files and rooms."""
        return rooms.sweep(self.tmp, now, older_than=older_than, pattern=pattern)

    def sweep_tmp_of_others(self, now: float, *, older_than: float, but: Collection[str]) -> int:
        """Delete what hosts left half written that are none of `but` and wrote nothing for so long; how many had."""
        swept = 0
        for folder in (self.root / "tmp").iterdir():
            if folder == self.tmp or folder.name in but:
                continue
            with contextlib.suppress(FileNotFoundError):
                if now - max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) >= older_than:
                    shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
                    swept += 1
        return swept

    def relative(self, path: Path) -> str:
        text = str(path)
        if text.startswith(self._below):
            return text[len(self._below) :]  # in a tenth of the time; it runs for every instance
        return str(path.relative_to(self.root))


def digest_of(path: Path) -> str:
    """BLAKE3 of a Part 10 file's data set: without preamble and File Meta Information, which each transfer writes anew.

    Returns:
        64 hexadecimal digits.
    """
    hasher = blake3()
    with path.open("rb") as file:
        head = file.read(PREAMBLE + 12)
        # PS3.10 7.1: (0002,0000) UL comes first and counts the bytes of the group after itself
        if head[128:132] == b"DICM" and head[132:136] == b"\x02\x00\x00\x00":
            file.seek(PREAMBLE + 12 + int.from_bytes(head[140:144], "little"))
        else:
            file.seek(0)
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def _make(folder: Path) -> list[Path]:
    """Make a folder and what is missing above it; the parents that got a new entry."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
    return [new.parent for new in missing]


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
