"""Commands that change who the peers are, in the settings file: peer add, remove."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from config.edit import add_peer, remove_peer
from config.rewrite import rewrite
from config.settings import Settings, find_file
from config.values import AETitle, Name, Network, Port
from node.admin.introduce import introduction
from node.cli.peer import Named, peer_app
from node.cli.printing import UNUSABLE, Config, Json, err, fail, out, plural, print_json
from node.errors import SpoolError, StoreError

Given = dict[str, Any]
QUESTIONS: dict[str, tuple[str, str, Any]] = {
    "name": ("NAME", "What routes and commands call it (a-z 0-9 _ . -)", Name),
    "ae_title": ("--ae-title", "Its AE title (1 to 16 characters, as it is set up there)", AETitle),
    "host": ("--host", "Its host (an address such as 10.1.2.3, or a name)", str),
    "port": ("--port", "Its port (1 to 65535, often 104 or 11112)", Port),
    "networks": ("--network", "From which address it sends (such as 10.1.2.3 or 10.1.7.0/24)", Network),
}
TAKEN_UP = "A node that runs takes it up with `overread reload`."


@peer_app.command("add")
def peer_add(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What routes and commands call it")] = "",
    ae_title: Annotated[str, typer.Option(help="Its own AE title")] = "",
    host: Annotated[str, typer.Option(help="Where results go to, or who is asked for studies")] = "",
    port: Annotated[int | None, typer.Option(help="The same")] = None,
    network: Annotated[list[str] | None, typer.Option(metavar="CIDR", help="From where it may send")] = None,
    may: Annotated[str, typer.Option(help="Comma separated: send, receive, query")] = "",
    url: Annotated[str, typer.Option(help="A DICOMweb service, in place of AE title, host and port")] = "",
    api: Annotated[str, typer.Option(metavar="dicomweb|orthanc", help="How the url is asked for studies")] = "",
    user: Annotated[str, typer.Option(help="Who this node is there")] = "",
    password_file: Annotated[Path | None, typer.Option(help="With the user's password")] = None,
    token_file: Annotated[Path | None, typer.Option(help="With a bearer token")] = None,
    authorities: Annotated[Path | None, typer.Option(help="Who vouches for its https certificate")] = None,
    tls: Annotated[bool | None, typer.Option("--tls/--no-tls", help="Else as [tls] says")] = None,
    fingerprint: Annotated[str, typer.Option(help="SHA-256 of its certificate")] = "",
    result: Annotated[list[str] | None, typer.Option(metavar="KIND", help="Only these results: sr, sc ...")] = None,
    proof: Annotated[str, typer.Option(help="auto, commitment, find or none")] = "",
    deliver_from: Annotated[list[str] | None, typer.Option(metavar="ROUTE", help="Whose results go to it")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Write a [[peer]] into the settings file; on a terminal, what is missing is asked for."""
    file = find_file(config)
    home = file.absolute().parent
    files = {"password_file": password_file, "token_file": token_file, "authorities": authorities}
    given: Given = {
        "name": name,
        "ae_title": ae_title,
        "host": host,
        "port": port,
        "networks": network,
        "may": [m.strip() for m in may.split(",") if m.strip()],
        "url": url,
        "api": api,
        "user": user,
        **{key: str(_from(home, path)) for key, path in files.items() if path},
        "tls": tls,
        "fingerprint": fingerprint,
        "results": result,
        "proof": proof,
    }
    values = _completed({key: value for key, value in given.items() if value not in ("", None, [])})
    routes = deliver_from or []
    settings = rewrite(file, lambda text: add_peer(text, values, to_routes=routes))
    peer = settings.peer_named(str(values["name"]))
    assert peer is not None, "it was written and read again"
    tell = list(introduction(peer, settings))
    if as_json:
        print_json({"file": file, "peer": values, "routes": routes, "tell": tell})
        return
    out.print(f"Wrote to {file}:\n{add_peer('', values)}", markup=False)
    for route in routes:
        out.print(f"Results of {route} go to it.", markup=False)
    if "receive" in peer.may and not any(peer.name in r.deliver_to for r in settings.route):
        out.print("No route delivers to it yet: --deliver-from ROUTE, or deliver_to in the file.", markup=False)
    out.print("On the other side:", *tell, sep="\n  ", markup=False)
    out.print(TAKEN_UP)


def _from(home: Path, path: Path) -> Path:
    """A file that is named from here, as the settings file names it: from its own folder."""
    absolute = path.expanduser().absolute()
    return absolute.relative_to(home) if absolute.is_relative_to(home) else absolute


def _completed(values: Given) -> Given:
    """The values with what was missing, as a person at the terminal answered."""
    missing = _missing(values)
    if missing and not sys.stdin.isatty():
        flags = ", ".join(QUESTIONS[key][0] for key in missing)
        fail(f"missing: {flags} (on a terminal they are asked for)", UNUSABLE)
    answers: Given = {key: _answer(key) for key in missing}
    if "networks" in answers:
        answers["networks"] = [answers["networks"]]
    both = values | answers
    return {key: both[key] for key in [*QUESTIONS, *both] if key in both}


def _missing(values: Given) -> list[str]:
    """What a peer of this kind needs and the values lack."""
    needed = ["name"] if "url" in values else ["name", "ae_title"]
    if "url" not in values and {"receive", "query"} & set(values.get("may", ["receive"])):
        needed += ["host", "port"]
    elif "url" not in values and "host" not in values:
        needed += ["networks"]
    return [key for key in needed if key not in values]


def _answer(key: str) -> Any:
    _, question, kind = QUESTIONS[key]
    while True:
        answer = typer.prompt(question)
        try:
            return TypeAdapter(kind).validate_python(answer)
        except ValidationError as error:
            err.print(error.errors()[0]["msg"].removeprefix("Value error, "), style="red", markup=False)


@peer_app.command("remove")
def peer_remove(
    name: Named,
    from_routes: Annotated[bool, typer.Option("--from-routes", help="Also where routes name it")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take a [[peer]] out of the settings file, with the comments that belong to it."""
    file = find_file(config)
    settings = rewrite(file, lambda text: remove_peer(text, name, from_routes=from_routes))
    waiting, unproven = _left(settings, name)
    if as_json:
        print_json({"file": file, "removed": name, "waiting": waiting, "unproven": unproven})
        return
    out.print(f"Removed {name} from {file}. {TAKEN_UP}", markup=False)
    if waiting:
        out.print(f"{plural(waiting, 'result')} that it has not got will then never be sent.", markup=False)
    if unproven:
        out.print(f"{plural(unproven, 'result')} that it was sent will then stay unproven.", markup=False)


def _left(settings: Settings, name: str) -> tuple[int, int]:
    """What the peer has not got or proven; a node that never ran has nothing for it."""
    from node.service import open_parts
    from node.storage import departed

    if isinstance(settings.database_at, Path) and not settings.database_at.exists():
        return 0, 0
    try:
        with open_parts(settings) as parts:
            return departed.left_with(parts.store, name)
    except (StoreError, SpoolError) as error:
        err.print(f"how many results wait for it is not known: {error}", style="yellow", markup=False)
        return 0, 0
