"""The command that takes findings out of a node as a table: results export."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from node.cli.printing import UNUSABLE, Config, app, err, fail, load, plural
from node.service import open_parts
from node.storage import pulls

results = typer.Typer(no_args_is_help=True, help="What the models found, as a table.")
app.add_typer(results, name="results")

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD")]
Target = Annotated[Path | None, typer.Option(metavar="FILE", help='"-" is standard output')]
FOREVER = 1e12


@results.command("export")
def export(
    csv: Target = None,
    jsonl: Target = None,
    since: Day = None,
    until: Day = None,
    route: Annotated[str, typer.Option("--route", help="What this route said of each study, or why nothing")] = "",
    bundle: Annotated[str, typer.Option("--bundle", metavar="NAME@VERSION", help="Only what this model read")] = "",
    pull: Annotated[int | None, typer.Option("--pull", metavar="ID", help="Only what this pull asked for")] = None,
    images: Annotated[bool, typer.Option("--images", help="A row for each image and label")] = False,
    all_revisions: Annotated[bool, typer.Option("--all-revisions", help="Also what a later one replaced")] = False,
    identified: Annotated[
        bool, typer.Option("--identified", help="With Patient ID and Study Date: the file then names patients")
    ] = False,
    config: Config = None,
) -> None:
    """One row for each study, job and label, and one for each study of which nothing was said, with the reason.

    Of studies whose last image was received in these days. Columns are told in training/README.md.
    """
    from node.admin.export import Wish, labels_in, rows, write_csv, write_jsonl
    from node.pipeline.plan import registry
    from node.storage.readings import accounts, routes

    target = csv or jsonl
    if target is None or (csv and jsonl):
        fail("where to? Give one of --csv FILE and --jsonl FILE", UNUSABLE)
    settings, _ = load(config)
    end = until + timedelta(days=1) if until else None
    with open_parts(settings) as parts:
        have = sorted({r.name for r in settings.route} | routes(parts.store))
        if route and route not in have:
            fail(
                f"--route {route}: no such route, in the settings or of a study (have: {', '.join(have) or 'none'})",
                UNUSABLE,
            )
        if pull is not None:
            pulls.see_to(parts.store, pull)
        found = accounts(
            parts.store,
            since=since.timestamp() if since else 0.0,
            until=end.timestamp() if end else FOREVER,
            route=route,
            bundle=bundle,
            all_revisions=all_revisions,
            pull=pull,
        )
        table = rows(found, labels_in(registry(settings)), Wish(images, identified))
        n = written(target, write_csv if csv else write_jsonl, table)
    err.print(f"{plural(n, 'row')} written to {'standard output' if str(target) == '-' else target}", markup=False)


def written(target: Path, write: Callable[[Iterable[Any], IO[str]], int], table: Iterable[Any]) -> int:
    try:
        with _opened(target) as file:
            return write(table, file)
    except OSError as error:
        fail(f"{target}: cannot be written: {error.strerror}", UNUSABLE)


@contextmanager
def _opened(target: Path) -> Iterator[IO[str]]:
    """A file that is there as a whole or not at all, and that nobody else may read."""
    if str(target) == "-":
        yield sys.stdout
        return
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            part.chmod(0o600)
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
