"""`overread peer test`: the steps of a test as they happen, a question before anything is stored, an exit code."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from node.admin.step import Step
from node.cli.peer import Named, known, peer_app
from node.cli.printing import FAILED, UNUSABLE, Config, Json, err, fail, load, out, print_json

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "waiting": "cyan", "skipped": "dim"}
INTERRUPTED = 130
NOBODY_TO_ASK = "this is no terminal, and without --yes nothing is stored there"


@peer_app.command()
def test(
    peer: Named,
    config: Config = None,
    yes: Annotated[bool, typer.Option("--yes", help="Store test results at the peer without asking")] = False,
    no_store: Annotated[bool, typer.Option("--no-store", help="Store nothing at the peer")] = False,
    wait: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds for what only the peer, or a person at it, can do")
    ] = 60,
    as_json: Json = False,
) -> None:
    """Prove the round trip: reach a peer, send a synthetic study through this node and its result there, and back.

    The exit code is 0 only if all that was asked for was proven.
    """
    from node.admin.trial import NOT_ASKED, Rules, run
    from node.service import open_parts

    settings, _ = load(config)
    asked = known(settings, peer)
    if yes and no_store:
        fail("--yes and --no-store contradict each other", UNUSABLE)
    withheld = (lambda _: NOT_ASKED) if no_store else (lambda _: "") if yes else _ask
    with open_parts(settings) as parts:
        rules = Rules(withheld=withheld, wait=wait)
        steps = run(settings, asked, store=parts.store, spool=parts.spool, bell=parts.bell, rules=rules)
        told: list[Step] = []
        try:
            with closing(steps):
                for said in steps:
                    told.append(said)
                    print_json(_plain(said)) if as_json else _show(said)
        except KeyboardInterrupt:
            stored = next((f" {s.text}." for s in told if (s.name, s.verdict) == ("store", "ok")), "")
            err.print(f"Stopped; nothing of the test is left here.{stored}", style="yellow", markup=False)
            raise typer.Exit(INTERRUPTED) from None
    proven = all(said.proven for said in told if said.verdict != "waiting")
    raise typer.Exit(0 if proven else FAILED)


def _ask(question: str) -> str:
    if not sys.stdin.isatty():
        return NOBODY_TO_ASK
    return "" if typer.confirm(question, err=True) else "nothing is stored there: you said no"


def _plain(said: Step) -> dict[str, object]:
    return {
        "step": said.name,
        "verdict": said.verdict,
        "text": said.text,
        "change": said.change,
        "proven": said.proven,
        "table": dict(said.table),
    }


def _show(said: Step) -> None:
    if said.verdict == "waiting":
        # One line that the next one overwrites; nothing of it where nobody looks
        if err.is_terminal:
            err.print(f"\r\x1b[K... {said.name}: {said.text}"[: err.width], end="", markup=False)
        return
    if err.is_terminal:
        err.print("\r\x1b[K", end="")
    out.print(f"[{STYLES[said.verdict]}]{said.verdict:<8}[/] {said.name:<13} ", end="")
    out.print(said.text, markup=False)
    for name, value in said.table:
        out.print(f"{'':<23}{name:<52} {value}", markup=False, style="dim")
    if said.change:
        out.print(f"{'':<23}{said.change}", markup=False, style="bold")
