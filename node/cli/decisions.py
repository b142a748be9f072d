"""Commands by which a person decides about studies: retry, settle, held accept and reject, route again.

What they decide is a row; the roles are woken and do the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from node.admin import decisions
from node.cli.peer import known
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, fail, load, out, plural, print_json
from node.cli.studies import Named, held, route
from node.domain import Study
from node.errors import DecisionError
from node.service import open_parts
from node.storage import studies


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
    with open_parts(settings) as parts:
        now = parts.store.now()
        found = studies.find(parts.store, study) if study else None
        if found:
            tried = decisions.retry(settings, parts.store, parts.bell, found, now=now)
        else:
            to = known(settings, peer).name if peer else None
            tried = decisions.retry_all(settings, parts.store, parts.bell, peer=to, now=now)
    if as_json:
        print_json({"study": found.id if found else None} | asdict(tried))
    else:
        whose = f"study {found.id}" if found else "all studies"
        to_peer = f" to {peer}" if peer else ""
        said = f"{plural(tried.jobs, 'job')} and {plural(tried.deliveries, 'delivery', 'deliveries')}{to_peer}"
        out.print(f"{said} of {whose} will be tried again")
        if n := tried.proofs:
            out.print(f"and {plural(n, 'result')} that {'was' if n == 1 else 'were'} sent will be asked about")


@app.command()
def settle(study: Named, config: Config = None, as_json: Json = False) -> None:
    """Say that a study is complete, without waiting for its signal."""
    with open_parts(load(config)[0]) as parts:
        found = studies.find(parts.store, study)
        try:
            done = decisions.settle(parts.store, parts.bell, found, now=parts.store.now())
        except DecisionError as error:
            fail(str(error), UNUSABLE)
    after = done.study
    if as_json:
        print_json({"study": after.id, "settled": not done.why_not, "state": after.state, "reason": done.why_not})
        raise typer.Exit(FAILED if done.why_not else 0)
    if done.why_not:
        fail(f"study {after.id} did not settle: {done.why_not}")
    nothing = f"study {after.id}: nothing new to analyse, it is {after.state}"
    out.print(f"study {after.id} settled" if done.new else nothing)


@held.command("accept")
def held_accept(study: Named, config: Config = None, as_json: Json = False) -> None:
    """The newer instances are right: they replace the older ones, and the study is analysed again."""
    found, n = _decide(decisions.accept, study, config)
    if as_json:
        print_json({"study": found.id, "accepted": n})
    else:
        out.print(f"study {found.id}: {plural(n, 'instance')} accepted; a new revision follows")


@held.command("reject")
def held_reject(study: Named, config: Config = None, as_json: Json = False) -> None:
    """The newer instances are wrong: they are kept aside, and the study goes on as it was."""
    found, n = _decide(decisions.reject, study, config)
    if as_json:
        print_json({"study": found.id, "rejected": n})
    else:
        out.print(f"study {found.id}: {plural(n, 'instance')} rejected")


def _decide(decision: Callable[..., int], name: str, config: Path | None) -> tuple[Study, int]:
    """Take a decision about a held study and wake whoever carries it on; the study, and how many instances it was."""
    with open_parts(load(config)[0]) as parts:
        found = studies.find(parts.store, name)
        n = decision(parts.store, parts.bell, found, now=parts.store.now())
    return found, n


@route.command("again")
def route_again(study: Named, config: Config = None, as_json: Json = False) -> None:
    """Decide anew which routes apply, by today's settings."""
    with open_parts(load(config)[0]) as parts:
        found = studies.find(parts.store, study)
        try:
            after = decisions.route_again(parts.store, parts.bell, found, now=parts.store.now())
        except DecisionError as error:
            fail(str(error), UNUSABLE)
    if as_json:
        print_json({"study": after.id, "state": after.state, "revision": after.revision})
    else:
        out.print(f"study {after.id}: its routes are decided anew, as revision {after.revision}")
