"""How commands talk: one console, one way to print JSON, one way to fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

import node
from config.settings import Settings, SettingsFileError, find_file
from models.bundle import BundleError
from models.predictor import DeviceError
from node.admin.wording import moment as moment
from node.admin.wording import plural as plural
from node.errors import OverreadError, PeerError, SettingsError

FAILED = 1
UNUSABLE = 2

app = typer.Typer(
    name="overread",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would take [[peer]] for markup, and leave it out
    help="An AI node on the DICOM network. Research use only, not a medical device. "
    "Exit codes: 0 done, 1 something failed, 2 the command or the settings are not usable.",
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.", is_eager=True)] = False,
) -> None:
    if version:
        sys.stdout.write(f"overread {node.__version__}\n")
        raise typer.Exit


out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

WIDE = 10_000
"""Columns of a table that no terminal limits."""

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; else $OVERREAD_CONFIG, ./overread.toml, /etc/overread/"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs")]


def load(config: Path | None) -> tuple[Settings, Path]:
    file = find_file(config)
    return Settings.load(file), file


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


def write_text(text: str) -> None:
    """Text as it is, however wide the terminal."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_table(table: Table) -> None:
    """A table as wide as the terminal; into a pipe or a file it goes uncut, so that others can search in it."""
    (out if out.is_terminal else Console(file=sys.stdout, width=WIDE, highlight=False)).print(table)


def fail(message: str, code: int = FAILED) -> NoReturn:
    err.print(message, style="red", markup=False)
    raise typer.Exit(code)


def guarded(run: Callable[[], object]) -> None:
    """Run the program; errors that we know end in a sentence, not a traceback."""
    try:
        run()
    except (SettingsFileError, SettingsError, BundleError, DeviceError) as error:
        err.print(str(error), style="red", markup=False)
        sys.exit(UNUSABLE)
    except PeerError as error:
        err.print(str(error), style="red", markup=False)
        sys.exit(FAILED)
    except OverreadError as error:
        err.print(str(error), style="red", markup=False)
        sys.exit(UNUSABLE)
    except KeyboardInterrupt:
        sys.exit(130)
