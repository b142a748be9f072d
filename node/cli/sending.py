"""The command that sends files of one's own: send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from node.cli.peer import sender_of
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, err, fail, load, out, print_json


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(metavar="FILES", help="DICOM files and folders of them")],
    to: Annotated[str, typer.Option("--to", metavar="PEER", help="The name of a [[peer]] in the settings")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send DICOM files to a peer as they are (C-STORE; to a url, STOW-RS)."""
    settings, _ = load(config)
    _, sender = sender_of(settings, to)
    files = _files(paths)
    if not files:
        fail("no files to send", UNUSABLE)
    bad = 0
    with Progress(console=err, transient=True) as progress:
        bar = progress.add_task("sending", total=len(files))
        for path, outcome in sender.send(files):
            progress.advance(bar)
            good = outcome.kind in ("stored", "warning")
            bad += not good
            if as_json:
                print_json({"file": path, "outcome": outcome.kind, "status": outcome.status, "error": outcome.error})
            elif not good or outcome.error:
                said, style = ("stored", "yellow") if good else ("not stored", "red")
                err.print(f"{path}: {said}: {outcome.error}", style=style, markup=False)
    sender.close()
    if not as_json:
        out.print(f"{len(files) - bad} of {len(files)} files stored at {to}")
    raise typer.Exit(FAILED if bad else 0)


def _files(paths: list[Path]) -> list[Path]:
    missing = [p for p in paths if not p.exists()]
    if missing:
        fail(f"{missing[0]}: no such file or folder", UNUSABLE)
    return [f for p in paths for f in (sorted(p.rglob("*")) if p.is_dir() else [p]) if f.is_file()]
