"""Commands that look at studies: show, held list, route explain. They change nothing.

STUDY is a row number, a log hash, a Study Instance UID or an accession number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated

import typer
from rich.table import Table

from models.findings import Presence
from node.admin import audit
from node.cli.printing import Config, Json, app, load, moment, out, plural, print_json, print_table
from node.domain import Delivery, DeliveryState, FindingRow, InstanceState, Priority, Result, Study, StudyState
from node.results.summary import sentence
from node.service import open_parts
from node.storage import deliveries, events, expected, instances, jobs, pulled, studies
from node.storage.expected import Expected
from node.storage.store import Store

held = typer.Typer(no_args_is_help=True, help="Studies whose instances contradict each other.")
route = typer.Typer(no_args_is_help=True, help="Which route takes which image, and why.")
app.add_typer(held, name="held")
app.add_typer(route, name="route")

Named = Annotated[str, typer.Argument(metavar="STUDY", help="Row, log hash, Study Instance UID or accession number")]


@app.command()
def show(study: Named, config: Config = None, as_json: Json = False) -> None:
    """One study's story: what came, what was decided, what was found, what was sent."""
    settings, _ = load(config)
    with open_parts(settings) as parts:
        found = studies.find(parts.store, study)
        audit.opened(parts.store, settings, audit.person(), found, now=parts.store.now())
        _show(parts.store, found, as_json=as_json)


def _show(store: Store, found: Study, *, as_json: bool) -> None:
    ran = jobs.of_study(store, found.id)
    made = jobs.results(store, found.id)
    sent = deliveries.of_study(store, found.id)
    counted = expected.of_study(store, found.id)
    if as_json:
        print_json(
            {
                "study": asdict(found),
                "pulled": [asdict(p) for p in pulled.of_study(store, found.id)],
                "expected": asdict(counted) if counted else None,
                "instances": [asdict(i) for i in instances.of_study(store, found.id)],
                "routes": [{"route": m.route, "reason": m.reason} for m in studies.route_reasons(store, found)],
                "jobs": [asdict(j) | {"findings": [asdict(f) for f in jobs.findings(store, j.id)]} for j in ran],
                "results": [asdict(r) for r in made],
                "deliveries": [asdict(d) for d in sent],
                "events": [asdict(e) for e in events.of_study(store, found.id)],
            }
        )
        return
    out.print(f"[bold]study {found.id}[/] {found.log_id}  {found.state}: {found.state.sentence}")
    out.print(f"  {found.study_instance_uid}  revision {found.revision}  {found.settled_by}", markup=False)
    for one in pulled.of_study(store, found.id):
        out.print(f"  pulled from {found.peer} by {one.sentence}", style="cyan", markup=False)
    if found.reason:
        out.print(f"  {found.reason}", style="yellow", markup=False)
    if counted:
        out.print(f"  {_counted(found.peer, counted)}", markup=False)
    for event in events.of_study(store, found.id):
        out.print(f"  {moment(event.at)}  {event.verb:<8} {event.text}", markup=False)
    for job in ran:
        urgent = "" if job.priority is Priority.ROUTINE else f"  {job.priority.name}"
        out.print(f"[bold]job {job.id}[/] {job.name} revision {job.revision} {job.bundle}  {job.state}{urgent}")
        if job.choice:
            out.print(f"  {job.choice.sentence}", markup=False)
        for (instance, frame), rows in groupby(jobs.findings(store, job.id), key=lambda r: (r.instance_id, r.frame)):
            of = f" frame {frame}" if frame > 1 else ""
            out.print(f"  image {instance}{of}  {_said(list(rows))}", markup=False)
    for result in made:
        _show_result(result, [d for d in sent if d.result_id == result.id])


def _counted(peer: str, told: Expected) -> str:
    """What the peer said when it was asked how much it has of a study."""
    if told.asked_at is None:
        return f"{peer} could not be asked how many instances it has: {told.reason}"
    number = "does not count instances" if told.instances is None else f"counts {told.instances} instances"
    failed = f"; not asked since then: {told.reason}" if told.reason else ""
    return f"{peer} {number} (asked {moment(told.asked_at)}); {told.here} are here or were sent there{failed}"


def _show_result(result: Result, sent: Sequence[Delivery]) -> None:
    """A result by the UID that `replay` takes, and where it went."""
    out.print(f"[bold]{result.kind}[/] {result.sop_instance_uid}  {result.route} revision {result.revision}")
    if result.withdrawn_at:
        out.print(f"  withdrawn at {moment(result.withdrawn_at)}: never sent again", style="yellow", markup=False)
    if result.quarantine:
        out.print(f"  failed its self-check, not sent: {result.quarantine}", style="red", markup=False)
        out.print(f"  {result.path}", markup=False)
    for d in sent:
        out.print(f"  {d.kind} to {d.peer}: {d.state}{_proof(d)} {d.reason}".rstrip(), markup=False)


def _proof(sent: Delivery) -> str:
    """How a peer proved that it keeps what it was sent, or why that is not known."""
    if sent.state is DeliveryState.COMMITTED:
        return f" ({sent.proof}, {moment(sent.proven_at)})"
    if sent.state is not DeliveryState.SENT:
        return ""
    return f" (unproven: {sent.proof or ('not yet' if sent.proof_due_at else 'the peer only answered')})"


def _said(rows: Sequence[FindingRow]) -> str:
    """What is remembered of one image of a job."""
    found = [
        (row.label, "no score" if row.score is None else f"{100 * row.score:.1f} %", Presence(row.presence))
        for row in rows
        if row.label
    ]
    return f"{rows[0].status}  {sentence(found) if found else rows[0].reason}"


@held.command("list")
def held_list(config: Config = None, as_json: Json = False) -> None:
    """The studies that wait for a decision, and what contradicts what."""
    with open_parts(load(config)[0]) as parts:
        store = parts.store
        waits = studies.in_state(store, StudyState.HELD)
        if not waits and not as_json:
            out.print("Nothing is held.")
        for study in waits:
            waiting = instances.of_study(store, study.id, InstanceState.CONFLICT)
            differs = sorted({d for i in waiting for d in i.differs})
            if as_json:
                print_json(asdict(study) | {"differs": differs, "instances": len(waiting)})
                continue
            out.print(f"[bold]study {study.id}[/] {study.log_id}: {plural(len(waiting), 'contradicting instance')}")
            for line in differs or [study.reason]:
                out.print(f"  {line}", markup=False)


@route.command("explain")
def route_explain(study: Named, config: Config = None, as_json: Json = False) -> None:
    """What each route of today's settings says of each image of a study."""
    from node.pipeline.route import check_keywords, explain

    settings, _ = load(config)
    with open_parts(settings) as parts:
        store = parts.store
        found = studies.find(store, study)
        check_keywords(settings.route)
        table = Table("image", "modality", "route", "answer", box=None)
        for instance, one, reason in explain(store, found, settings.route):
            if as_json:
                print_json({"instance": instance.id, "route": one.name, "matches": not reason, "reason": reason})
            table.add_row(str(instance.id), instance.modality, one.name, reason or "matches")
        if not as_json:
            print_table(table)
