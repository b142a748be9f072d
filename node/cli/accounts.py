"""The command that accounts for a time: reconcile."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from node.admin.reconcile import Account, reconcile, totals
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, fail, load, moment, out, print_json, print_table
from node.service import open_parts

DAY = timedelta(days=1)


@app.command("reconcile")
def reconcile_command(
    day: Annotated[str, typer.Option(metavar="DATE", help="Studies that settled on this day, such as 2026-03-01")] = "",
    since: Annotated[str, typer.Option(metavar="DATE", help="Studies that settled since this day")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Account for every settled study: proven results, or a reason. Of the last 24 hours, unless said otherwise."""
    start, end = _period(day, since)
    with open_parts(load(config)[0]) as parts:
        lines = reconcile(parts.store, since=start, until=end, now=parts.store.now())
    unexplained = [line for line in lines if line.account is Account.UNEXPLAINED]
    if as_json:
        for line in lines:
            print_json(asdict(line))
        raise typer.Exit(FAILED if unexplained else 0)
    table = Table("studies", "", "", box=None)
    for account, n in totals(lines).items():
        table.add_row(str(n), str(account), account.sentence)
    print_table(table)
    for line in lines:
        if line.account is not Account.COMMITTED:
            style = "bold red" if line in unexplained else None
            reasons = "; ".join(line.reasons)
            text = f"study {line.study_id} {line.log_id}  {moment(line.settled_at)}  {line.account}: {reasons}"
            out.print(text, style=style, markup=False)
    out.print(f"{len(lines)} settled, {len(unexplained)} unexplained")
    raise typer.Exit(FAILED if unexplained else 0)


def _period(day: str, since: str) -> tuple[float, float]:
    """From when to when, in this machine's time zone."""
    if day and since:
        fail("give one of --day and --since", UNUSABLE)
    now = datetime.now().astimezone()
    start = _date(day or since) if day or since else now - DAY
    end = start + DAY if day else now + DAY
    return start.timestamp(), end.timestamp()


def _date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        fail(f"{text!r}: a date is written like 2026-03-01", UNUSABLE)
