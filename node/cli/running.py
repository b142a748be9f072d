"""Commands that set up and run a node: init, check, serve, reload, demo, status, purge, verify."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from config.begin import NoPlace, begun
from config.problems import in_words
from config.settings import FILE_NAME, Settings, SettingsFileError, find_file
from node.cli.printing import (
    FAILED,
    UNUSABLE,
    Config,
    Json,
    app,
    err,
    fail,
    load,
    moment,
    out,
    plural,
    print_json,
    print_table,
)
from node.storage.roles import ROLES

SHOWN = ("bind", "port", "tls_port", "ae_title", "device", "url")
RELOAD_SECONDS = 300.0
"""How long a reload may take beyond a batch that is being read: checks, and models that are loaded."""
STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write the settings")] = Path(FILE_NAME),
    ae_title: Annotated[str, typer.Option(help="What the others call this node")] = "",
    pacs: Annotated[str, typer.Option(metavar="AE_TITLE@HOST:PORT", help="Where results go")] = "",
    modality: Annotated[str, typer.Option(metavar="AE_TITLE@ADDRESS", help="Who else sends images")] = "",
    data_dir: Annotated[str, typer.Option(help="For images, results and the database")] = "",
) -> None:
    """Write a settings file in which every key is explained; on a terminal three AE titles are asked for."""
    if path.exists():
        fail(f"{path} exists already; nothing was changed", UNUSABLE)
    if not path.parent.is_dir():
        fail(f"{path}: there is no folder {path.parent}; make it first", UNUSABLE)
    if sys.stdin.isatty() and not (ae_title or pacs or modality):
        ae_title = typer.prompt("AE title of this node", default="OVERREAD")
        pacs = typer.prompt("The PACS, as AE_TITLE@HOST:PORT (empty: edit it later)", default="", show_default=False)
        modality = typer.prompt("A modality, as AE_TITLE@ADDRESS (empty: none)", default="", show_default=False)
    try:
        text = begun(ae_title=ae_title, pacs=pacs, modality=modality, data_dir=data_dir)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
    except (NoPlace, ValidationError) as error:
        fail(_why(error), UNUSABLE)
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", UNUSABLE)
    first = "" if pacs else "Edit the AE titles in it, then run"
    out.print(f"Wrote {path}. {first or 'Now run'} `overread check` and `overread serve`.")


def _why(error: NoPlace | ValidationError) -> str:
    if isinstance(error, ValidationError):
        return "\n".join(in_words(error, Settings, file="overread init", variables={}))
    return str(error)


@app.command()
def check(config: Config = None, as_json: Json = False) -> None:
    """See whether this node can work: settings, folders, database, bundles, port and peers."""
    from node.admin.doctor import examine

    settings, file = load(config)
    worst = "ok"
    for said in examine(settings, file):
        worst = max(worst, said.verdict, key=list(STYLES).index)
        if as_json:
            print_json({"check": said.name, "verdict": said.verdict, "text": said.text})
        else:
            out.print(f"[{STYLES[said.verdict]}]{said.verdict:<5}[/] {said.name:<10} ", end="")
            out.print(said.text, markup=False)
    raise typer.Exit(FAILED if worst == "fail" else 0)


@app.command()
def serve(
    config: Config = None,
    roles: Annotated[str, typer.Option(help="Comma separated")] = ",".join(ROLES),
) -> None:
    """Run the node until it is stopped: one process for each role."""
    from node.admin.doctor import import_names
    from node.pipeline.plan import plan

    chosen = [r.strip() for r in roles.split(",") if r.strip()]
    unknown = sorted(set(chosen) - set(ROLES))
    if unknown or not chosen:
        fail(
            f"--roles {roles}: no such role: {', '.join(unknown) or 'none given'} (have: {', '.join(ROLES)})", UNUSABLE
        )
    import_names()
    settings, file = load(config)
    plan(settings)
    sys.stdout.flush()
    # Its default is to end a process, and the supervisor takes a while until it can handle it; this outlives the exec
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # In place of this process: a supervisor that runs for years need not carry what the commands loaded
    os.execv(sys.executable, [sys.executable, "-m", "node.supervisor", str(file.absolute()), ",".join(chosen)])  # noqa: S606


@app.command("reload")
def reload_command(config: Config = None, as_json: Json = False) -> None:
    """Have the node that runs take its changed settings file up; associations that are open go on."""
    from node.admin import taking_up
    from node.reload import RESTART

    settings, _ = _load_or_running(config)
    patience = settings.infer.deadline_seconds + RELOAD_SECONDS
    answers = taking_up.ask(settings.node.data_dir, seconds=patience)
    for answer in answers.values():
        refused, said, warned, at_start = (answer[key] for key in ("refused", "said", "warned", "at_start"))
        if as_json:
            print_json({"refused": refused, "said": said, "warned": warned, "at_start": at_start})
        elif refused:
            err.print(f"nothing was taken up:\n{refused}", style="red", markup=False)
        else:
            for line in said:
                out.print(f"taken up: {line}", style="green", markup=False)
            for line in warned:
                out.print(line, style="yellow", markup=False)
            for key in at_start:
                out.print(f"not taken up: {key}: {RESTART}", style="yellow", markup=False)
            if not said and not at_start:
                out.print("nothing was changed")
    raise typer.Exit(UNUSABLE if any(a["refused"] for a in answers.values()) else 0)


def _load_or_running(config: Path | None) -> tuple[Settings, str]:
    """The settings; where the file is not valid and a node runs, that node's, and what is wrong with the file."""
    from node.reload import behind

    file = find_file(config)
    try:
        return Settings.load(file), ""
    except SettingsFileError as error:
        running = behind(file)
        if running is None:
            raise
        return running, str(error)


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the node's folder and the results here")] = None,
    stand_in: Annotated[bool, typer.Option("--stand-in", help="Use the small PACS even if Orthanc is there")] = False,
) -> None:
    """Send a real chest radiograph through a throwaway node and show what comes back in its study."""
    from node.demo import run

    raise typer.Exit(run(out, folder=keep, stand_in=stand_in))


