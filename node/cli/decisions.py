"""Commands by which a person decides about studies: retry, settle, held accept and reject, route again.

What they decide is a row; the roles are woken and do the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from node.cli.peers import known
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, fail, load, out, plural, print_json
from node.cli.studies import Named, held, route
from node.domain import Study, StudyState
from node.service import open_parts
from node.storage import deliveries, jobs, negotiated, proofs, routing, studies


@app.command()
def retry(
    study: Annotated[str, typer.Argument(metavar="[STUDY]", help="Row, log hash, Study Instance UID ...")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Dead jobs and deliveries of all studies")] = False,
    peer: Annotated[str, typer.Option("--peer", metavar="NAME", help="Dead deliveries to one peer")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Try again what was given up: dead jobs, dead deliveries, and proof that results are kept."""
    settings, _ = load(config)
    if [bool(study), everything, bool(peer)].count(True) != 1:
        fail("retry what? Give one of STUDY, --all and --peer NAME", UNUSABLE)
    now = time.time()
    prove = [p.name for p in settings.peer if p.proof != "none"]
    with open_parts(settings) as parts:
        if study:
            found = studies.find(parts.store, study)
            tried = jobs.retry(parts.store, found, now=now)
            sends = deliveries.retry(parts.store, found, now=now)
            asks = proofs.ask_anew(parts.store, prove, study_id=found.id, now=now)
        else:
            to = known(settings, peer).name if peer else None
            found = None
            tried = jobs.retry_all(parts.store, now=now) if everything else 0
            sends = deliveries.retry_all(parts.store, to, now=now)
            prove = [name for name in prove if to in (None, name)]
            asks = proofs.ask_anew(parts.store, prove, now=now)
        for name in prove:
            negotiated.forget(parts.store, name)
        for role in ("infer", "dispatch"):
            parts.bell.ring(role)
    if as_json:
        print_json({"study": found.id if found else None, "jobs": tried, "deliveries": sends, "proofs": asks})
    else:
        whose = f"study {found.id}" if found else "all studies"
        to_peer = f" to {peer}" if peer else ""
        said = f"{plural(tried, 'job')} and {plural(sends, 'delivery', 'deliveries')}{to_peer}"
        out.print(f"{said} of {whose} will be tried again")
        if asks:
            out.print(f"and {plural(asks, 'result')} that {'was' if asks == 1 else 'were'} sent will be asked about")


@app.command()
def settle(study: Named, config: Config = None, as_json: Json = False) -> None:
    """Say that a study is complete, without waiting for its signal."""
    from node.pipeline.settle import compare
    from node.pipeline.settle import settle as settle_now

    with open_parts(load(config)[0]) as parts:
        found = studies.find(parts.store, study)
        if found.state is not StudyState.RECEIVING:
            fail(f"study {found.id} is {found.state}: only a study that is RECEIVING can settle", UNUSABLE)
        now = time.time()
        try:
            new = settle_now(parts.store, found, "a person said so", now) if compare(parts.store, found, now) else None
        except OSError as error:
            fail(f"study {found.id} did not settle: its pixels could not be compared: {error.strerror or error}")
        parts.bell.ring("dispatch")
        after = new or studies.by_id(parts.store, found.id)
    why_not = _unsettled(after)
    if as_json:
        print_json({"study": after.id, "settled": not why_not, "state": after.state, "reason": why_not})
        raise typer.Exit(FAILED if why_not else 0)
    if why_not:
        fail(f"study {after.id} did not settle: {why_not}")
    out.print(f"study {after.id} settled" if new else f"study {after.id}: nothing new to analyse, it is {after.state}")


def _unsettled(study: Study) -> str:
    """Why a study did not settle when it was told to; "" when it did."""
    if study.state is StudyState.HELD:
        return "its instances contradict each other: `overread held list` says in what"
    if study.state is StudyState.RECEIVING:
        return "an instance arrived meanwhile: try again"
    return ""


@held.command("accept")
def held_accept(study: Named, config: Config = None, as_json: Json = False) -> None:
    """The newer instances are right: they replace the older ones, and the study is analysed again."""
    found, n = _decide(studies.accept, study, config)
    if as_json:
        print_json({"study": found.id, "accepted": n})
    else:
        out.print(f"study {found.id}: {plural(n, 'instance')} accepted; a new revision follows")


@held.command("reject")
def held_reject(study: Named, config: Config = None, as_json: Json = False) -> None:
    """The newer instances are wrong: they are kept aside, and the study goes on as it was."""
    found, n = _decide(studies.reject, study, config)
    if as_json:
        print_json({"study": found.id, "rejected": n})
    else:
        out.print(f"study {found.id}: {plural(n, 'instance')} rejected")


def _decide(decision: Callable[..., int], name: str, config: Path | None) -> tuple[Study, int]:
    """Take a decision about a held study and wake whoever carries it on; the study, and how many instances it was."""
    with open_parts(load(config)[0]) as parts:
        found = studies.find(parts.store, name)
        n = decision(parts.store, found, now=time.time())
        parts.bell.ring("dispatch")
    return found, n


@route.command("again")
def route_again(study: Named, config: Config = None, as_json: Json = False) -> None:
    """Decide anew which routes apply, by today's settings."""
    with open_parts(load(config)[0]) as parts:
        found = studies.find(parts.store, study)
        if not routing.again(parts.store, found, now=time.time()):
            state = studies.by_id(parts.store, found.id).state
            fail(f"study {found.id} is {state}: only one that is ROUTED or UNROUTED can be routed again", UNUSABLE)
        parts.bell.ring("dispatch")
        after = studies.by_id(parts.store, found.id)
    if as_json:
        print_json({"study": after.id, "state": after.state, "revision": after.revision})
    else:
        out.print(f"study {after.id}: its routes are decided anew, as revision {after.revision}")
