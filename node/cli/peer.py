"""`overread peer ...`: one peer at a time."""

from __future__ import annotations

import typer

from node.cli.printing import app

peer_app = typer.Typer(no_args_is_help=True, help="One peer: prove that it and this node work with each other.")
app.add_typer(peer_app, name="peer")
