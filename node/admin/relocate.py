"""A node's rows from one database to another: from one machine's SQLite file to a server that many share, or back."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from config.settings import DATABASE, Settings
from config.shared import Database
from node.errors import StoreError
from node.network.secret import read_secret
from node.pipeline.place import shelf_of, store_of
from node.pipeline.presence import see_nobody
from node.storage import invariants, studies
from node.storage.move import Moved, Told, move
from node.storage.spool import Spool
from node.storage.store import Store


@dataclass(frozen=True)
class Relocated:
    """What was moved where, what is wrong with it, and what is to be written into the settings."""

    moved: Moved
    name: str
    problems: list[str]
    settings: str


def relocate(
    settings: Settings, to: str, *, password_file: Path | None, spool: Path | None, deep: bool, now: float, told: Told
) -> Relocated:
    """Copy all rows of a node that is stopped, compare them, and hold the invariants against them and the files.

    What the settings name is left as it is. `to`: the URL of a PostgreSQL database, or the path of a SQLite file.
    `spool`: where the files will be, if they are to be elsewhere; `deep` reads each of them.

    Raises:
        StoreError: one of both cannot be used, or the other one has rows already.
        SettingsError: the file with the password cannot be read.
        ValueError: `to` is neither.
        RoleTaken: a host or a pull works with it.
    """
    shelf = None if spool else shelf_of(settings)
    files = Spool((spool or settings.spool_dir).absolute(), shelf=shelf)
    where = Database(url=to).url if "://" in to else Path(to).absolute()
    assert where is not None
    if isinstance(where, Path) and where.is_dir():
        raise StoreError(f"{where}: is a folder; name the file that is to hold the rows")
    if not files.root.is_dir():
        raise StoreError(f"{files.root}: no such folder; copy the files of {settings.spool_dir} there first")
    source = store_of(settings)
    target = Store(where, files.root, password=read_secret(password_file) if password_file else "", shelf=shelf)
    try:
        see_nobody(source, settings.node.data_dir, "rows go elsewhere")
        _name(source, target)
        moved = move(source, target, told=told)
        studies.end_all_associations(target, now=now)  # nobody works with it yet
        return Relocated(
            moved, target.name, invariants.verify(target, files, now, deep=deep), _lines(where, files, password_file)
        )
    finally:
        source.close()
        target.close()


def _name(source: Store, target: Store) -> None:
    """The node stays who it is: its own results must be known again as its own."""
    if not (source.spool.shelf.is_here or target.spool.shelf.is_here):
        return  # its name is where its files are
    ours, theirs = source.identity, target.identity
    if not ours.exists():
        raise StoreError(f"{source.name}: has never been opened: nothing to move")
    if theirs.exists() and theirs.read_bytes() != ours.read_bytes():
        raise StoreError(f"{theirs}: belongs to another node; give each node a place of its own")
    if not theirs.exists():
        theirs.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = theirs.with_name(f"{theirs.name}.{os.getpid()}.part")
        shutil.copy(ours, part)
        part.chmod(0o600)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(theirs)


def _lines(where: Path | str, files: Spool, password_file: Path | None) -> str:
    """What the settings are to say from now on."""
    in_bucket = not files.shelf.is_here
    if isinstance(where, Path) and not in_bucket:
        return f"neither [database] nor [spool]; node.data_dir = the folder of {where.name}, which must be {DATABASE}"
    secret = f'password_file = "{password_file.absolute()}"\n' if password_file else ""
    if isinstance(where, Path):
        return f"no [database]; [spool] as it is; node.data_dir = the folder of {where.name}, which must be {DATABASE}"
    spool = f"[spool] as it is, for {files.shelf.name}" if in_bucket else f'[spool]\ndir = "{files.root}"'
    return f'[database]\nurl = "{where}"\n{secret}\n{spool}'
