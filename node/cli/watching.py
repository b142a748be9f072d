"""Commands that watch a node: metrics, health, alarms, canary. `status` is for people, these for programs too."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, fail, load, moment, out, print_json


@app.command()
def metrics(
    config: Config = None,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Put them into a file, as node_exporter reads them")
    ] = None,
) -> None:
    """Print what Prometheus reads: counts, ages, times, scores, disk, alarms; no patient data."""
    from node.admin.metrics import Exporter, write
    from node.service import open_parts

    settings, _ = load(config)
    with open_parts(settings) as parts:
        text, _ = Exporter(settings, parts.store, parts.spool).rendered()
    if to is None:
        sys.stdout.write(text.decode())
        return
    try:
        write(text, to)
    except OSError as error:
        fail(f"{to}: cannot be written: {error.strerror}", UNUSABLE)


@app.command()
def health(
    config: Config = None,
    alive: Annotated[bool, typer.Option("--alive", help="Only whether it lives, not whether it is ready")] = False,
    roles: Annotated[str, typer.Option(help="Which must run here: a host of several has only some")] = "",
    as_json: Json = False,
) -> None:
    """Is the node ready: roles, database, disk, listener; the exit code is for health checks of containers."""
    from node.admin.health import report

    raise typer.Exit(report(config, only_alive=alive, as_json=as_json, wanted=roles))


@app.command()
def alarms(
    config: Config = None,
    test: Annotated[bool, typer.Option("--test", help="Tell a test by every way, now")] = False,
    as_json: Json = False,
) -> None:
    """What is wrong, since when, and whom it was told; exit code 1 when anything is."""
    from node.admin.alarms import found, tell_a_test
    from node.service import open_parts
    from node.storage import alarms as rows
    from node.storage import studies

    settings, _ = load(config)
    with open_parts(settings) as parts:
        if test:
            _tell(tell_a_test(settings, now=parts.store.now()), as_json=as_json)
        counts = studies.counts(parts.store)
        wrong = found(settings, parts.store, parts.spool, counts, now=parts.store.now())
        known = {one.key: one for one in rows.standing(parts.store)}
        untold = rows.untold(parts.store)
    for one in wrong:
        row = known.get(one.key)
        since, told = (row.since, row.raised_at) if row else (one.since, None)
        if as_json:
            print_json(asdict(one) | {"since": since, "raised_at": told})
            continue
        out.print(f"{one.severity:<8} {one.sentence}", style="bold red" if one.severity == "critical" else "yellow")
        out.print(f"         since {moment(since) or 'now'}, {f'told {moment(told)}' if told else 'not told yet'}")
    for channel, attempts, reason in [] if as_json else untold:
        out.print(f"not told by {channel} after {attempts} tries: {reason}", style="red", markup=False)
    if not wrong and not as_json:
        out.print("Nothing is wrong.", style="green")
    raise typer.Exit(FAILED if wrong else 0)


def _tell(outcomes: dict[str, str], *, as_json: bool) -> None:
    """Say what came of a test, and end."""
    if not outcomes:
        fail("nobody is told of alarms: set [alarm] webhook or mail", UNUSABLE)
    for channel, wrong in outcomes.items():
        if as_json:
            print_json({"channel": channel, "told": not wrong, "error": wrong})
        else:
            out.print(f"{channel}: {wrong or 'told'}", style="red" if wrong else "green", markup=False)
    raise typer.Exit(FAILED if any(outcomes.values()) else 0)


@app.command()
def canary(config: Config = None, as_json: Json = False) -> None:
    """Send a drawn film through the listener and all models to a stand-in here, step by step; nothing of it stays."""
    from node.admin.canary import run
    from node.service import open_parts

    settings, _ = load(config)

    def say(step: str, seconds: float) -> None:
        if not as_json:
            out.print(f"{step:<8} {seconds:.2f} s", markup=False)

    with open_parts(settings) as parts:
        ran = run(settings, parts.store, parts.spool, say=say)
    for one in ran:
        if as_json:
            print_json(asdict(one))
        else:
            style = "bold red" if one.ok is False else "green"
            verdict = "well" if one.ok else "-" if one.ok is None else "wrong"
            out.print(f"{one.route}: {verdict} {one.reason}".rstrip(), style=style, markup=False)
    raise typer.Exit(FAILED if any(one.ok is False for one in ran) else 0)
