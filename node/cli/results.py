"""Commands about results that were made before: recall takes back those of a model's version, replay repeats one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from node.cli.printing import (
    FAILED,
    UNUSABLE,
    Config,
    Json,
    app,
    fail,
    load,
    moment,
    out,
    plural,
    print_json,
    print_table,
)
from node.errors import CannotReplay
from node.service import open_parts

if TYPE_CHECKING:
    from node.pipeline.recall import Answer
    from node.pipeline.replay import Replayed
    from node.storage.recalls import Recalled

Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD")]
FOREVER = 1e12


@app.command()
def recall(
    bundle: Annotated[str, typer.Option("--bundle", metavar="NAME@VERSION", help="The version that is recalled")],
    since: Day = None,
    until: Day = None,
    route: Annotated[str, typer.Option("--route", help="Only the results of this route")] = "",
    supersede: Annotated[bool, typer.Option("--supersede", help="Ask each study's routes anew")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take the results back from who has them")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List every result of one version of a model; supersede them by another version's, or withdraw them."""
    from node.pipeline import recall as recalling
    from node.pipeline.plan import plan

    settings, _ = load(config)
    if yes and not (supersede or withdraw):
        fail("--yes to what? Give --supersede or --withdraw, or both", UNUSABLE)
    until_day = until + timedelta(days=1) if until else None
    with open_parts(settings) as parts:
        now = parts.store.now()
        found = recalling.find(
            parts.store,
            bundle,
            since=since.timestamp() if since else 0.0,
            until=until_day.timestamp() if until_day else FOREVER,
            route=route,
        )
        _list(found, as_json=as_json)
        answers: dict[str, list[Answer]] = {}
        if supersede:
            recalling.see_routes(found, plan(settings), settings)
            answers["superseded"] = recalling.supersede(parts.store, found, now=now, dry=not yes)
        if withdraw:
            answers["withdrawn"] = recalling.withdraw(
                parts.store, parts.spool, found, settings=settings, now=now, dry=not yes
            )
        if yes:
            parts.bell.ring("dispatch")
    _say(found, answers, yes=yes, as_json=as_json)


def _list(found: Sequence[Recalled], *, as_json: bool) -> None:
    table = Table("study", "log hash", "rev", "route", "result", "made", "went to", "state", box=None)
    for one in found:
        for said in _results(one):
            if as_json:
                print_json(said)
            table.add_row(
                str(said["study"]),
                said["log_id"],
                str(said["revision"]),
                said["route"],
                said["kind"] or "none yet",
                moment(said["made_at"]),
                ", ".join(f"{peer} {state}" for peer, state in said["went_to"].items()) or "nobody",
                said["state"],
            )
    if found and not as_json:
        print_table(table)


def _results(one: Recalled) -> list[dict[str, Any]]:
    """One line for each result of a job, or for a job that has none yet."""
    common = {
        "study": one.study.id,
        "log_id": one.study.log_id,
        "revision": one.job.revision,
        "route": one.job.route,
    }
    superseded = "superseded" if one.superseded else "routes asked anew" if one.asked else ""
    if not one.results:
        state = superseded or str(one.job.state)
        return [common | {"kind": "", "sop_instance_uid": "", "made_at": None, "went_to": {}, "state": state}]
    lines = []
    for result in one.results:
        words = [superseded, "withdrawn" if result.withdrawn_at else ""]
        lines.append(
            common
            | {
                "kind": result.kind,
                "sop_instance_uid": result.sop_instance_uid,
                "made_at": result.created_at,
                "went_to": {peer: str(state) for peer, state in one.deliveries.get(result.id, ())},
                "state": ", ".join(w for w in words if w) or "current",
            }
        )
    return lines


def _say(found: Sequence[Recalled], answers: dict[str, list[Answer]], *, yes: bool, as_json: bool) -> None:
    """What was done about each study, or would be, and the sum of it."""
    counted = {verb: sum(a.done for a in said) for verb, said in answers.items()}
    results = sum(len(one.results) for one in found)
    studies = len({one.study.id for one in found})
    if as_json:
        for verb, said in answers.items():
            for answer in said:
                print_json({"study": answer.study_id, verb: answer.done and yes, "text": answer.text})
        print_json({"results": results, "studies": studies, "done": yes, **counted})
        return
    for verb, said in answers.items():
        for answer in said:
            would = "" if yes or not answer.done else "would be "
            done = f"{would}{verb}: " if answer.done else f"not {verb}: "
            out.print(f"study {answer.study_id} {done}{answer.text}", markup=False)
    out.print(f"{plural(results, 'result')} of {plural(studies, 'study', 'studies')}")
    if not answers:
        out.print("Nothing was done. --supersede asks the routes of these studies anew; --withdraw takes results back.")
    elif not yes:
        out.print("Nothing was done. --yes does it.")
    else:
        out.print(", ".join(f"{n} {verb}" for verb, n in counted.items()))


@app.command()
def replay(
    sop_instance_uid: Annotated[
        str, typer.Argument(metavar="SOP_INSTANCE_UID", help="A result's, in any of its forms")
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compute a past result again from the kept images, model and settings: identical, within 0.1 point, or different.

    Nothing is sent or kept. Exit code 0: identical or within 0.1 percentage point; 1: different, or it cannot be done.
    """
    from node.admin import audit
    from node.pipeline import replay as replaying
    from node.pipeline.plan import registry
    from node.storage import results, studies

    settings, _ = load(config)
    with open_parts(settings) as parts:
        try:
            said = replaying.replay(
                parts.store, sop_instance_uid, settings=settings, registry=registry(settings), bell=parts.bell
            )
            _, job = results.find(parts.store, sop_instance_uid)
            study = studies.by_id(parts.store, job.study_id)
            audit.opened(parts.store, settings, audit.person(), study, now=parts.store.now())
        except CannotReplay as error:
            if as_json:
                print_json({"verdict": "impossible", "reason": str(error)})
                raise typer.Exit(FAILED) from None
            fail(f"cannot be replayed: {error}")
    if as_json:
        print_json(asdict(said))
    else:
        _compare(said)
    raise typer.Exit(FAILED if said.verdict == "different" else 0)


def _compare(said: Replayed) -> None:
    """The verdict, and where it is not "identical" the figures behind it."""
    words = "the object is the same, byte by byte" if said.same_bytes else "the object's bytes differ"
    out.print(f"{said.verdict}: {plural(len(said.scores), 'line')} compared; {words}", highlight=False)
    if said.verdict == "identical":
        return
    scores = Table("image", "finding", "then", "now", "points", box=None)
    for s in said.scores:
        points = "" if s.then is None or s.now is None else f"{100 * (s.now - s.then):+.3f}"
        scores.add_row(s.image, s.label, _figure(s.then, s.then_said), _figure(s.now, s.now_said), points)
    print_table(scores)
    parts = Table("", "then", "now", box=None)
    for name in dict.fromkeys((*said.then, *said.now)):
        parts.add_row(name, said.then.get(name, ""), said.now.get(name, ""))
    print_table(parts)


def _figure(score: float | None, presence: str) -> str:
    return presence if score is None else f"{100 * score:.3f} % {presence}"
