"""The command that says to whom this node can be connected, and how: conformance."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from node.cli.printing import UNUSABLE, Config, app, fail, load, out, write_text


@app.command("conformance")
def conformance_command(
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as one HTML page")] = None,
    md: Annotated[Path | None, typer.Option("--md", metavar="FILE", help="Write it as Markdown")] = None,
    config: Config = None,
) -> None:
    """The DICOM Conformance Statement of this node, from its settings; as Markdown unless a file is named."""
    from node.admin.conformance import as_html, as_markdown, statement

    settings, _ = load(config)
    said = statement(settings, now=time.time())
    if html is None and md is None:
        write_text(as_markdown(said))
    for path, text in ((html, as_html(said)), (md, as_markdown(said))):
        if path is None:
            continue
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{path}: cannot be written: {error.strerror}", UNUSABLE)
        out.print(f"Wrote {path}", markup=False)
