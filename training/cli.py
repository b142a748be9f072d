"""`overread-train`: parses, prints, exits; no logic."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train bundles for Overread. Research use only.")


@app.callback()
def _root() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@app.command()
def recipes() -> None:
    """List the recipes."""
    from training.recipe import names

    for name in names():
        typer.echo(name)


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="One of `overread-train recipes`.")],
    data: Annotated[Path, typer.Option(help="Folder of the data sources.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder that the bundle's folder is made in.", file_okay=False)],
    weights: Annotated[Path | None, typer.Option(help="Starting weights; without it Keras fetches its own.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="A setting of the recipe, key=value.")] = None,
) -> None:
    """Train a recipe and write its bundle."""
    from training import fit as training_run
    from training.recipe import RecipeError, named
    from training.sources import SourceError

    console = Console()
    overrides = dict(item.partition("=")[::2] for item in change or [])
    try:
        bundle = training_run.run(named(recipe, overrides), data, out=out, weights=weights, console=console)
    except (RecipeError, SourceError) as error:
        typer.echo(f"overread-train: {error}", err=True)
        raise typer.Exit(2) from None
    console.print(f"Bundle: {bundle}")


def main() -> None:
    app()
