"""Commands that keep a node over the years: backup, restore, and the tables of other versions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from node.cli.printing import Config, Json, app, load, out, print_json
from node.pipeline.place import spool_of, store_of
from node.pipeline.presence import see_who_else
from node.storage import roles
from node.storage.store import Store

database = typer.Typer(no_args_is_help=True, help="The tables of this and of other versions.")
app.add_typer(database, name="database")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the copy is")]


@app.command()
def backup(folder: Folder, config: Config = None, as_json: Json = False) -> None:
    """Copy images, results, rows and the node's name into a folder; a later run adds what is new. The node may run."""
    from node.admin.backup import back_up
    from node.service import open_parts

    with open_parts(load(config)[0]) as parts:
        copied = back_up(parts.store, parts.spool, folder)
    if as_json:
        print_json({"files": copied.files, "bytes": copied.size, "held": copied.held})
    else:
        out.print(f"{copied.files} files, {copied.size / 1e6:.1f} MB copied to {folder}; it holds {copied.held} files")


@app.command()
def restore(folder: Folder, config: Config = None) -> None:
    """Put a copy back into the empty data folder of the settings. Then run `overread verify`."""
    from node.admin import backup as copies

    settings, _ = load(config)
    files = copies.restore(folder, settings.node.data_dir)
    out.print(f"{files} files put back into {settings.node.data_dir}; `overread verify` holds them against the rows")


@database.command()
def show(config: Config = None, as_json: Json = False) -> None:
    """Which revision the tables are of, and which this version wants."""
    from node.storage.schema import REVISION

    with _alone(config) as store:
        found = store.revision()
    if as_json:
        print_json({"path": store.name, "revision": found, "wanted": REVISION})
    else:
        out.print(f"{store.name}: tables {found or 'not made yet'}; this version has {REVISION}", markup=False)


@database.command()
def upgrade(config: Config = None) -> None:
    """Bring the tables of an earlier version up to date, after a copy was made beside them; the node must not run."""
    with _alone(config, stopped=True) as store:
        see_who_else(store, store.revision(), "the tables are changed")
        copy = store.migrate()
        now = store.revision()
    out.print(f"tables are {now or 'not made yet'} now; copy of before: {copy or 'not needed'}", markup=False)


@database.command()
def downgrade(
    to: Annotated[str, typer.Option("--to", metavar="REVISION", help="As the earlier version's `database show` names")],
    config: Config = None,
) -> None:
    """Take the tables back to an earlier version's, before that version is installed; the node must not run."""
    with _alone(config, stopped=True) as store:
        see_who_else(store, "", "the tables are changed")
        copy = store.migrate(to)
    out.print(f"tables are {to} now; copy of before: {copy or 'not needed'}", markup=False)


@contextlib.contextmanager
def _alone(config: Path | None, *, stopped: bool = False) -> Iterator[Store]:
    """The database, not looked at yet; with `stopped`, only while no role runs and none can start."""
    settings, _ = load(config)
    spool_of(settings).open()
    store = store_of(settings)
    names = roles.processes(settings.infer.device) if stopped else []
    with roles.own(settings.node.data_dir, names):
        try:
            yield store
        finally:
            store.close()
