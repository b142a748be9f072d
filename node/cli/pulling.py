"""Commands that bring studies from a peer: pull, pull list, pull show, pull export, pull stop."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from config.settings import Peer, Settings
from node.admin.pulls import Prices, cost_lines, standing_line
from node.cli.exports import written
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, err, fail, load, moment, out, plural, print_json
from node.cli.pull_progress import followed
from node.errors import PeerError
from node.logs import hush_pydicom
from node.network.source import Wanted
from node.pipeline import asked
from node.pipeline.ahead import MOST
from node.pipeline.asked import Rules
from node.pipeline.inquire import find
from node.pipeline.presence import Presence
from node.pipeline.pull import Puller, only_here, peer_named
from node.pipeline.receive import Receiver
from node.pipeline.sources import source_to
from node.results.uids import device_uid
from node.service import Parts, open_parts
from node.storage import bulk, pulls
from node.storage.pulls import Pull, PullState, PullStudyState
from node.storage.store import Store

INTERRUPTED = 130
SHOWN = 50
"""Studies in one state that are shown; all of them are in `pull export`."""
NOT_HERE = (PullStudyState.DEAD, PullStudyState.LEASED, PullStudyState.QUEUED)

pull = typer.Typer(help="Bring studies from a peer, by DIMSE, DICOMweb or the REST of Orthanc.", no_args_is_help=True)
app.add_typer(pull, name="pull")

Target = Annotated[Path | None, typer.Option(metavar="FILE", help='"-" is standard output')]
Number = Annotated[int, typer.Argument(metavar="ID", help="The number of a pull")]


@pull.callback(invoke_without_command=True)
def pull_from(
    context: typer.Context,
    peer: Annotated[str, typer.Option("--from", metavar="PEER", help='A [[peer]] that may "query"')] = "",
    since: Annotated[str, typer.Option(metavar="DATE", help="Study Date from this day on, 2026-01-31")] = "",
    until: Annotated[str, typer.Option(metavar="DATE", help="Study Date up to this day")] = "",
    modality: Annotated[list[str] | None, typer.Option(metavar="CR,DX", help="Any one of them in the study")] = None,
    accession: Annotated[list[str] | None, typer.Option(metavar="NUMBER", help="May be repeated")] = None,
    accessions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV with a column AccessionNumber or StudyInstanceUID")
    ] = None,
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="Study Instance UID; may be repeated")] = None,
    patient: Annotated[list[str] | None, typer.Option(metavar="ID", help="Patient ID; may be repeated")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many studies; 0 is no limit")] = 0,
    route: Annotated[str, typer.Option(metavar="NAME", help="Only this route reads what is brought")] = "",
    mode: Annotated[str, typer.Option(metavar="shadow", help="Nothing of what is brought is delivered")] = "",
    per_minute: Annotated[
        float | None, typer.Option("--per-minute", min=0, help="Studies a minute; 0, as without it, is no limit")
    ] = None,
    between: Annotated[str | None, typer.Option(metavar="19:00-06:00", help="Only at these hours, local time")] = None,
    ahead: Annotated[
        int | None,
        typer.Option(min=0, metavar="STUDIES", help=f"Rest while so many wait to be read; 0: never. Else {MOST}"),
    ] = None,
    keep_hours: Annotated[
        float | None,
        typer.Option(min=0, metavar="HOURS", help="Delete images of studies that were read after so long"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which studies there are")] = False,
    resume: Annotated[int, typer.Option(metavar="ID", help="Go on with a pull")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Also what is here already")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Bring studies from a peer; what is here completely is left out.

    With --resume, --per-minute, --between, --ahead and --keep-hours take the place of what was given before.
    """
    if context.invoked_subcommand:
        return
    if bool(peer) == bool(resume):
        fail("pull what? Give --from PEER with what to look for, or --resume ID", UNUSABLE)
    settings, _ = load(config)
    one = peer_named(peer, settings) if peer else None
    hush_pydicom()
    given: dict[str, Any] = {"per_minute": per_minute, "between": between, "ahead": ahead, "keep_hours": keep_hours}
    how = {name: value for name, value in given.items() if value is not None}
    with open_parts(settings) as parts:
        if one is None:
            _run(parts, asked.change(parts.store, pulls.find(parts.store, resume), how), as_json=as_json)
        wanted = asked.wanted(
            since=since,
            until=until,
            modalities=modality or [],
            accessions=accession or [],
            studies=study or [],
            patients=patient or [],
            listed=accessions,
        )
        rules = replace(Rules(limit=limit, again=again), **how)
        _ = rules.pace
        _see_to_route(settings, route, mode)
        if dry_run:
            _dry_run(parts, one, wanted, rules, as_json=as_json)
        else:
            made = asked.begin(parts.store, one, wanted, rules, route=route, mode=mode, now=parts.store.now())
            _run(parts, made, as_json=as_json)


