"""Commands that keep a node over the years: backup, restore, and the tables of other versions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.progress import Progress, TaskID

from node.cli.printing import UNUSABLE, Config, Json, app, err, fail, load, out, plural, print_json
from node.pipeline.place import spool_of, store_of
from node.pipeline.presence import see_who_else
from node.storage import roles
from node.storage.move import Told
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
    files = copies.restore(folder, settings)
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


@app.command()
def migrate(
    to: Annotated[str, typer.Option("--to", metavar="URL", help="postgresql://USER@HOST/DATABASE or a new file")],
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="A file with the database's password in it")
    ] = None,
    spool: Annotated[
        Path | None, typer.Option("--spool", metavar="FOLDER", help="Where the files are by now, if they were copied")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file and compare its digest")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy all rows of a stopped node into another database, compare them, and say what the settings must name then."""
    from node.admin.relocate import relocate

    settings, _ = load(config)
    try:
        with roles.own(settings.node.data_dir, roles.processes(settings.infer.device)), _progress(as_json) as told:
            done = relocate(
                settings, to, password_file=password_file, spool=spool, deep=deep, now=time.time(), told=told
            )
    except ValidationError as error:
        fail(f"--to {to}: {error.errors()[0]['msg'].removeprefix('Value error, ')}", UNUSABLE)
    if as_json:
        print_json({"to": done.name, "rows": done.moved.rows, "problems": done.problems, "settings": done.settings})
    else:
        rows, of = sum(done.moved.rows.values()), done.moved.rows["study"]
        out.print(f"{plural(rows, 'row')} of {plural(of, 'study', 'studies')} are in {done.name}", markup=False)
        out.print("each was read again from both databases and is the same", markup=False)
        for problem in done.problems:
            out.print(problem, style="red", markup=False)
        out.print(f"Nothing was changed here. To go on there, the settings must say:\n\n{done.settings}", markup=False)
    if done.problems:
        fail(f"{plural(len(done.problems), 'invariant')} violated")


@app.command()
def shelve(config: Config = None, as_json: Json = False) -> None:
    """Put the files of a stopped node into the bucket that its settings name; may be run again where it was ended."""
    from node.admin.shelve import shelve as put_up

    settings, _ = load(config)
    with roles.own(settings.node.data_dir, roles.processes(settings.infer.device)), _progress(as_json) as told:
        done = put_up(settings, told=lambda done, of: told("files", done, of))
    if as_json:
        print_json({"to": done.name, "files": done.files, "size": done.size, "held": done.held})
    else:
        text = (
            f"{plural(done.files, 'file')} put into {done.name}, which has {plural(done.held, 'file')} of this node now"
        )
        out.print(text, markup=False)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Told]:
    """A bar for each table, on a terminal."""
    with Progress(console=err, disable=quiet or not err.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def told(table: str, done: int, of: int) -> None:
            bars.setdefault(table, progress.add_task(table, total=of))
            progress.update(bars[table], completed=done)

        yield told


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
