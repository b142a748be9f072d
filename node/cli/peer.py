"""Commands about peers: peer list, echo."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer

from config.settings import Peer, Settings
from node.admin.echo import ask, can_be_asked, in_words
from node.cli.printing import FAILED, UNUSABLE, Config, Json, app, err, fail, load, moment, out, print_json
from node.errors import SpoolError, StoreError
from node.network.sender import Sender
from node.network.stow import WebSender
from node.pipeline.peers import place, sender_to
from node.storage import echoes
from node.storage.echoes import Echo

peer_app = typer.Typer(no_args_is_help=True, help="The systems that this node talks to.")
app.add_typer(peer_app, name="peer")

AT_ONCE = 16
"""Peers that are asked at once: one that does not answer takes deliver.timeout_seconds."""
Named = Annotated[str, typer.Argument(metavar="PEER", help="The name of a [[peer]] in the settings")]
MUTE = "it only sends, and the settings have no host and port of it, so it cannot be asked"


def known(settings: Settings, name: str) -> Peer:
    """The peer of that name; ends the program when the settings have none."""
    peer = settings.peer_named(name)
    if peer is None:
        have = ", ".join(p.name for p in settings.peer) or "none"
        fail(f"{name}: no such [[peer]] in the settings (have: {have})", UNUSABLE)
    return peer


def sender_of(settings: Settings, name: str) -> tuple[Peer, Sender | WebSender]:
    """The peer of that name and how to send to it; ends the program where it has no place."""
    peer = known(settings, name)
    if not can_be_asked(peer):
        fail(f"{name}: this peer has no host and port and no url, so nothing can be sent to it", UNUSABLE)
    if peer.url and "receive" not in peer.may:
        fail(f'{name}: this peer may only "query", so nothing is sent to it', UNUSABLE)
    return peer, sender_to(peer, settings)


@peer_app.command("list")
def peer_list(config: Config = None, as_json: Json = False) -> None:
    """Who the peers are, whether they answered, which results each takes in which form, and which routes name it."""
    from node.admin.destinations import destinations
    from node.service import open_parts

    settings, _ = load(config)
    with open_parts(settings) as parts:
        found = destinations(settings, parts.store)
    for peer in found:
        if as_json:
            print_json(peer)
        else:
            out.print("\n      ".join(_lines(peer, now=time.time())), markup=False)
    if not found and not as_json:
        out.print(
            "no [[peer]] in the settings: only this machine may associate; `overread peer add` adds one", markup=False
        )


def _lines(peer: dict[str, Any], *, now: float) -> Iterator[str]:
    may = ", ".join(peer["may"]) or "nothing"
    yield f"{peer['peer']}  {peer['place']}  TLS {'yes' if peer['tls'] else 'no'}  may {may}"
    newest = max((said["at"] for said in peer["takes"].values()), default=None)
    if newest:
        takes = ", ".join(f"{kind.upper()} {said['words']}" for kind, said in peer["takes"].items())
        yield f"takes {takes} ({moment(newest)})"
    elif "receive" in peer["may"]:
        yield "takes: not asked yet"
    if peer["echo"]:
        yield in_words(Echo(**peer["echo"]), now=now)
    for key, words in (("deliver_to", "results of"), ("from_peers", "studies for")):
        if peer[key]:
            yield f"{words} {', '.join(peer[key])}"
    if not peer["deliver_to"] and not peer["from_peers"]:
        yield "no route names it"


@peer_app.command("echo")
def peer_echo(
    name: Annotated[str, typer.Argument(metavar="[PEER]", help="The name of a [[peer]] in the settings")] = "",
    everybody: Annotated[bool, typer.Option("--all", help="Ask every peer that has a place")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Ask a peer whether it is there and knows this node (C-ECHO; of a url, a search by QIDO-RS)."""
    settings, _ = load(config)
    if bool(name) == everybody:
        fail("ask whom? Give one of PEER and --all", UNUSABLE)
    peers = settings.peer if everybody else [known(settings, name)]
    mute = [p for p in peers if not can_be_asked(p)]
    if mute and not everybody:
        fail(f"{name}: {MUTE}", UNUSABLE)
    heard = [p for p in peers if p not in mute]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda p: ask(p, settings, now=time.time()), heard))
    for peer, echo in zip(heard, answers, strict=True):
        _say(peer, echo, named=everybody, as_json=as_json)
    for peer in mute:
        if as_json:
            print_json({"peer": peer.name, "answered": None, "error": MUTE})
        else:
            out.print(f"{peer.name}: {MUTE}", markup=False)
    _remember(settings, answers)
    raise typer.Exit(0 if all(e.answered for e in answers) else FAILED)


def _say(peer: Peer, echo: Echo, *, named: bool, as_json: bool) -> None:
    if as_json:
        at = {"url": peer.url} if peer.url else {"ae_title": peer.ae_title, "host": peer.host, "port": peer.port}
        said = {"seconds": round(echo.seconds or 0, 4)} if echo.answered else {"error": echo.error}
        print_json({"peer": peer.name} | at | {"answered": echo.answered} | said)
    elif echo.answered:
        out.print(f"{peer.name} ({place(peer)}) answered in {1000 * (echo.seconds or 0):.0f} ms", markup=False)
    else:
        err.print(f"{peer.name}: {echo.error}" if named else echo.error, style="red", markup=False)


def _remember(settings: Settings, answers: Sequence[Echo]) -> None:
    """For `peer list`. Who asks may not be who runs the node: an answer counts without it."""
    from node.service import open_parts

    try:
        with open_parts(settings) as parts:
            for echo in answers:
                echoes.remember(parts.store, echo)
    except (StoreError, SpoolError) as error:
        err.print(f"what was answered is not remembered: {error}", style="yellow", markup=False)