@pull.command("list")
def pull_list(config: Config = None, as_json: Json = False) -> None:
    """The pulls, the newest first."""
    with open_parts(load(config)[0]) as parts:
        for one in pulls.latest(parts.store, 100):
            counts = pulls.counts(parts.store, one.id)
            if as_json:
                print_json(asdict(one) | {"studies": counts})
            else:
                out.print(_line(one, counts), markup=False)


@pull.command("show")
def pull_show(
    number: Number,
    price_gpu_hour: Annotated[float, typer.Option(min=0, metavar="PRICE", help="Of an hour of one worker")] = 0,
    price_gb: Annotated[float, typer.Option(min=0, metavar="PRICE", help="Of a GB received")] = 0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """One pull: what was asked for, how far it is, what it cost, and which studies are not here, with the reason."""
    with open_parts(load(config)[0]) as parts:
        store, one = parts.store, pulls.find(parts.store, number)
        counts, stands = pulls.counts(store, number), bulk.standing(store, one, now=time.time())
        cost, prices = bulk.cost(store, one), Prices(price_gpu_hour, price_gb)
        if as_json:
            told = asdict(one) | {"wanted": pulls.wanted(store, number), "counts": counts, "standing": asdict(stands)}
            told |= {"cost": prices.told(cost), "studies": [asdict(s) for s in pulls.of_pull(store, number, *NOT_HERE)]}
            print_json(told)
            return
        out.print(_line(one, counts), markup=False)
        for wanted in asked.wanted_of(store, one):
            said = [f"{key} {_short(value)}" for key, value in asdict(wanted).items() if value]
            out.print(f"  asked for: {'; '.join(said)}", markup=False)
        if one.missing:
            out.print(f"  not found there: {_short(one.missing)}", style="yellow", markup=False)
        for line in (standing_line(stands, now=time.time()), *cost_lines(cost, prices)):
            out.print(f"  {line}", markup=False)
        _show_studies(store, number, counts)


def _show_studies(store: Store, number: int, counts: dict[PullStudyState, int]) -> None:
    """Those that are not here, what was given up first."""
    for state in NOT_HERE:
        for s in pulls.of_pull(store, number, state, limit=SHOWN):
            told = "?" if s.expected is None else s.expected
            line = f"  {s.study_instance_uid}  {s.state}  {s.taken} of {told} instances  {s.reason}"
            out.print(line.rstrip(), style="red" if state is PullStudyState.DEAD else None, markup=False)
        if counts[state] > SHOWN:
            out.print(f"  and {counts[state] - SHOWN} more that are {state}: overread pull export {number} --csv FILE")


@pull.command("export")
def pull_export(number: Number, csv: Target = None, jsonl: Target = None, config: Config = None) -> None:
    """One row for each study of a pull: how far it is, and what it cost in bytes and seconds."""
    from node.admin.export import write_csv, write_jsonl

    target = csv or jsonl
    if target is None or (csv and jsonl):
        fail("where to? Give one of --csv FILE and --jsonl FILE", UNUSABLE)
    with open_parts(load(config)[0]) as parts:
        table = bulk.rows(parts.store, pulls.find(parts.store, number))
        write = partial(write_csv, columns=tuple(bulk.COLUMNS)) if csv else write_jsonl
        n = written(target, write, table)
    err.print(f"{plural(n, 'row')} written to {'standard output' if str(target) == '-' else target}", markup=False)


@pull.command("stop")
def pull_stop(number: Number, config: Config = None, as_json: Json = False) -> None:
    """Let a pull end after the study that it is at; `--resume` goes on with it."""
    with open_parts(load(config)[0]) as parts:
        one = pulls.find(parts.store, number)
        if one.state is not PullState.OPEN:
            fail(f"pull #{number} is {one.state}: only one that is OPEN can be stopped", UNUSABLE)
        pulls.set_state(parts.store, number, PullState.STOPPED, reason="a person stopped it", now=parts.store.now())
    if as_json:
        print_json({"pull": number, "state": PullState.STOPPED})
    else:
        out.print(f"pull #{number} stops; go on with: overread pull --resume {number}")


def _see_to_route(settings: Settings, route: str, mode: str) -> None:
    if mode not in ("", "shadow"):
        fail(f'--mode {mode}: "shadow", or leave it out and what the routes say counts', UNUSABLE)
    if route and route not in {r.name for r in settings.route}:
        have = ", ".join(r.name for r in settings.route) or "none"
        fail(f"--route {route}: no such [[route]] in the settings (have: {have})", UNUSABLE)


def _dry_run(parts: Parts, peer: Peer, wanted: list[Wanted], rules: Rules, *, as_json: bool) -> None:
    source = source_to(peer, parts.settings, folder=parts.spool.tmp)
    try:
        found = find(source, wanted, rules.limit)
    finally:
        source.close()
    for study in found.values():
        here = pulls.here(parts.store, study.study_instance_uid).instances
        if as_json:
            print_json(asdict(study) | {"here": here})
            continue
        told = "?" if study.instances is None else study.instances
        what = f"{study.study_date or '--------'}  {','.join(study.modalities) or '?':<8} {here} of {told} here"
        out.print(f"{study.study_instance_uid}  {what}  {study.accession_number}".rstrip(), markup=False)
    if not as_json:
        out.print(f"{len(found)} studies at {peer.name}; nothing was brought")


def _run(parts: Parts, one: Pull, *, as_json: bool) -> NoReturn:
    """Work on a pull, show how far it is, and say how it ended."""
    go_on = f"overread pull --resume {one.id}"
    peer = peer_named(one.peer, parts.settings)
    own = device_uid(parts.store.serial)
    receiver = Receiver(parts.store, parts.spool, settings=parts.settings, bell=parts.bell, own_device_uid=own)
    try:
        with (
            only_here(parts.settings, parts.store, one),
            Presence(parts.store, lambda: parts.settings, ring=parts.bell.ring, without=[f"pull-{one.id}"]),
            parts.spool.room("pull") as folder,
            followed(parts.store, one) as watch,
        ):
            one = Puller(
                parts.store,
                parts.spool,
                receiver,
                settings=parts.settings,
                pull=one,
                source=partial(source_to, peer, parts.settings, folder=folder),
                clock=parts.store.now,
                wait=time.sleep,
                watch=watch,
            ).run()
    except KeyboardInterrupt:
        fail(f"pull #{one.id} was interrupted; go on with: {go_on}", INTERRUPTED)
    except PeerError as error:
        fail(f"{error}\npull #{one.id} has not begun; go on with: {go_on}")
    counts = pulls.counts(parts.store, one.id)
    arrived = one.state is PullState.DONE and not counts[PullStudyState.DEAD] and not one.missing
    if as_json:
        cost = Prices().told(bulk.cost(parts.store, one))
        print_json(asdict(one) | {"studies": counts, "arrived": arrived, "cost": cost})
        raise typer.Exit(0 if arrived else FAILED)
    out.print(_line(one, counts), markup=False)
    for line in cost_lines(bulk.cost(parts.store, one)):
        out.print(f"  {line}", markup=False)
    if one.missing:
        err.print(f"not found at {one.peer}: {_short(one.missing)}", style="red", markup=False)
    for study in pulls.of_pull(parts.store, one.id, PullStudyState.DEAD, limit=SHOWN):
        err.print(f"{study.study_instance_uid}: {study.reason}", style="red", markup=False)
    if one.state is not PullState.DONE or counts[PullStudyState.DEAD]:
        err.print(f"go on with: {go_on}", markup=False)
    raise typer.Exit(0 if arrived else FAILED)


def _line(one: Pull, counts: dict[PullStudyState, int]) -> str:
    done, dead = counts[PullStudyState.DONE], counts[PullStudyState.DEAD]
    given_up = f", {dead} given up" if dead else ""
    only = one.pulled.sentence.partition(", ")[2]
    said = f"pull #{one.id} from {one.peer}, {moment(one.created_at)}: {one.state}, {done} of {sum(counts.values())}"
    return f"{said} studies are here{given_up}{f'; {only}' if only else ''}{f'; {one.reason}' if one.reason else ''}"


def _short(value: object) -> str:
    """A list of names, of which the first ten are enough."""
    if not isinstance(value, list | tuple):
        return str(value)
    more = f" and {len(value) - 10} more" if len(value) > 10 else ""
    return ", ".join(map(str, value[:10])) + more