@app.command()
def status(config: Config = None, as_json: Json = False) -> None:
    """What runs, what waits, what needs a person."""
    from node.admin.overview import overview
    from node.service import open_parts

    settings, not_valid = _load_or_running(config)
    with open_parts(settings) as parts:
        seen = overview(settings, parts.store, parts.spool, now=parts.store.now(), not_valid=not_valid)
    if as_json:
        print_json(seen)
        raise typer.Exit(0 if seen["well"] else FAILED)
    for role, said in seen["roles"].items():
        style = "green" if said["running"] and said["state"] == "ready" else "red"
        more = " ".join(f"{k}={v}" for k, v in said.items() if k in SHOWN)
        out.print(f"[{style}]{role:<10}[/] {said['state'] if said['running'] else 'not running'} {more}")
    if seen["hosts"]:
        print_table(_hosts(seen["hosts"]))
    table = Table("studies", "jobs", "deliveries", box=None)
    table.add_row(*["\n".join(f"{k} {v}" for k, v in seen["counts"][n].items()) or "none" for n in seen["counts"]])
    print_table(table)
    for line in seen["alarms"]:
        out.print(line, style="bold red", markup=False)
    if seen["turnaround"]:
        print_table(_turnaround(seen["turnaround"]))
    newest = Table("row", "log hash", "state", "rev", "last instance", "reason", box=None)
    for s in seen["latest"]:
        newest.add_row(
            str(s["row"]), s["log_id"], s["state"], str(s["revision"]), moment(s["last_received_at"]), s["reason"][:80]
        )
    print_table(newest)
    raise typer.Exit(0 if seen["well"] else FAILED)


def _hosts(found: list[dict[str, Any]]) -> Table:
    table = Table("host", "seen", "version", "roles", "", box=None)
    for host in found:
        running = ", ".join(name if state == "ready" else f"{name} ({state})" for name, state in host["roles"].items())
        seen = f"{host['seen_ago']:.0f} s ago" if host["seen"] else f"gone since {moment(host['seen_at'])}"
        more = (
            ["this one"] * host["here"] + ["other settings"] * host["differs"] + [host["reason"]] * bool(host["reason"])
        )
        table.add_row(f"{host['name']} {host['id']}", seen, host["version"], running, "; ".join(more))
    return table


def _turnaround(classes: dict[str, dict[str, Any]]) -> Table:
    """Seconds from the last image to the results, of the last 24 hours."""
    table = Table("last 24 hours", "studies", "seconds to stored: median, 95 %", "to sent: median, 95 %", box=None)
    for name, said in classes.items():
        figures = [[said[step][of] for of in ("median", "p95")] for step in ("stored", "sent")]
        shown = [", ".join("-" if f is None else f"{f:.1f}" for f in pair) for pair in figures]
        table.add_row(name, str(said["studies"]), *shown)
    return table


@app.command()
def verify(
    config: Config = None,
    fast: Annotated[bool, typer.Option("--fast", help="Do not read every file again")] = False,
    as_json: Json = False,
) -> None:
    """Hold what is remembered against the files: nothing acknowledged may be missing."""
    from node.service import open_parts
    from node.storage import invariants

    settings, _ = load(config)
    with open_parts(settings) as parts:
        problems = invariants.verify(parts.store, parts.spool, parts.store.now(), deep=not fast)
    if as_json:
        print_json({"problems": problems})
    for line in problems if not as_json else []:
        out.print(line, style="red", markup=False)
    if not problems and not as_json:
        out.print("All invariants hold.", style="green")
    raise typer.Exit(FAILED if problems else 0)


@app.command()
def purge(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted")] = False,
    as_json: Json = False,
) -> None:
    """Delete what the retention settings let go; `serve` does so every hour."""
    from node.service import open_parts
    from node.storage import upkeep

    settings, _ = load(config)
    with open_parts(settings) as parts:
        choose = upkeep.purgeable if dry_run else upkeep.purge
        items = choose(parts.store, settings.retention, parts.store.now())
    for item in items:
        if as_json:
            print_json({"kind": item.kind, "study": item.study_id, "bytes": item.size, "reason": item.reason})
        else:
            out.print(f"{item.kind:<7} study {item.study_id}  {item.size / 1e6:.1f} MB  {item.reason}")
    if not as_json:
        verb = "would be" if dry_run else "was" if len(items) == 1 else "were"
        out.print(f"{plural(len(items), 'file')}, {sum(i.size for i in items) / 1e6:.1f} MB {verb} deleted")
